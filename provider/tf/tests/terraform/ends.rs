//! Ends of a run that nobody wishes: Ctrl-C, a killed Terraform; and a provider that is debugged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and says so when it is skipped")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::folder::{Folder, Said, ready};

const WAITS: &str = "wait for the stop";

/// An apply in a process group of its own that has begun to create its thing, which waits to be stopped.
fn waiting_apply(folder: &Folder, behave: &str) -> Child {
    let body = format!("resource \"memory_thing\" \"t\" {{\n  name = \"t\"\n  behave = \"{behave}\"\n}}\n");
    let mut command = folder.write(&body).command(&["apply", "-auto-approve", "-input=false"]);
    let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the thing exists", || folder.object("id-t").is_some());
    child
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Providers that work for this folder: they have its name in their environment.
fn providers(folder: &Folder) -> Vec<i32> {
    let wanted = format!("MEMORY_DIR={}", folder.path("objects").display());
    let pid = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<i32>().ok();
    let ours = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("terraform-provider-memory")
            && String::from_utf8_lossy(&environment).contains(&wanted)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(pid).filter(ours).collect()
}

#[test]
fn ctrl_c_ends_an_operation_in_order() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let child = waiting_apply(&folder, WAITS);
    // As a terminal does it: to Terraform and the provider alike.
    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{}", said.text);
    said.says("Stopped on request.");
    assert_eq!(folder.attributes("t")["id"], "id-t");
    until("the provider is gone", || providers(&folder).is_empty());
}

#[test]
fn a_killed_terraform_leaves_no_provider() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let mut child = waiting_apply(&folder, WAITS);
    assert_eq!(providers(&folder).len(), 1);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    until("the provider is gone", || providers(&folder).is_empty());
    leaves_no_socket(&folder);
}

/// A service manager or `kill -- -PGID`: Terraform stops in order, and waits for as long as that takes.
#[test]
fn a_terminated_process_group_loses_no_object() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let child = waiting_apply(&folder, "stop slowly");
    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{}", said.text);
    said.says("Stopped slowly.");
    assert_eq!(folder.attributes("t")["id"], "id-t");
    until("the provider is gone", || providers(&folder).is_empty());
    leaves_no_socket(&folder);
}

/// A closed terminal: Terraform dies of it, and what the provider is doing still ends in order.
#[test]
fn a_hangup_interrupts_no_change() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let mut child = waiting_apply(&folder, "stop slowly");
    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).unwrap();
    child.wait().unwrap();
    let faults = || folder.object("id-t").map(|object| object["faults"].clone());
    until("the operation has ended", || faults() == Some(serde_json::json!(["stopped half-way"])));
    until("the provider is gone", || providers(&folder).is_empty());
    leaves_no_socket(&folder);
}

#[track_caller]
fn leaves_no_socket(folder: &Folder) {
    let left = std::fs::read_dir(folder.path("tmp")).unwrap().filter_map(Result::ok);
    let left: Vec<_> =
        left.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().starts_with("tf-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A provider that a developer has started, and what Terraform is given to find it.
struct Debugged {
    process: Child,
    reattach: String,
}

impl Debugged {
    fn start(folder: &Folder) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test starts what it tests")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_terraform-provider-memory"));
        let command = command.arg("-debug").env("MEMORY_DIR", folder.path("objects")).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let value = line.trim().strip_prefix("TF_REATTACH_PROVIDERS='").unwrap().strip_suffix('\'').unwrap();
        Self { process, reattach: value.to_owned() }
    }

    #[track_caller]
    fn apply(&self, folder: &Folder) {
        let mut apply = folder.command(&["apply", "-auto-approve", "-input=false"]);
        let said = Said::of(apply.env("TF_REATTACH_PROVIDERS", &self.reattach));
        assert_eq!(said.code, Some(0), "{}", said.text);
    }

    #[track_caller]
    fn ends(mut self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGINT).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_provider_can_be_debugged() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let provider = Debugged::start(&folder);
    for _ in 0..2 {
        folder.write("resource \"memory_thing\" \"t\" {\n  name = \"t\"\n}\n");
        provider.apply(&folder);
    }
    assert!(folder.object("id-t").is_some());
    provider.ends();
}

/// One process serves all provider blocks then, and each has its own settings.
#[test]
fn aliases_of_a_debugged_provider_are_kept_apart() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let other = folder.path("other");
    std::fs::create_dir(&other).unwrap();
    let provider = Debugged::start(&folder);
    // By the time of the third thing both blocks are configured, in whatever order.
    let body = format!(
        "provider \"memory\" {{}}\nprovider \"memory\" {{\n  alias = \"other\"\n  dir = {other:?}\n}}\n\
         resource \"memory_thing\" \"a\" {{\n  name = \"a\"\n}}\n\
         resource \"memory_thing\" \"b\" {{\n  name = \"b\"\n  provider = memory.other\n  depends_on = [memory_thing.a]\n}}\n\
         resource \"memory_thing\" \"c\" {{\n  name = \"c\"\n  depends_on = [memory_thing.b]\n}}\n\
         resource \"memory_thing\" \"d\" {{\n  name = \"d\"\n  provider = memory.other\n  depends_on = [memory_thing.c]\n}}\n"
    );
    folder.write(&body);
    provider.apply(&folder);
    let made = |id: &str| [folder.object(id).is_some(), other.join(format!("{id}.json")).exists()];
    assert_eq!([made("id-a"), made("id-c")], [[true, false]; 2]);
    assert_eq!([made("id-b"), made("id-d")], [[false, true]; 2]);
    provider.ends();
}
