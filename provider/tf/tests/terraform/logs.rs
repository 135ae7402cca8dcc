//! What `TF_LOG` shows.

use crate::folder::{Folder, Said, ready};

fn logged(variable: (&str, &str)) -> Said {
    let folder = Folder::new();
    folder.write("resource \"memory_thing\" \"t\" {\n  name = \"t\"\n  token = \"hunter2\"\n}\n");
    let mut command = folder.command(&["apply", "-auto-approve", "-input=false"]);
    Said::of(command.env(variable.0, variable.1))
}

#[test]
fn our_lines_have_level_message_and_fields() {
    if !ready() {
        return;
    }
    let said = logged(("TF_LOG", "TRACE"));
    let line = said.text.lines().find(|line| line.contains("made a thing")).expect("our line");
    assert!(line.contains("[INFO]  provider.terraform-provider-memory: made a thing:"), "{line}");
    for field in ["thing=id-t", "tf_rpc=ApplyResourceChange", "tf_resource_type=memory_thing", "tf_req_id="] {
        assert!(line.contains(field), "{field} is not in {line}");
    }
    said.says("[DEBUG] provider.terraform-provider-memory: served request").says("tf_req_duration_ms=");
    said.says("[TRACE] provider.terraform-provider-memory: received request");
    said.never_says("unexpected data").never_says("hunter2").never_says("h2::");
}

/// Terraform shows everything then, and a provider that is silent would be missing from it.
#[test]
fn a_level_that_terraform_does_not_know_silences_nobody() {
    if !ready() {
        return;
    }
    for word in ["1", "true", "json"] {
        logged(("TF_LOG", word)).says("received request");
    }
    logged(("TF_LOG_PROVIDER", "1")).says("received request");
}

#[test]
fn lines_below_the_wanted_level_are_not_made() {
    if !ready() {
        return;
    }
    let said = logged(("TF_LOG_PROVIDER", "INFO"));
    said.says("[INFO] provider.terraform-provider-memory: made a thing").never_says("served request");
}
