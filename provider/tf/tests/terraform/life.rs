//! From nothing to nothing: create, no change, drift, update, replace, import, upgrade, destroy.

use serde_json::json;

use crate::folder::{Folder, ready};

const FULL: &str = r#"
resource "memory_thing" "full" {
  name     = "full"
  ratio    = 0.1
  big      = 123456789012345678901234567890
  labels   = { env = "test", owner = "we" }
  tags     = ["z", "m", "z"]
  notes    = ["first", "second"]
  anything = { list = [1, "two", true], empty = null }
  token    = "stored secret"
  parts    = { a = { size = 1 }, b = { size = 2 } }
  links    = [{ to = "x" }, { to = "y", weight = 5 }]
  settings = { mode = "fast" }
  image    = "debian"
  seed     = {}
}
data "memory_name" "full" {
  id = memory_thing.full.id
}
output "name" {
  value = data.memory_name.full.name
}
output "serial" {
  value = memory_thing.full.parts["b"].serial
}
"#;

#[test]
fn everything_is_created_as_declared_and_then_nothing_changes() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(FULL).apply().says(r#"name = "full""#).says(r#"serial = "serial-b""#);
    folder.plan(0);
    let got = folder.attributes("full");
    assert_eq!(got["id"], "id-full");
    assert_eq!((&got["size"], &got["ratio"], &got["revision"]), (&json!(1), &json!(0.1), &json!(1)));
    assert_eq!(got["tags"], json!(["m", "z"]));
    assert_eq!(got["links"], json!([{"to": "x", "weight": 10}, {"to": "y", "weight": 5}]));
    assert_eq!(got["settings"], json!({"level": 3, "mode": "fast"}));
    assert_eq!(got["parts"]["a"], json!({"serial": "serial-a", "size": 1}));
    let said = folder.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    folder.plan(0);
    assert_eq!(folder.run(&["destroy", "-auto-approve", "-input=false"]).code, Some(0));
    assert!(folder.is_empty());
}

#[test]
fn what_changed_behind_terraform_is_seen_and_repaired() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(r#"resource "memory_thing" "t" { name = "drift" }"#).apply();
    folder.set_object("id-drift", &json!({"size": 9}));
    folder.plan(2).says("size = 9 -> 1 # forces replacement");
    folder.set_object("id-drift", &json!({"size": 1, "faults": ["swap is on"]}));
    folder.plan(2).says(r#"- "swap is on""#).says("will be updated in-place");
    folder.apply();
    folder.plan(0);
    assert_eq!(folder.object("id-drift").unwrap()["faults"], json!([]));
    folder.remove_object("id-drift");
    folder.plan(2).says("will be created");
    folder.apply();
    folder.plan(0);
}

#[test]
fn a_change_is_made_in_place_and_only_what_it_touches_is_unknown() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(FULL).apply();
    let grown =
        FULL.replace(r#"b = { size = 2 }"#, r#"b = { size = 3 }, c = { size = 1 }"#).replace("debian", "ubuntu");
    folder
        .write(&grown)
        .plan(2)
        .says("0 to add, 1 to change, 0 to destroy")
        .says("revision = 1 -> (known after apply)");
    folder.apply();
    folder.plan(0);
    let got = folder.attributes("full");
    assert_eq!(got["revision"], 2);
    assert_eq!(got["parts"]["c"], json!({"serial": "serial-c", "size": 1}));
}

#[test]
fn rows_and_plans_can_demand_a_new_object() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let thing = |size: u8, zone: &str| {
        format!("resource \"memory_thing\" \"t\" {{\n  name = \"r\"\n  size = {size}\n  zone = \"{zone}\"\n}}")
    };
    folder.write(&thing(5, "here")).apply();
    folder.write(&thing(5, "there")).plan(2).says("forces replacement").says("must be replaced");
    folder.apply();
    folder.write(&thing(4, "there")).plan(2).says("size = 5 -> 4 # forces replacement").says("Cannot shrink a thing");
    folder.write(&thing(6, "there")).plan(2).says("will be updated in-place");
    folder.apply();
    folder.plan(0);
}

#[test]
fn an_import_makes_no_difference_to_the_configuration() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.set_object("id-old", &json!({"name": "old", "size": 3, "revision": 8}));
    folder.write("resource \"memory_thing\" \"old\" {\n  name  = \"old\"\n  size  = 3\n  tags  = null\n  image = \"debian\"\n  seed  = { mode = \"fast\" }\n}");
    let said = folder.run(&["import", "-input=false", "memory_thing.old", "nonsense"]);
    said.says("Ids begin with `id-`");
    folder.run(&["import", "-input=false", "memory_thing.old", "id-gone"]).says("non-existent remote object");
    let said = folder.run(&["import", "-input=false", "memory_thing.old", "id-old"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!(folder.attributes("old")["image"], "(imported)");
    // Defaults that the other side does not know are a change, once.
    folder.apply();
    folder.plan(0);
    assert_eq!(folder.attributes("old")["revision"], 9);
}

/// Before 1.14 Terraform copies placeholders from the state; newer ones ask the provider. Both plan clean.
#[test]
fn generated_configuration_plans_clean() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.set_object("id-old", &json!({"name": "old", "size": 3}));
    folder.write("import {\n  to = memory_thing.old\n  id = \"id-old\"\n}\n");
    let said = folder.run(&["plan", "-input=false", "-generate-config-out=generated.tf"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    said.says("1 to import, 0 to add");
    folder.apply();
    folder.plan(0);

    // What a new one could not be made from keeps the old one.
    let generated = std::fs::read_to_string(folder.path("generated.tf")).unwrap();
    if generated.contains("(imported)") {
        let said = folder.run(&["apply", "-auto-approve", "-input=false", "-replace=memory_thing.old"]);
        said.says("Cannot replace this thing").says("Nothing was destroyed");
        folder.plan(0);
    }
}

#[test]
fn a_state_of_an_older_version_is_upgraded() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(r#"resource "memory_thing" "t" { name = "old" }"#).apply();
    let text = std::fs::read_to_string(folder.path("terraform.tfstate")).unwrap();
    let older = text
        .replace(r#""schema_version": 1"#, r#""schema_version": 0"#)
        .replace(r#""name": "old""#, r#""title": "old""#);
    assert_ne!(text, older);
    folder.set_state(&older);
    folder.plan(0);
    folder.set_state(&older.replace("title", "caption"));
    let said = folder.run(&["plan", "-input=false"]);
    said.says("Its version is unknown.");
}
