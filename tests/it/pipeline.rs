//! What a pipeline holds: a plan job with an observer's certificate and PVEAuditor sees what differs, and can change nothing.

mod gitlab;
mod vault;

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, provider_binary, ready, repository};

const HEAD: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
provider "groundwork" {
  agent { pki_dir = "PKI" }
}
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
"#;

const MACHINE: &str = r#"
resource "groundwork_vm" "NAME" {
  node       = "pve1"
  name       = "NAME"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  agent {}
  cloud_init {
    network "net0" { address = "ADDRESS/24" }
  }
  timeouts { create = "3m" }
}
resource "groundwork_machine" "NAME" {
  endpoint = groundwork_vm.NAME.endpoint
  file "/etc/motd" { content = "declared\n" }
  command "guarded" {
    argv   = ["/usr/bin/true"]
    unless = ["/usr/bin/true"]
  }
}
"#;

#[test]
fn an_observer_with_pveauditor_plans_and_applies_nothing() {
    if !ready() {
        return;
    }
    let lab = Lab::start("pipeline", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let head = HEAD.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
    let machine = |name: &str, last: u8| MACHINE.replace("NAME", name).replace("ADDRESS", &lab.address(last));
    let one = machine("one", 41);
    terraform.write("main.tf", &(head.replace("PKI", "./pki") + &one));
    terraform.apply();
    terraform.has_no_changes();

    let issued = ["pki", "issue", "--role", "observer", "--ttl", "24h", "pki"];
    run(command(provider_binary()).current_dir(terraform.path(".")).args(issued)).exits(0);
    let guide = std::fs::read_to_string(repository().join("docs/guides/privileges.md")).expect("the guide");
    let auditor = guide.split("read-only set (").nth(1).and_then(|rest| rest.split(')').next()).expect("the set");
    let auditor: Vec<&str> = auditor.split([',', ' ']).filter(|word| word.contains('.')).collect();
    assert_eq!(auditor.len(), 7, "{auditor:?}");
    lab.control("fault", &[&["only"], &auditor[..]].concat()).exits(0);

    let head = head.replace("PKI", "./pki/observer");
    terraform.write("main.tf", &format!("{head}{one}"));
    let said = terraform.plan();
    said.exits(0).says(&["No changes.", "Not looked at", "commands: guarded"]);
    assert!(!said.text.contains("files: /etc/motd"), "the record has it: {}", said.text);
    lab.must("one", "echo changed >/etc/motd");
    terraform.plan().exits(2).says(&["/etc/motd", "Not looked at"]);

    // Another machine, and the first one's difference: each says what it lacks, and nothing is begun.
    terraform.write("main.tf", &format!("{head}{one}{}", machine("two", 42)));
    terraform.plan().exits(2);
    let refused = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
    let flat = refused.text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert_eq!(refused.code, 1, "{}", refused.text);
    for part in [
        "`agent.ca_key_pem`",
        "Grant Datastore.Allocate on /storage/local",
        "has the role observer, and this needs operator",
        "Nothing was asked and nothing was changed.",
    ] {
        assert!(flat.contains(part), "{part} in {flat}");
    }
    assert_eq!(lab.must("one", "cat /etc/motd"), "changed");
    assert!(!lab.control("list", &[]).text.contains("two"), "nothing was begun");

    lab.control("fault", &["clear"]).exits(0);
    terraform.write("main.tf", &format!("{}{one}", head.replace("./pki/observer", "./pki")));
    terraform.apply();
    assert_eq!(lab.must("one", "cat /etc/motd"), "declared");
    terraform.destroy();
}

/// The example's pipeline tells a merge request what a plan does.
#[test]
fn the_merge_request_report_counts_what_a_plan_does() {
    if !ready() {
        return;
    }
    let terraform = Terraform::new(Vec::new());
    let report = || {
        terraform.run(&["plan", "-input=false", "-out", "plan.tfplan"]).exits(0);
        let script = repository().join("examples/gitlab-ci/report.sh");
        let said = run(command(script).current_dir(terraform.path(".")).arg("plan.tfplan"));
        said.exits(0);
        said.text.lines().find(|line| line.starts_with('{')).expect("a report").to_owned()
    };
    terraform.write("main.tf", "resource \"terraform_data\" \"a\" {}\nresource \"terraform_data\" \"b\" {}\n");
    terraform.run(&["init", "-input=false"]).exits(0);
    assert_eq!(report(), r#"{"create":2,"update":0,"delete":0}"#);
    terraform.run(&["apply", "-input=false", "plan.tfplan"]).exits(0);
    terraform.write("main.tf", "resource \"terraform_data\" \"a\" {\n  input = 1\n}\n");
    assert_eq!(report(), r#"{"create":0,"update":1,"delete":1}"#);
    terraform.run(&["apply", "-input=false", "plan.tfplan"]).exits(0);
    assert_eq!(report(), r#"{"create":0,"update":0,"delete":0}"#);
}
