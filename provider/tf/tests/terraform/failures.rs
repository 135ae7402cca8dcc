//! What remains after a failure, and that Terraform knows it.

use serde_json::json;

use crate::folder::{Folder, ready};

fn thing(rest: &str) -> String {
    format!("resource \"memory_thing\" \"t\" {{\n  name = \"t\"\n  {rest}\n}}\n")
}

#[test]
fn a_creation_that_fails_before_the_id_leaves_nothing() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(&thing("behave = \"fail before the id\"")).apply_fails().says("Nothing was created.");
    assert!(folder.instance("t").is_none());
}

#[test]
fn a_creation_that_fails_after_the_id_is_recorded_and_made_anew() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(&thing("behave = \"fail\"")).apply_fails().says("Cannot create thing t");
    let instance = folder.instance("t").unwrap();
    assert_eq!((&instance["status"], &instance["attributes"]["id"]), (&json!("tainted"), &json!("id-t")));
    folder.write(&thing("")).plan(2).says("is tainted, so must be replaced");
    folder.apply();
    folder.plan(0);
}

#[test]
fn a_panic_is_told_and_loses_nothing() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let said = folder.write(&thing("behave = \"panic\"")).apply_fails();
    said.says("This is a bug in the provider").says("An operation panicked: as asked for");
    assert_eq!(folder.instance("t").unwrap()["attributes"]["id"], "id-t");
    folder.write(&thing("")).apply();
    folder.plan(0);
}

#[test]
fn a_failed_update_records_what_is_really_there() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(&thing("")).apply();
    folder.write(&thing("size = 7\n  behave = \"fail\"")).apply_fails().says("Cannot update thing t");
    let instance = folder.instance("t").unwrap();
    assert!(instance["status"].is_null());
    assert_eq!(instance["attributes"]["size"], 1);
    folder.write(&thing("size = 7")).plan(2).says("size = 1 -> 7");
    folder.apply();
    folder.plan(0);
}

#[test]
fn a_deletion_that_fails_or_is_refused_keeps_the_object() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    for (behave, words) in [("fail to delete", "It is still there."), ("refuse to be destroyed", "It refuses.")] {
        folder.write(&thing(&format!("behave = \"{behave}\""))).apply();
        let said = folder.run(&["destroy", "-auto-approve", "-input=false"]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        said.says(words);
        assert_eq!(folder.attributes("t")["id"], "id-t");
    }
}

#[test]
fn warnings_are_shown_with_a_failure() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(&thing(""));
    let import = folder.run(&["import", "-input=false", "memory_thing.t", "nonsense"]);
    import.says("Ids begin with `id-`").says("Warning: Cannot guess ids");
    folder.write("data \"memory_name\" \"t\" {\n  id = \"nonsense\"\n}\n");
    folder.apply_fails().says("Cannot find thing nonsense").says("Warning: Cannot be an id: nonsense");
}

#[test]
fn warnings_are_shown_with_a_success() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(&thing("behave = \"warn\"")).apply().says("Warning: Cannot be silent").says("1 added");
}
