//! Clones of a machine that was prepared: each is a machine of its own, sealed or not.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};

const HEAD: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "golden" {
  node       = "pve1"
  name       = "golden"
  vmid       = 900
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  agent {}
  cloud_init {
    network "net0" { address = "NET.70/24" }
  }
  timeouts { create = "3m" }
}
"#;

const PREPARED: &str = r#"
resource "groundwork_machine" "golden" {
  endpoint = groundwork_vm.golden.endpoint
  hostname = "golden"
  file "/etc/golden" { content = "of the template\n" }
}
"#;

const CLONE: &str = r#"
resource "groundwork_vm" "CLONE" {
  node       = "pve1"
  name       = "CLONE"
  clone {
    vmid = 900
    full = true
  }
  agent {}
  cloud_init {
    network "net0" { address = "NET.LAST/24" }
  }
  timeouts { create = "3m" }
}
resource "groundwork_machine" "CLONE" {
  endpoint = groundwork_vm.CLONE.endpoint
  file "/etc/own" { content = "of the clone\n" }
}
"#;

#[test]
fn clones_of_a_prepared_machine_are_machines_of_their_own() {
    if !ready() {
        return;
    }
    let lab = Lab::start("templates", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let net = lab.address(0);
    let filled = |text: &str| {
        let text = text.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
        text.replace("NET", net.trim_end_matches(".0"))
    };
    terraform.configure(&filled(HEAD));
    terraform.write("prepared.tf", PREPARED);
    terraform.apply();
    let golden = lab.must("golden", "cat /etc/machine-id");
    off(&lab);

    // The template is no machine of this configuration any more; its clone is.
    terraform.run(&["state", "rm", "groundwork_machine.golden", "groundwork_vm.golden"]).exits(0);
    terraform.write("prepared.tf", "");
    terraform.configure(filled(HEAD).split("resource \"groundwork_vm\"").next().expect("head"));
    terraform.write("raw.tf", &filled(CLONE).replace("CLONE", "raw").replace("LAST", "71"));
    let applied = terraform.apply();
    applied.says(&["Warning: The first boot of VM", "is a clone of", "groundwork-agent seal"]);
    let raw = own(&lab, "raw");
    assert_ne!(raw, golden);

    lab.control("power", &["golden", "on"]).exits(0);
    wait_until("the template runs", || lab.exec("golden", "systemctl is-active groundwork-agent").code == 0);
    let said = lab.must("golden", "groundwork-agent seal");
    for part in [
        "stopped and disabled the agent",
        "identity, records, originals",
        "cloud-init clean",
        "emptied /etc/machine-id",
        "Sealed.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let again = lab.must("golden", "groundwork-agent seal");
    assert!(again.starts_with("Sealed.") && again.lines().count() == 1, "the second time nothing is left: {again}");
    assert_eq!(lab.must("golden", "ls /var/lib/groundwork; cat /etc/machine-id /etc/golden"), "of the template");
    off(&lab);
    terraform.write("clean.tf", &filled(CLONE).replace("CLONE", "clean").replace("LAST", "72"));
    let applied = terraform.apply();
    assert!(!applied.flat().contains("was not clean"), "{}", applied.text);
    let clean = own(&lab, "clean");
    assert!(clean != golden && clean != raw && clean.len() == 32, "{clean}");
    terraform.has_no_changes();
    terraform.destroy();
}

/// The clone has its own name and files, and those of the template; its machine-id is given back.
fn own(lab: &Lab, name: &str) -> String {
    let files = lab.must(name, "hostname; cat /etc/hostname /etc/golden /etc/own");
    assert_eq!(files, format!("{name}\n{name}\nof the template\nof the clone"));
    lab.must(name, "ls /var/lib/groundwork/records /var/lib/groundwork/originals | sort | xargs")
        .split_whitespace()
        .for_each(|file| {
            assert!(!file.contains("golden"), "inherited: {file}");
        });
    lab.must(name, "cat /etc/machine-id")
}

fn off(lab: &Lab) {
    lab.control("power", &["golden", "off"]).exits(0);
}
