//! Imitations of the programs that steps run: what they change, and how they fail when something is out of order.

use super::{Node, State};
use crate::host::dpkg::version_matches;
use crate::host::fstab;
use crate::host::{Command, Output};
use std::time::UNIX_EPOCH;

/// Whether a program only looks: it is not counted as a change.
pub(super) fn only_looks(command: &Command) -> bool {
    let first = command.args.first().map_or("", String::as_str);
    matches!(
        (command.program.as_str(), first),
        ("/usr/bin/systemctl", "show")
            | (
                "/usr/bin/timedatectl"
                    | "/usr/sbin/dumpe2fs"
                    | "/usr/bin/test"
                    | "/usr/sbin/ip"
                    | "/usr/bin/udevadm"
                    | "/usr/bin/apt-cache",
                _
            )
            | (_, "version")
    )
}

pub(super) fn run(state: &mut State, command: &Command) -> Output {
    let args: Vec<_> = command.args.iter().map(String::as_str).collect();
    let stdin = String::from_utf8_lossy(command.stdin.as_deref().unwrap_or_default()).into_owned();
    let done = match command.program.as_str() {
        "/usr/bin/systemctl" => systemctl(state, &args),
        "/usr/bin/apt-get" => apt(state, &args),
        "/usr/bin/apt-cache" => {
            let versions = AVAILABLE.iter().find(|(name, _, _)| *name == args[1]).map(|(_, versions, _)| versions);
            Ok(versions.map_or_else(String::new, |versions| format!("{}:\n  Candidate: {}\n", args[1], versions[0])))
        }
        "/usr/bin/dpkg" => dpkg(state, &args, &stdin),
        "/usr/sbin/modprobe" => modprobe(state, &args),
        "/usr/sbin/swapoff" => swapoff(state, args[0]),
        "/usr/sbin/mkfs.ext4" => mkfs(state, &args),
        "/usr/sbin/dumpe2fs" => Ok("Block count: 2621440\nBlock size: 4096\n".to_owned()),
        "/usr/lib/apt/apt-helper" => {
            let page = args[1].ends_with(".html");
            let head = if page { "<html>" } else { "-----BEGIN PGP PUBLIC KEY BLOCK-----" };
            state.set(args[2], &format!("{head}\nfetched from {}\n", args[1]));
            Ok(String::new())
        }
        "/usr/bin/timedatectl" => Ok("no\n".to_owned()),
        "/usr/sbin/ip" => Ok("2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0\n".to_owned()),
        "/usr/bin/udevadm" => Ok(String::new()),
        "/usr/bin/test" => Err(1.into()),
        "/usr/bin/touch" => {
            state.set(args[0], "");
            Ok(String::new())
        }
        // systemd takes it and does it later.
        "/usr/bin/systemd-run" => Ok(String::new()),
        program if program.starts_with("/usr/local/libexec/groundwork/") => agent(state, program, &args),
        _ => Err(127.into()),
    };
    match done {
        Ok(stdout) => Output { code: Some(0), stdout, stderr: String::new() },
        Err(No { code, stdout }) => Output { code: Some(code), stdout, stderr: format!("{command}: no") },
    }
}

type Done = Result<String, No>;

/// A program that ended badly: its exit code, and what it printed.
struct No {
    code: i32,
    stdout: String,
}

impl From<i32> for No {
    fn from(code: i32) -> Self {
        Self { code, stdout: String::new() }
    }
}

/// An agent whose file holds `agent VERSION`; anything else does not run.
fn agent(state: &State, program: &str, args: &[&str]) -> Done {
    let text = state.text(program).ok_or(127)?;
    let version = text.strip_prefix("agent ").ok_or(126)?;
    if args == ["version"] { Ok(format!("{version}\n")) } else { Err(2.into()) }
}

fn systemctl(state: &mut State, args: &[&str]) -> Done {
    let mut units = args.iter().filter(|arg| !arg.starts_with("--")).skip(1).copied();
    match args[0] {
        "show" => return Ok(units.map(|unit| show(state, unit)).collect::<Vec<_>>().join("\n\n")),
        "daemon-reload" => reload(state),
        "mask" | "unmask" if args.contains(&"--runtime") => {
            units.for_each(|unit| mask_until_boot(state, args[0], unit))
        }
        verb => units.try_for_each(|unit| act(state, verb, unit))?,
    }
    Ok(String::new())
}

fn mask_until_boot(state: &mut State, verb: &str, unit: &str) {
    let place = format!("/run/systemd/system/{unit}");
    match verb {
        "mask" => drop(state.nodes.insert(place, Node::Link("/dev/null".to_owned()))),
        _ => drop(state.nodes.remove(&place)),
    }
}

fn act(state: &mut State, verb: &str, unit: &str) -> Result<(), i32> {
    let place = format!("/etc/systemd/system/{unit}");
    let wants = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
    let masked = state.nodes.get(&place) == Some(&Node::Link("/dev/null".to_owned()));
    let known = fragment(state, unit).is_some();
    match verb {
        "mask" if state.text(&place).is_some() => return Err(1),
        "mask" => drop(state.nodes.insert(place, Node::Link("/dev/null".to_owned()))),
        "unmask" if masked => drop(state.nodes.remove(&place)),
        "unmask" => (),
        "enable" if known && !masked => drop(state.nodes.insert(wants, Node::Link(place))),
        "disable" => drop(state.nodes.remove(&wants)),
        "start" if unit.ends_with(".target") => (),
        "start" if unit.ends_with(".mount") => mount(state, unit)?,
        "start" | "restart" if known && !masked => {
            let now = state.now;
            // A restart alone reads nothing.
            if state.running.insert(unit.to_owned(), now).is_none() {
                state.read.insert(unit.to_owned(), now);
            }
        }
        "stop" => drop(state.running.remove(unit)),
        _ => return Err(5),
    }
    Ok(())
}

fn fragment(state: &State, unit: &str) -> Option<String> {
    ["/etc/systemd/system", "/usr/lib/systemd/system", "/run/systemd/generator"]
        .map(|folder| format!("{folder}/{unit}"))
        .into_iter()
        .find(|path| state.text(path).is_some())
}

fn show(state: &State, unit: &str) -> String {
    let masked = state.nodes.get(&format!("/etc/systemd/system/{unit}")) == Some(&Node::Link("/dev/null".to_owned()));
    let load = match (masked, fragment(state, unit)) {
        (true, _) => "masked",
        (false, Some(_)) => "loaded",
        (false, None) => "not-found",
    };
    let enabled = state.nodes.contains_key(&format!("/etc/systemd/system/multi-user.target.wants/{unit}"));
    let file = if masked {
        "masked"
    } else if enabled {
        "enabled"
    } else {
        "disabled"
    };
    let since = state.running.get(unit);
    let active = if since.is_some() { "active" } else { "inactive" };
    let since = since.map_or(0, |since| since.duration_since(UNIX_EPOCH).unwrap().as_micros());
    let (fragment, pid) = (fragment(state, unit).unwrap_or_default(), u8::from(since > 0));
    let place = format!("/etc/systemd/system/{unit}.d");
    let all = state.names(&place).into_iter().map(|name| format!("{place}/{name}"));
    let is_read = |path: &String| active == "inactive" || has_read(state, unit, path);
    let (drop_ins, unread): (Vec<_>, Vec<_>) = all.partition(&is_read);
    let stale = if unread.is_empty() && is_read(&fragment) { "no" } else { "yes" };
    format!(
        "LoadState={load}\nActiveState={active}\nUnitFileState={file}\nActiveEnterTimestampMonotonic={since}\n\
         NeedDaemonReload={stale}\nFragmentPath={fragment}\nDropInPaths={}\nEnvironment=\nMainPID={pid}",
        drop_ins.join(" ")
    )
}

/// Whether systemd knows a file as it is.
fn has_read(state: &State, unit: &str, path: &str) -> bool {
    match state.nodes.get(path) {
        Some(Node::File { modified, .. }) => state.read.get(unit).is_none_or(|read| modified <= read),
        _ => true,
    }
}

/// The generators run: units of swap and mounts are made from fstab.
fn reload(state: &mut State) {
    let now = state.now;
    state.read.values_mut().for_each(|read| *read = now);
    state.nodes.retain(|path, _| !path.starts_with("/run/systemd/generator/"));
    let text = state.text("/etc/fstab").unwrap_or_default();
    for entry in text.lines().filter_map(fstab::entry) {
        let (of, suffix) = if entry.kind == "swap" { (&entry.source, "swap") } else { (&entry.target, "mount") };
        let name = of.trim_matches('/').replace('/', "-");
        state.set(&format!("/run/systemd/generator/{name}.{suffix}"), &entry.target);
    }
}

fn mount(state: &mut State, unit: &str) -> Result<(), i32> {
    let target = state.text(&format!("/run/systemd/generator/{unit}")).ok_or(5)?;
    let text = state.text("/etc/fstab").unwrap_or_default();
    let entry = text.lines().filter_map(fstab::entry).find(|entry| entry.target == target).ok_or(5)?;
    let link = format!("/dev/disk/by-uuid/{}", entry.source.strip_prefix("UUID=").ok_or(32)?);
    let Some(Node::Link(device)) = state.nodes.get(&link) else { return Err(32) };
    let device = format!("/dev/{}", device.rsplit('/').next().unwrap());
    let mounts = state.text("/proc/self/mountinfo").unwrap_or_default();
    state.set("/proc/self/mountinfo", &format!("{mounts}30 22 8:16 / {target} rw - {} {device} rw\n", entry.kind));
    Ok(())
}

fn apt(state: &mut State, args: &[&str]) -> Done {
    let lock = if args.contains(&"update") { "/var/lib/apt/lists/lock" } else { "/var/cache/apt/archives/lock" };
    if is_held(state, lock) {
        return Err(No {
            code: 100,
            stdout: format!("E: Could not get lock {lock}. It is held by process 7 (apt-get)\n"),
        });
    }
    if args.contains(&"update") {
        return Ok("Reading package lists...\n".to_owned());
    }
    if args.contains(&"--fix-broken") {
        let status = state.text(STATUS).unwrap_or_default();
        state.set(STATUS, &status.replace("ok unpacked", "ok installed"));
    }
    let words = args.iter().skip_while(|arg| **arg != "DPkg::Lock::Timeout=600").skip(1);
    for word in words.filter(|word| !word.starts_with('-')) {
        if let Some(name) = word.strip_suffix('-') {
            write_package(state, name, None);
            continue;
        }
        let (name, wanted) = word.split_once('=').unwrap_or((word, "*"));
        let (_, versions, unit) = AVAILABLE.iter().find(|(known, _, _)| *known == name).ok_or(100)?;
        let version = versions.iter().find(|version| version_matches(version, wanted)).ok_or(100)?;
        let rival = CONFLICTS.iter().find(|(one, other)| *one == name && has_package(state, other));
        if let Some((_, rival)) = rival.filter(|_| args.contains(&"--no-remove")) {
            return Err(No { code: 100, stdout: format!("{REMOVED}:\n  {rival}\n{DISABLED}\n") });
        }
        write_package(state, name, Some(("install", version)));
        state.set(&format!("/var/lib/dpkg/info/{name}.list"), "/.\n");
        if let Some(unit) = unit {
            state.set(&format!("/usr/lib/systemd/system/{unit}"), "[Service]\n");
            if state.text("/usr/sbin/policy-rc.d").is_none() {
                let now = state.now;
                state.running.insert((*unit).to_owned(), now);
            }
        }
    }
    Ok("Setting up ...\n".to_owned())
}

/// Whether somebody else holds a lock. Its file says for how many calls.
fn is_held(state: &mut State, lock: &str) -> bool {
    let left = state.text(lock).and_then(|left| left.parse::<u32>().ok()).unwrap_or_default();
    if left > 0 {
        state.set(lock, &(left - 1).to_string());
    }
    left > 0
}

fn dpkg(state: &mut State, args: &[&str], stdin: &str) -> Done {
    if is_held(state, "/var/lib/dpkg/lock-frontend") {
        let stdout = "dpkg: error: dpkg frontend lock was locked by another process with pid 7\n".to_owned();
        return Err(No { code: 2, stdout });
    }
    let status = state.text(STATUS).unwrap_or_default();
    if args[0] == "--configure" {
        state.set(STATUS, &status.replace("ok half-configured", "ok installed"));
        // Unpacked: it waits for a package that is not there yet.
        return match status.contains("ok unpacked") {
            true => Err(No { code: 1, stdout: "dpkg: dependency problems prevent configuration of x:\n".to_owned() }),
            false => Ok(String::new()),
        };
    }
    let (name, want) = stdin.trim().split_once(' ').ok_or(2)?;
    let version = status.split("\n\n").find_map(|paragraph| {
        let rest = paragraph.strip_prefix(&format!("Package: {name}\n"))?;
        rest.rsplit_once("Version: ").map(|(_, version)| version.trim().to_owned())
    });
    write_package(state, name, Some((want, &version.ok_or(2)?)));
    Ok(String::new())
}

fn write_package(state: &mut State, name: &str, to: Option<(&str, &str)>) {
    let status = state.text(STATUS).unwrap_or_default();
    let head = format!("Package: {name}\n");
    let mut paragraphs: Vec<_> = status
        .split("\n\n")
        .map(|paragraph| paragraph.trim().to_owned())
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with(&head))
        .collect();
    if let Some((want, version)) = to {
        paragraphs.push(format!("{head}Status: {want} ok installed\nVersion: {version}"));
    }
    paragraphs.sort();
    state.set(STATUS, &format!("{}\n", paragraphs.join("\n\n")));
}

fn has_package(state: &State, name: &str) -> bool {
    state.text(STATUS).unwrap_or_default().contains(&format!("Package: {name}\n"))
}

fn modprobe(state: &mut State, args: &[&str]) -> Done {
    let name = *args.last().ok_or(1)?;
    state.set(&format!("/sys/module/{name}/refcnt"), "0\n");
    if name == "br_netfilter" {
        for key in ["iptables", "ip6tables"] {
            state.set(&format!("/proc/sys/net/bridge/bridge-nf-call-{key}"), "0\n");
        }
    }
    Ok(String::new())
}

fn swapoff(state: &mut State, device: &str) -> Done {
    let swaps = state.text("/proc/swaps").unwrap_or_default();
    let is_it = |line: &&str| line.split(' ').next() == Some(device);
    swaps.lines().find(is_it).ok_or(255)?;
    let rest: String = swaps.lines().filter(|line| !is_it(line)).map(|line| format!("{line}\n")).collect();
    state.set("/proc/swaps", &rest);
    Ok(String::new())
}

fn mkfs(state: &mut State, args: &[&str]) -> Done {
    let uuid = args.iter().skip_while(|arg| **arg != "-U").nth(1).ok_or(1)?;
    let Some(Node::Link(to)) = state.nodes.get(*args.last().ok_or(1)?).cloned() else { return Err(1.into()) };
    state.nodes.insert(format!("/dev/disk/by-uuid/{uuid}"), Node::Link(to.clone()));
    if let Some(Node::Device(probe)) = state.nodes.get_mut(&format!("/dev/{}", to.rsplit('/').next().unwrap())) {
        probe.zeros = false;
    }
    Ok(String::new())
}

const STATUS: &str = "/var/lib/dpkg/status";
const REMOVED: &str = "The following packages will be REMOVED";
const DISABLED: &str = "E: Packages need to be removed but remove is disabled.";
const CONFLICTS: &[(&str, &str)] = &[("containerd", "containerd.io"), ("containerd.io", "containerd")];
const AVAILABLE: &[(&str, &[&str], Option<&str>)] = &[
    ("containerd", &["1.6.20~ds1-1+deb12u1"], Some("containerd.service")),
    ("containerd.io", &["1.7.24-1"], Some("containerd.service")),
    ("kubeadm", &["1.28.7-1.1", "1.28.4-1.1"], None),
    ("kubectl", &["1.28.7-1.1", "1.28.4-1.1"], None),
    ("kubelet", &["1.28.7-1.1", "1.28.4-1.1"], Some("kubelet.service")),
    ("nginx", &["1.22.1-9"], Some("nginx.service")),
];
