//! Values of every kind on their way: unknown ones, secrets, wrong ones.

use crate::folder::{Folder, ready};

#[test]
fn values_known_only_after_the_apply_go_anywhere() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(
        r#"
resource "memory_thing" "first" {
  name = "first"
}
resource "memory_thing" "second" {
  name     = "second"
  labels   = { peer = memory_thing.first.id }
  tags     = ["fixed", memory_thing.first.id]
  notes    = ["one", memory_thing.first.id]
  anything = { peer = memory_thing.first.id }
  size     = memory_thing.first.revision + 1
  parts    = { a = { size = memory_thing.first.revision } }
  links    = [{ to = memory_thing.first.id }]
  zone     = memory_thing.first.id
}
resource "memory_thing" "third" {
  name     = "third"
  anything = memory_thing.second.revision
  parts    = memory_thing.second.revision > 0 ? { x = { size = 1 } } : {}
  settings = memory_thing.second.settings
  labels   = memory_thing.second.labels
}
"#,
    );
    folder.apply();
    folder.plan(0);
    let second = folder.attributes("second");
    assert_eq!(second["notes"], serde_json::json!(["one", "id-first"]));
    assert_eq!(second["settings"]["level"], 7);
    assert_eq!(folder.attributes("third")["parts"]["x"]["serial"], "serial-x");
}

#[test]
fn numbers_of_any_size_and_typed_nulls_are_kept() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    for line in
        ["ratio = 1 / 3", "ratio = 1e400", "ratio = 0.1", "anything = tostring(null)", "anything = [tostring(null)]"]
    {
        folder.write(&format!("resource \"memory_thing\" \"t\" {{\n  name = \"t\"\n  {line}\n}}\n")).apply();
        folder.plan(0);
    }
}

#[test]
fn a_replaced_object_makes_unknown_what_depends_on_it() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let body = |zone: &str| {
        format!(
            "resource \"memory_thing\" \"a\" {{\n  name = \"a\"\n  zone = \"{zone}\"\n}}\n\
             resource \"memory_thing\" \"b\" {{\n  name = \"b\"\n  notes = [memory_thing.a.id]\n}}\n"
        )
    };
    folder.write(&body("x")).apply();
    folder.write(&body("y")).plan(2).says("1 to add, 1 to change, 1 to destroy");
    folder.apply();
    folder.plan(0);
}

#[test]
fn a_write_only_value_arrives_and_is_stored_nowhere() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let body = |password: &str, version: u8| {
        format!(
            "resource \"memory_thing\" \"t\" {{\n  name = \"w\"\n  password_wo = \"{password}\"\n  \
             password_wo_version = {version}\n  token = \"stored secret\"\n}}\n"
        )
    };
    folder.write(&body("hunter2", 1)).plan(2).says("token = (sensitive value)").never_says("stored secret");
    folder.apply();
    folder.plan(0);
    assert_eq!(folder.object("id-w").unwrap()["password_length"], 7);
    folder.write(&body("longer than before", 1)).plan(0);
    folder.write(&body("longer than before", 2)).apply();
    folder.plan(0);
    assert_eq!(folder.object("id-w").unwrap()["password_length"], 18);
    let state = std::fs::read_to_string(folder.path("terraform.tfstate")).unwrap();
    assert!(!state.contains("longer than before") && !state.contains("hunter2"), "{state}");
}

#[test]
fn a_bad_value_is_refused_with_its_attribute() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let check = |line: &str, words: &[&str]| {
        folder.write(&format!("resource \"memory_thing\" \"t\" {{\n  name = \"x\"\n  {line}\n}}\n"));
        let said = folder.run(&["validate"]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        for words in words {
            said.says(words);
        }
        said.says(&format!(": {}", line.lines().next().unwrap()));
    };
    check("size = 0", &["Cannot use this value of size", "`size` must be from 1 to 100; it is 0."]);
    check("size = 1.5", &["must be a whole number"]);
    check("labels = { env = \"a\", colour = \"b\" }", &[r#"`labels["colour"]` must be one of `env`, `owner`, `peer`"#]);
    check("parts = { a = { size = -1 } }", &[r#"`parts["a"].size` must be at least 1; it is -1."#]);
    check(
        "parts = { a = { size = 1 }, b = { size = 1 }, c = { size = 1 } }\n  size = 1",
        &["Size 1 has room for two."],
    );
    check("settings = { mode = \"late\" }", &["`settings.mode` must be one of `slow`, `fast`; it is `late`."]);
    check("notes = [\"a\", null]", &["An element is null."]);
    check("revision = 5", &["Cannot set revision", "The provider alone gives"]);
    check("parts = { a = { size = 1, serial = \"x\" } }", &[r#"Cannot set parts["a"].serial"#]);
    check("parts = { a = null }", &["must not be null"]);
    // Nothing is made of a placeholder, which is good for an imported object.
    folder.write("resource \"memory_thing\" \"t\" {\n  name = \"x\"\n  image = \"(imported)\"\n}\n");
    assert_eq!(folder.run(&["validate"]).code, Some(0));
    folder.plan(2).says("from it no `image` can be made");
    let said = folder.run(&["apply", "-auto-approve", "-input=false"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    said.says("Error: Cannot make this thing").says("Remove this line");
}
