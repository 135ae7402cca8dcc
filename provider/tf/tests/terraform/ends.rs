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

#[test]
fn a_provider_can_be_debugged() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    #[expect(clippy::disallowed_methods, reason = "a test starts what it tests")]
    let mut provider = Command::new(env!("CARGO_BIN_EXE_terraform-provider-memory"))
        .arg("-debug")
        .env("MEMORY_DIR", folder.path("objects"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(provider.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let value = line.trim().strip_prefix("TF_REATTACH_PROVIDERS='").unwrap().strip_suffix('\'').unwrap();
    for _ in 0..2 {
        folder.write("resource \"memory_thing\" \"t\" {\n  name = \"t\"\n}\n");
        let mut apply = folder.command(&["apply", "-auto-approve", "-input=false"]);
        let said = Said::from(apply.env("TF_REATTACH_PROVIDERS", value).output().unwrap());
        assert_eq!(said.code, Some(0), "{}", said.text);
    }
    assert!(folder.object("id-t").is_some());
    kill(Pid::from_raw(provider.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(provider.wait().unwrap().success());
}
