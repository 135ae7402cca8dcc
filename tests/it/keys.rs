//! Another key for a machine: states know it by its first one, follow to the one in force, and go back to none.

use crate::harness::run::{Said, command, run};
use crate::harness::{Backend, Lab, Terraform, provider_binary, ready, scene};
use crate::quickstart;

const IDENTITY: &str = "/var/lib/groundwork/identity";
const MACHINE: &str = "groundwork_machine.one";

struct Scene {
    lab: Lab,
    terraform: Terraform,
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
    terraform.configure(&scene::one(&lab, 31, &motd("first")));
    terraform.apply();
    terraform.has_no_changes();
    let endpoint = terraform.resource(MACHINE)["endpoint"].clone();
    let text = |name: &str| endpoint[name].as_str().expect("an endpoint").to_owned();
    let (address, fingerprint) = (text("address"), text("fingerprint"));
    let scene = Scene { lab, terraform, address, fingerprint };

    scene.is_renewed_and_followed();
    scene.is_not_taken_back();
    scene.is_renewed_when_it_has_served_its_time();
    scene.another_machine_is_a_warning();
    scene.goes_over_to_another_ca();
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

    /// The commands of the guide about trust, one after the other.
    fn goes_over_to_another_ca(&self) {
        let Self { lab, terraform, address, .. } = self;
        let pki = |words: &[&str]| {
            let all = ["pki"].iter().chain(words);
            run(command(provider_binary()).current_dir(terraform.path(".")).args(all))
        };
        pki(&["init", "new"]).exits(0);
        terraform.write("state.json", &terraform.show().to_string());
        let over = ["rotate", "--from", "pki", "--to", "new"];
        let both = pki(&[&over[..], &["--keep-old", "state.json"]].concat());
        both.exits(0).says(&[&format!("{address}: believes both CAs")]);
        terraform.has_no_changes();
        terraform.write("override.tf", "provider \"groundwork\" {\n  agent { pki_dir = \"./new\" }\n}\n");
        terraform.has_no_changes();

        pki(&[&over[..], &["state.json"]].concat()).exits(0).says(&["believes the new CA alone"]);
        terraform.has_no_changes();
        self.applies("of the new CA");
        assert_eq!(lab.must("one", "systemctl show -P StatusText groundwork-agent"), "enrolled");
        terraform.write("override.tf", "");
        terraform
            .plan()
            .exits(0)
            .says(&["Warning: Cannot look at machine", "Give the provider the CA that the machine was installed with"]);
        self.declare("of the old CA");
        terraform.fails(&["Cannot change machine", "Nothing was asked of the machine"]);
        assert_eq!(lab.must("one", "cat /etc/motd"), "of the new CA");
        terraform.write("override.tf", "provider \"groundwork\" {\n  agent { pki_dir = \"./new\" }\n}\n");
    }

    fn declare(&self, text: &str) {
        self.terraform.configure(&scene::one(&self.lab, 31, &motd(text)));
    }

    #[track_caller]
    fn applies(&self, text: &str) {
        self.declare(text);
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(self.lab.must("one", "cat /etc/motd"), text);
    }

    #[track_caller]
    fn rotate(&self) {
        let said = rotate(&self.terraform);
        said.says(&[&format!("{}: has the key sha256:", self.address)]);
        assert_eq!(said.text.lines().count(), 1, "one machine, however often it stands there:\n{}", said.text);
    }

    /// Of the key on the machine.
    fn key(&self) -> String {
        key(&self.lab, "one")
    }

    /// Another folder with the same CA, in which the machine stands with its first key in plain text.
    fn elsewhere(&self) -> Terraform {
        let other = Terraform::for_lab(&self.lab);
        for file in ["ca.pem", "ca-key.pem"] {
            std::fs::copy(self.terraform.path("pki").join(file), other.path("pki").join(file)).expect("the same CA");
        }
        let (address, fingerprint) = (&self.address, &self.fingerprint);
        other.configure(&format!(
            "resource \"groundwork_machine\" \"one\" {{\n  endpoint = {{\n    address = \"{address}\"\n    fingerprint = \"{fingerprint}\"\n  }}\n{}}}\n",
            motd("first")
        ));
        other
    }

    #[track_caller]
    fn is_imported(&self, terraform: &Terraform) {
        let id = format!("{},{}", self.address, self.fingerprint);
        terraform.run(&["import", "-input=false", "-no-color", MACHINE, &id]).exits(0);
    }
}

/// Everything that speaks to the agents of a cluster follows them to their next keys, and the cluster goes back to none of before.
#[test]
fn a_cluster_follows_the_renewed_keys_of_its_machines() {
    if !ready() {
        return;
    }
    let lab = Lab::start("cluster-keys", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    terraform.apply();
    terraform.has_no_changes();
    let machines = ["cp-1", "worker-1"];
    let before =
        machines.map(|vm| lab.must(vm, &format!("cp -a {IDENTITY} /root/before; sha256sum <{IDENTITY}/key.pem")));
    let said = rotate(&terraform);
    assert_eq!(said.text.matches(": has the key sha256:").count(), 2, "{}", said.text);
    assert_ne!(machines.map(|vm| key(&lab, vm)), before);
    terraform.has_no_changes();
    // The kubeconfig knows the control plane's agent by its first key.
    assert!(quickstart::credential(&terraform)["status"]["clientKeyData"].is_string());

    // Looked at and repaired through the control plane, and on the worker itself.
    lab.must("worker-1", "systemctl disable --now kubelet");
    terraform.plan().exits(2).says(&["worker-1: its kubelet is inactive"]);
    terraform.apply();
    terraform.has_no_changes();
    // Drained and reset, made anew, and joined with a token of the control plane.
    terraform.variables(&quickstart::variables(&lab, 0));
    terraform.apply();
    assert_eq!(quickstart::nodes(&lab), ["cp-1"]);
    terraform.variables(&quickstart::variables(&lab, 1));
    terraform.apply();
    quickstart::nodes_are_ready(&lab);
    terraform.has_no_changes();

    // Set back to a key that was laid down.
    let agent = |from: &str| {
        let line = format!(
            "systemctl stop groundwork-agent && rm -rf {IDENTITY} && cp -a {from} {IDENTITY} && systemctl start groundwork-agent"
        );
        lab.must("cp-1", &line)
    };
    lab.must("cp-1", &format!("cp -a {IDENTITY} /root/after"));
    agent("/root/before");
    terraform.plan().exits(0).says(&[
        "Warning: Cannot look at a control plane of cluster quickstart: it is not the one of the state",
        "again",
        "`terraform state rm`",
        "No changes.",
    ]);
    agent("/root/after");
    terraform.has_no_changes();
    terraform.destroy();
    quickstart::lab_is_empty(&lab);
}

/// `pki rotate --keys`, from the state.
#[track_caller]
fn rotate(terraform: &Terraform) -> Said {
    terraform.write("state.json", &terraform.show().to_string());
    let words = ["pki", "rotate", "--keys", "pki", "state.json"];
    let said = run(command(provider_binary()).current_dir(terraform.path(".")).args(words));
    said.exits(0);
    said
}

/// Of the key on a machine.
fn key(lab: &Lab, vm: &str) -> String {
    lab.must(vm, &format!("sha256sum <{IDENTITY}/key.pem"))
}

/// A machine that shows this text.
fn motd(text: &str) -> String {
    format!("  file \"/etc/motd\" {{ content = \"{text}\\n\" }}\n")
}
