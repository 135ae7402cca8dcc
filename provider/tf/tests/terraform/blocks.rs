//! Blocks: what Terraform makes of them, and what it refuses in them by itself.

use serde_json::json;

use crate::folder::{Folder, ready};

const FULL: &str = r#"
resource "memory_thing" "full" {
  name = "full"
  origin {
    country = "Norway"
  }
  shelf "top" {
    width   = 80
    lock_wo = "4711"
    colours = { frame = "red" }
    light {
      mode = "slow"
    }
    book "first" {
      size = 1
    }
  }
  shelf "middle" {
    width = 60
    depth = 20
  }
}
output "serials" {
  value = [for place, shelf in memory_thing.full.shelf : shelf.serial]
}
output "book" {
  value = memory_thing.full.shelf["top"].book["first"].serial
}
"#;

#[test]
fn blocks_are_created_as_declared_and_then_nothing_changes() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(FULL).apply().says(r#"book = "serial-first""#).says(r#""serial-top""#);
    folder.plan(0);
    let got = folder.attributes("full");
    assert_eq!(got["origin"], json!({"country": "Norway", "year": 1984}));
    assert_eq!(got["shelf"]["middle"]["book"], json!({}));
    let top = &got["shelf"]["top"];
    assert_eq!((&top["depth"], &top["serial"], &top["lock_wo"]), (&json!(30), &json!("serial-top"), &json!(null)));
    assert_eq!(top["light"], json!({"level": 3, "mode": "slow"}));
    assert_eq!(folder.object("id-full").unwrap()["lock_lengths"], json!({"top": 4}));
    let said = folder.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    folder.plan(0);
    assert_eq!(folder.run(&["destroy", "-auto-approve", "-input=false"]).code, Some(0));
    assert!(folder.is_empty());
}

#[test]
fn what_is_not_written_is_null_or_empty() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write("resource \"memory_thing\" \"t\" {\n  name = \"t\"\n}\noutput \"n\" {\n  value = length(memory_thing.t.shelf)\n}");
    folder.apply().says("n = 0");
    folder.plan(0);
    let got = folder.attributes("t");
    assert_eq!((&got["shelf"], &got["origin"]), (&json!({}), &json!(null)));
}

#[test]
fn blocks_come_and_go_and_those_that_stay_keep_what_is_computed() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(FULL).apply();
    let more = FULL.replace("width = 60", "width = 70").replace(
        "  shelf \"middle\"",
        "  shelf \"bottom\" {\n    width = 1\n    book \"x\" {\n      size = 2\n    }\n  }\n  shelf \"middle\"",
    );
    folder.write(&more).plan(2).says("0 to add, 1 to change, 0 to destroy").says("serial = (known after apply)");
    folder.apply();
    folder.plan(0);
    let got = folder.attributes("full");
    assert_eq!(got["shelf"]["bottom"]["book"]["x"]["serial"], "serial-x");
    assert_eq!(got["shelf"]["top"]["serial"], "serial-top");
    folder.write("resource \"memory_thing\" \"full\" {\n  name = \"full\"\n}").plan(2).says("- shelf \"top\" {");
    folder.apply();
    folder.plan(0);
    let got = folder.attributes("full");
    assert_eq!((&got["shelf"], &got["origin"]), (&json!({}), &json!(null)));
}

/// Values and whole collections of blocks that are known only after the apply. While Terraform validates, it takes variables,
/// `each` and other resources for unknown and demands labels nevertheless: they must be literal, or come from literals.
const EXPRESSIONS: &str = r#"
variable "width" {
  default = 5
}
locals {
  widths = { top = 1, middle = 2 }
}
resource "memory_thing" "first" {
  name = "first"
  shelf "top" {
    width = var.width
  }
}
resource "memory_thing" "second" {
  name = "second"
  dynamic "shelf" {
    for_each = local.widths
    labels   = [shelf.key]
    content {
      width   = memory_thing.first.revision + shelf.value + var.width
      lock_wo = memory_thing.first.id
    }
  }
}
resource "memory_thing" "third" {
  name = "third"
  dynamic "shelf" {
    for_each = memory_thing.second.revision > 0 ? [1] : []
    labels   = ["top"]
    content {
      width = 1
    }
  }
  dynamic "origin" {
    for_each = memory_thing.second.revision > 0 ? ["Norway"] : []
    content {
      country = origin.value
    }
  }
}
resource "memory_thing" "fourth" {
  name = "fourth"
  dynamic "shelf" {
    for_each = memory_thing.second.revision > 1 ? [1] : []
    labels   = ["top"]
    content {
      width = 1
    }
  }
}
"#;

#[test]
fn blocks_are_made_by_expressions_too() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(EXPRESSIONS).apply();
    folder.plan(0);
    assert_eq!(folder.attributes("second")["shelf"]["middle"]["width"], 8);
    assert_eq!(folder.object("id-second").unwrap()["lock_lengths"], json!({"middle": 8, "top": 8}));
    let third = folder.attributes("third");
    assert_eq!(third["shelf"]["top"]["serial"], "serial-top");
    assert_eq!(third["origin"], json!({"country": "Norway", "year": 1984}));
    assert_eq!(folder.attributes("fourth")["shelf"], json!({}));
}

#[test]
fn blocks_can_be_written_in_json() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write("");
    let config = json!({"resource": {"memory_thing": {"t": {
        "name": "t",
        "origin": {"country": "Norway"},
        "shelf": {"top": {"width": 3, "book": {"x": {"size": 1}}}, "middle": {"width": 4}},
    }}}});
    folder.file("more.tf.json", &config.to_string());
    folder.apply();
    folder.plan(0);
    let got = folder.attributes("t");
    assert_eq!(got["shelf"]["top"]["book"]["x"]["serial"], "serial-x");
    let wrong = config.to_string().replace("\"size\"", "\"seize\"");
    folder.file("more.tf.json", &wrong);
    let said = folder.run(&["validate"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    said.says("Extraneous JSON object property")
        .says("No argument or block type is named \"seize\"")
        .says("more.tf.json line 1");
}

#[test]
fn a_misspelt_name_in_a_block_is_refused_with_its_line() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let check = |within: &str, words: &[&str]| {
        folder.write(&format!("resource \"memory_thing\" \"t\" {{\n  name = \"x\"\n{within}\n}}\n"));
        let said = folder.run(&["validate"]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        for words in words {
            said.says(words);
        }
    };
    let argument = |name: &str| format!("An argument named \"{name}\" is not expected here.");
    check(
        "  shelf \"top\" {\n    width = 1\n    widht = 1\n  }",
        &[&argument("widht"), "on main.tf line 10", "widht = 1"],
    );
    check("  shelf \"top\" {\n    width = 1\n    light {\n      mood = 1\n    }\n  }", &[&argument("mood"), "line 11"]);
    check(
        "  shelf \"top\" {\n    width = 1\n    book \"x\" {\n      seize = 1\n    }\n  }",
        &[&argument("seize"), "line 11"],
    );
    check("  origin {\n    county = \"x\"\n  }", &[&argument("county"), "line 9"]);
    check("  shelves \"top\" {\n  }", &["Blocks of type \"shelves\" are not expected here.", "line 8"]);
    check("  shelf {\n  }", &["All shelf blocks must have 1 labels", "line 8"]);
    check("  shelf \"top\" {\n    width = 1\n  }\n  shelf \"top\" {\n    width = 1\n  }", &["Duplicate shelf block"]);
    check("  origin {\n    country = \"x\"\n  }\n  origin {\n    country = \"x\"\n  }", &["Duplicate origin block"]);
    check("  shelf = { top = { width = 1 } }", &["line 8"]);
}

#[test]
fn a_bad_value_in_a_block_is_refused_with_its_line() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    let check = |within: &str, words: &[&str]| {
        folder.write(&format!("resource \"memory_thing\" \"t\" {{\n  name = \"x\"\n{within}\n}}\n"));
        let said = folder.run(&["validate"]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        for words in words {
            said.says(words);
        }
    };
    check(
        "  shelf \"top\" {\n    width = 0\n  }",
        &[r#"`shelf["top"].width` must be at least 1; it is 0."#, "line 9", "width = 0"],
    );
    check(
        "  shelf \"top\" {\n    width = 1\n    light {\n      mode = \"late\"\n    }\n  }",
        &[r#"`shelf["top"].light.mode` must be one of"#, "line 11", "mode = \"late\""],
    );
    check(
        "  shelf \"top\" {\n    width   = 1\n    colours = { frame = \"grey\" }\n  }",
        &[r#"`shelf["top"].colours["frame"]` must be one of"#, "line 10"],
    );
    check("  shelf \"side\" {\n    width = 1\n  }", &[r#"`shelf["side"]` must be one of"#, "line 8", "shelf \"side\""]);
    check("  shelf \"bottom\" {\n    width = 1\n  }", &["A top comes first.", "line 8"]);
    check(
        "  shelf \"top\" {\n    width  = 1\n    serial = \"x\"\n  }",
        &[r#"Cannot set shelf["top"].serial"#, "line 10"],
    );
}

/// Terraform records a block that it did not know of before; nothing in it can stand for what an import could not know.
#[test]
fn a_creation_only_block_is_recorded_once_after_an_import() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.set_object("id-old", &json!({"name": "old", "size": 1, "revision": 8}));
    folder.write("resource \"memory_thing\" \"old\" {\n  name = \"old\"\n  origin {\n    country = \"Norway\"\n  }\n}");
    assert_eq!(folder.run(&["import", "-input=false", "memory_thing.old", "id-old"]).code, Some(0));
    assert_eq!(folder.attributes("old")["origin"], json!(null));
    folder.plan(2).says("+ origin {").says("0 to add, 1 to change, 0 to destroy");
    folder.apply();
    folder.plan(0);
}

#[test]
fn generated_configuration_has_the_blocks_that_are_there() {
    if !ready() {
        return;
    }
    let folder = Folder::new();
    folder.write(FULL).apply();
    assert_eq!(folder.run(&["state", "rm", "memory_thing.full"]).code, Some(0));
    folder.set_object("id-full", &json!({"shelf_widths": {"top": 80, "middle": 60}}));
    folder.write("import {\n  to = memory_thing.full\n  id = \"id-full\"\n}\n");
    let said = folder.run(&["plan", "-input=false", "-generate-config-out=generated.tf"]);
    let generated = std::fs::read_to_string(folder.path("generated.tf")).unwrap();
    assert!(generated.contains("shelf \"top\" {") && generated.contains("width   = 80"), "{generated}\n{}", said.text);
    assert!(!generated.contains("origin"), "{generated}");
}
