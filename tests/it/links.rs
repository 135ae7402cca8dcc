//! A user of a machine puts a link in the place of a file that is declared in his folder: it leads the agent nowhere.

use crate::harness::{Backend, Lab, Terraform, ready};

const MACHINE: &str = r##"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "shared"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" {
    bridge = "vmbr0"
  }
  agent {}
  cloud_init {
    network "net0" {
      address = "NET.70/24"
    }
  }
  timeouts {
    create = "3m"
  }
}
resource "groundwork_machine" "one" {
  endpoint = groundwork_vm.one.endpoint
  file "/etc/motd" {
    content = "Ours.\n"
  }
FILES
}
"##;

const DECLARED: &str = r#"  file "/srv/bob/app.conf" { content = "level = 1\n" }"#;

#[test]
fn a_users_link_gets_him_nothing_of_roots() {
    if !ready() {
        return;
    }
    let lab = Lab::start("links", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let net = lab.address(0);
    let declare = |files: &str| {
        let text = MACHINE.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
        terraform.configure(&text.replace("NET", net.trim_end_matches(".0")).replace("FILES", files));
    };
    let bob = |line: &str| lab.must("shared", &format!("runuser -u nobody -- sh -c '{line}'"));
    declare("");
    terraform.apply();
    lab.must(
        "shared",
        "install -d -o nobody /srv/bob; install -m 0600 /dev/null /etc/app.conf; echo root > /etc/app.conf",
    );

    // In the place of the file.
    bob("ln -s /etc/app.conf /srv/bob/app.conf");
    declare(DECLARED);
    terraform.apply();
    assert_eq!(lab.must("shared", "cat /etc/app.conf /srv/bob/app.conf"), "root\nlevel = 1");
    let kept = lab.must("shared", "grep -rl ^root /var/lib/groundwork/originals || true");
    assert_eq!(kept, "", "what it led to was not kept");

    // In the place of the folder.
    lab.must("shared", "chown nobody /srv");
    bob("mv /srv/bob /srv/mine && ln -s /etc /srv/bob");
    terraform.plan().says(&["Links of users are not followed", "declare the path it leads to"]);
    terraform.fails(&["bob on the way is a link to /etc, made by the user"]);
    declare("");
    terraform.apply();
    assert_eq!(
        lab.must("shared", "cat /etc/app.conf; stat -c %a:%U /etc/app.conf; cat /etc/motd"),
        "root\n600:root\nOurs."
    );
    terraform.has_no_changes();
    terraform.destroy();
}
