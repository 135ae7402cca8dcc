//! How each verb is carried out. No decisions: what is to be done was decided in `missing`.

use super::{Act, Change, File, StepError, Verb, apt, key, original, waiting};
use crate::host::units::SYSTEMCTL;
use crate::host::{Access, Command, Host, Lines};
use std::time::Duration;

/// Makes one change.
///
/// # Errors
/// What the machine said. Nothing needs to be undone: the next run looks again.
pub async fn make(host: &dyn Host, change: &Change, lines: Lines<'_>) -> Result<(), StepError> {
    match &change.verb {
        Verb::Write(file) => write(host, file),
        Verb::Remove(path) => Ok(host.remove(path)?),
        Verb::Restore { step, path } => original::restore(host, step, path),
        Verb::Fetch { url, path } => fetch(host, url, path, lines).await,
        Verb::Set { path, value } => Ok(host.poke(path, value)?),
        Verb::Load(module) => program(host, Command::new(MODPROBE, ["--", module]), lines).await,
        Verb::SwapOff(device) => {
            let swapoff = Command::new(SWAPOFF, [device]).timeout(Duration::from_secs(600));
            program(host, swapoff, lines).await
        }
        Verb::Packages(transaction) => apt::run(host, transaction, lines).await,
        Verb::Hold { package, held } => apt::hold(host, package, *held, lines).await,
        Verb::Unit { unit, act } => program(host, systemctl(*act, unit), lines).await,
        Verb::Reload => program(host, Command::new(SYSTEMCTL, ["daemon-reload"]), lines).await,
        Verb::Format { device, kind, uuid, label } => {
            program(host, mkfs(kind, device, uuid, label.as_deref()), lines).await?;
            // The links by UUID are udev's work; the next look goes by them.
            program(host, Command::new(UDEVADM, ["trigger", "--action=change", device]), lines).await?;
            program(host, Command::new(UDEVADM, ["settle", "--timeout=30"]), lines).await
        }
        Verb::Grow { kind, device, mounted } => {
            let grow = match kind.as_str() {
                "xfs" => Command::new("/usr/sbin/xfs_growfs", [mounted]),
                _ => Command::new("/usr/sbin/resize2fs", [device]),
            };
            program(host, grow.timeout(Duration::from_secs(600)), lines).await
        }
        Verb::Wait(what) => waiting::wait(host, what, lines).await,
        Verb::Run { argv, timeout_s, name } => {
            let (program_path, args) = argv.split_first().map_or(("", &argv[..]), |(first, rest)| (first, rest));
            let life = Duration::from_secs(u64::from(*timeout_s));
            let run = Command::new(program_path, args).timeout(life).unit(&format!("command-{name}"));
            program(host, run, lines).await
        }
    }
}

async fn program(host: &dyn Host, command: Command, lines: Lines<'_>) -> Result<(), StepError> {
    host.run_ok(&command, lines).await?;
    Ok(())
}

fn write(host: &dyn Host, file: &File) -> Result<(), StepError> {
    if let Some(step) = file.over_original {
        original::keep(host, step, &file.path)?;
    }
    Ok(host.write(&file.path, &file.content, file.access)?)
}

/// apt's own downloader: it knows the machine's proxies and certificates, and the agent need not resolve names.
async fn fetch(host: &dyn Host, url: &str, path: &str, lines: Lines<'_>) -> Result<(), StepError> {
    host.remove(DOWNLOAD)?;
    let download = Command::new("/usr/lib/apt/apt-helper", ["download-file", url, DOWNLOAD]);
    host.run_ok(&download.timeout(Duration::from_secs(120)), lines).await?;
    let content = host.read(DOWNLOAD)?.unwrap_or_default();
    host.remove(DOWNLOAD)?;
    let Some(key) = key::armoured(&content) else {
        let why = "what was fetched is no OpenPGP key, perhaps the page of a proxy or of a login; nothing was written. \
                   Correct `key_url`, or give the key as `key_pem`";
        return Err(StepError::refused(format!("the key from {url}"), why));
    };
    Ok(host.write(path, &key, Access::OPEN)?)
}

fn systemctl(act: Act, unit: &str) -> Command {
    Command::new(SYSTEMCTL, [act.word(), "--", unit]).timeout(Duration::from_secs(180))
}

fn mkfs(kind: &str, device: &str, uuid: &str, label: Option<&str>) -> Command {
    let mut args: Vec<String> = label.map(|label| ["-L".to_owned(), label.to_owned()]).into_iter().flatten().collect();
    let program = match kind {
        "xfs" => {
            args.extend(["-q".into(), "-m".into(), format!("uuid={uuid}")]);
            "/usr/sbin/mkfs.xfs"
        }
        _ => {
            args.extend(["-q", "-U", uuid, "-m", "0"].map(str::to_owned));
            "/usr/sbin/mkfs.ext4"
        }
    };
    args.push(device.to_owned());
    // Never with a force flag: what looks used stays as it is.
    Command::new(program, args).timeout(Duration::from_secs(900)).unit("mkfs")
}

const MODPROBE: &str = "/usr/sbin/modprobe";
const UDEVADM: &str = "/usr/bin/udevadm";
const SWAPOFF: &str = "/usr/sbin/swapoff";
/// Not kept over a restart of the machine.
const DOWNLOAD: &str = "/run/groundwork-download";
