//! Values of one run: opened when they can be, handed on, closed, and stored nowhere.

use crate::folder::{Folder, Said, ready};

/// A write-only attribute takes the code of a lease.
fn body(lease: &str) -> String {
    format!(
        "ephemeral \"memory_lease\" \"l\" {{\n  {lease}\n}}\n\
         resource \"memory_thing\" \"t\" {{\n  name = \"t\"\n  password_wo = ephemeral.memory_lease.l.code\n  \
         password_wo_version = 1\n}}\n"
    )
}

#[test]
fn a_code_arrives_and_stands_in_no_plan_state_or_log() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(&body("name = \"mine\"\n  length = 20"));
    let log = folder.path("trace.log");
    let traced = |arguments: &[&str]| {
        let mut command = folder.command(arguments);
        let said = Said::of(command.env("TF_LOG", "TRACE").env("TF_LOG_PATH", &log));
        assert_eq!(said.code, Some(0), "{}", said.text);
        said.text
    };
    let planned = traced(&["plan", "-input=false", "-out", "saved.plan"]);
    assert_eq!(folder.leases(), ["open mine", "close mine"]);
    let applied = traced(&["apply", "-input=false", "saved.plan"]);
    assert_eq!(folder.leases(), ["open mine", "close mine"], "an apply has its own");
    assert_eq!(folder.object("id-t").unwrap()["password_length"], 20);
    let shown = traced(&["show", "-json", "saved.plan"]);
    let read = |name: &str| String::from_utf8_lossy(&std::fs::read(folder.path(name)).unwrap()).into_owned();
    let log = read("trace.log");
    assert!(log.contains("tf_ephemeral_resource_type=memory_lease"), "the log is the provider's too");
    for (place, text) in
        [("plan", shown), ("state", read("terraform.tfstate")), ("log", log), ("output", planned + &applied)]
    {
        assert!(!text.contains("code-mine-"), "the code stands in the {place}");
    }
    folder.plan(0);
}

#[test]
fn nothing_is_opened_before_its_configuration_is_known() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let first = "resource \"memory_thing\" \"first\" {\n  name = \"first\"\n}\n";
    folder.write(&(first.to_owned() + &body("name = memory_thing.first.id"))).plan(2);
    assert_eq!(folder.leases(), Vec::<String>::new(), "the plan waits for it");
    folder.apply();
    assert_eq!(folder.leases(), ["open id-first", "close id-first"]);
    assert_eq!(folder.object("id-t").unwrap()["password_length"], 16);
    folder.plan(0);
    assert_eq!(folder.leases(), ["open id-first", "close id-first"]);
}

#[test]
fn it_fails_as_anything_else_does() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let fails = |lease: &str| {
        let said = folder.write(&body(lease)).run(&["plan", "-input=false"]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        said
    };
    fails("name = \"x\"\n  behave = \"fail\"").says("Cannot open lease x").says("As asked for.");
    fails("name = \"x\"\n  behave = \"panic\"").says("This is a bug in the provider").says("as asked for");
    fails("name = \"x\"\n  length = 1").says("`length` must be from 8 to 64; it is 1.").says(": length = 1");
    fails("name = \"x\"\n  code = \"y\"").says("Cannot set code");
    fails("name = \"long\"\n  length = 20").says("Its code is long.").says(": length = 20");
    assert_eq!(folder.leases(), Vec::<String>::new());
    folder.write(&body("name = \"x\"\n  behave = \"warn\"")).plan(2).says("Warning: Cannot be silent");
}
