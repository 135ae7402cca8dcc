//! Another key for a machine: states know it by its first one, follow to the one in force, and go back to none.

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, provider_binary, ready};

const CONFIGURATION: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" { storage = "local-lvm" }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    network "net0" { address = "ADDRESS/24" }
  }
  agent {}
}
resource "groundwork_machine" "one" {
  endpoint = groundwork_vm.one.endpoint
  file "/etc/motd" { content = "TEXT" }
}
"#;
const IDENTITY: &str = "/var/lib/groundwork/identity";
const MACHINE: &str = "groundwork_machine.one";

struct Scene {
    lab: Lab,
    terraform: Terraform,
    configuration: String,
    address: String,
    fingerprint: String,
}

#[test]
fn a_machine_gets_another_key_and_is_known_as_before() {
    if !ready() {
        return;
    }
    let lab = Lab::start("keys", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let configuration = CONFIGURATION
        .replace("URL", &lab.value("LAB_IMAGE_URL"))
        .replace("SUM", &lab.value("LAB_IMAGE_SHA256"))
        .replace("ADDRESS", &lab.address(31));
    terraform.configure(&configuration);
    terraform.apply();
    terraform.has_no_changes();
    let endpoint = terraform.resource(MACHINE)["endpoint"].clone();
    let text = |name: &str| endpoint[name].as_str().expect("an endpoint").to_owned();
    let (address, fingerprint) = (text("address"), text("fingerprint"));
    let scene = Scene { lab, terraform, configuration, address, fingerprint };

    scene.is_renewed_and_followed();
    scene.is_not_taken_back();
    scene.is_renewed_when_it_has_served_its_time();
    scene.another_machine_is_a_warning();
    scene.terraform.destroy();
}

impl Scene {
    fn is_renewed_and_followed(&self) {
        let Self { lab, terraform, .. } = self;
        lab.must("one", &format!("cp -a {IDENTITY} /root/before"));
        let first = self.key();
        self.rotate();
        assert_ne!(self.key(), first);
        // Nothing changes for anybody, neither here nor where the first key is written down.
        terraform.has_no_changes();
        let elsewhere = self.elsewhere();
        self.is_imported(&elsewhere);
        elsewhere.apply();
        elsewhere.has_no_changes();
        self.applies("renewed");
        self.rotate();
        self.applies("renewed again");
        elsewhere.plan().exits(2).says(&["/etc/motd", "0 to add, 1 to change, 0 to destroy"]);
        assert_eq!(terraform.resource(MACHINE)["endpoint"]["fingerprint"], self.fingerprint.as_str());
        assert_eq!(terraform.resource(MACHINE)["id"], self.fingerprint.as_str());
        assert_eq!(terraform.resource("groundwork_vm.one")["endpoint"]["fingerprint"], self.fingerprint.as_str());
    }

    /// The machine is set back to its first key, as by a snapshot.
    fn is_not_taken_back(&self) {
        let Self { lab, terraform, fingerprint, .. } = self;
        lab.must(
            "one",
            &format!(
                "systemctl stop groundwork-agent && rm -rf {IDENTITY} && cp -a /root/before {IDENTITY} && \
                 systemctl start groundwork-agent"
            ),
        );
        let said = format!("has the key {fingerprint} again");
        terraform.plan().exits(0).says(&[
            "Warning: Cannot look at machine",
            &said,
            "`terraform state rm`",
            "No changes.",
        ]);
        self.declare("set back");
        terraform.fails(&[&said, "`terraform state rm`"]);
        assert_eq!(lab.must("one", "cat /etc/motd"), "renewed again");
        // Who means it forgets what he has seen.
        terraform.run(&["state", "rm", MACHINE]).exits(0);
        self.is_imported(terraform);
        self.applies("set back");
    }

    fn is_renewed_when_it_has_served_its_time(&self) {
        let first = self.key();
        self.applies("not due");
        assert_eq!(self.key(), first);
        self.lab.must("one", &format!("printf 1600000000 >{IDENTITY}/key-since"));
        self.applies("due");
        let second = self.key();
        assert_ne!(second, first);
        self.applies("not due any more");
        assert_eq!(self.key(), second);
    }

    /// The machine was installed anew behind Terraform's back: its agent has another key, which nobody certified.
    fn another_machine_is_a_warning(&self) {
        let Self { lab, terraform, .. } = self;
        lab.must(
            "one",
            &format!("systemctl stop groundwork-agent && rm -rf {IDENTITY} && systemctl start groundwork-agent"),
        );
        let said = ["it is not the one of the state", "has the key sha256:", "`terraform apply -replace=…`"];
        terraform.plan().exits(0).says(&[&said[..], &["No changes."]].concat());
        self.declare("another");
        terraform.fails(&["has the key sha256:", "Nothing was asked of the machine at that address."]);
        assert_eq!(lab.must("one", "cat /etc/motd"), "not due any more");
        let replace = ["apply", "-auto-approve", "-input=false", "-no-color", "-replace=groundwork_vm.one"];
        terraform.run(&replace).exits(0);
        terraform.has_no_changes();
        assert_eq!(lab.must("one", "cat /etc/motd"), "another");
    }

    fn declare(&self, text: &str) {
        self.terraform.configure(&self.configuration.replace("TEXT", &format!("{text}\\n")));
    }

    #[track_caller]
    fn applies(&self, text: &str) {
        self.declare(text);
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(self.lab.must("one", "cat /etc/motd"), text);
    }

    /// `pki rotate --keys`, from the state.
    #[track_caller]
    fn rotate(&self) {
        let state = self.terraform.show().to_string();
        self.terraform.write("state.json", &state);
        let words = ["pki", "rotate", "--keys", "pki", "state.json"];
        let said = run(command(provider_binary()).current_dir(self.terraform.path(".")).args(words));
        said.exits(0).says(&[&format!("{}: has the key sha256:", self.address)]);
        assert_eq!(said.text.lines().count(), 1, "one machine, however often it stands there:\n{}", said.text);
    }

    /// Of the key on the machine.
    fn key(&self) -> String {
        self.lab.must("one", &format!("sha256sum <{IDENTITY}/key.pem"))
    }

    /// Another folder with the same CA, in which the machine stands with its first key in plain text.
    fn elsewhere(&self) -> Terraform {
        let other = Terraform::for_lab(&self.lab);
        for file in ["ca.pem", "ca-key.pem"] {
            std::fs::copy(self.terraform.path("pki").join(file), other.path("pki").join(file)).expect("the same CA");
        }
        let (address, fingerprint) = (&self.address, &self.fingerprint);
        other.configure(&format!(
            "resource \"groundwork_machine\" \"one\" {{\n  endpoint = {{\n    address = \"{address}\"\n    fingerprint = \"{fingerprint}\"\n  }}\n  \
             file \"/etc/motd\" {{ content = \"TEXT\" }}\n}}\n"
        ));
        other
    }

    #[track_caller]
    fn is_imported(&self, terraform: &Terraform) {
        let id = format!("{},{}", self.address, self.fingerprint);
        terraform.run(&["import", "-input=false", "-no-color", MACHINE, &id]).exits(0);
    }
}
