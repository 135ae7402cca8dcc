//! Agents older than their provider: the plan says what they cannot look at, the apply updates them first, and an update that is cut off
//! or does not work leaves the machine with an agent that does.

use crate::harness::{Backend, Lab, Terraform, ready, scene, wait_until, yesterdays_agent};
use std::path::Path;

/// What yesterday's agent does not know.
const SETTINGS: &str = "  hostname = \"one\"\n  host \"192.0.2.9\" { names = [\"elsewhere\"] }";

/// What an agent that does not know `host` leaves in the plan.
const BLIND: &str = "agent 0.0.9 cannot look at `host`; the next apply updates it first";
/// The first word of what it says of itself.
const VERSION: &str = "/usr/local/bin/groundwork-agent version | cut -d ' ' -f 1";
/// The provider's block, where agents are left as they are.
const REFUSES: &str =
    "provider \"groundwork\" {\n  agent {\n    pki_dir      = \"./pki\"\n    agent_update = false\n  }\n}\n";
const NOTE: &str = "/usr/local/libexec/groundwork/update.json";

#[test]
fn an_older_agent_is_updated_and_an_update_may_be_cut_off() {
    let Some(yesterday) = yesterdays_agent().filter(|_| ready()) else { return };
    let lab = Lab::start("updates", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.configure(&scene::one(&lab, 31, SETTINGS));
    terraform.apply();
    terraform.has_no_changes();
    let machine = Machine { lab: &lab, terraform: &terraform, today: lab.must("one", VERSION) };
    machine.fetch(&yesterday);

    machine.is_updated_before_anything_is_applied();
    machine.passes_its_trial_when_the_next_apply_comes();
    machine.takes_a_broken_program_back();
    machine.takes_a_program_back_that_nobody_reaches();
    machine.survives_a_power_cut_in_the_trial();
    terraform.destroy();
}

struct Machine<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
    /// The version of this provider's own agent.
    today: String,
}

impl Machine<'_> {
    fn is_updated_before_anything_is_applied(&self) {
        let Self { lab, terraform, today } = self;
        self.is_of_yesterday();
        // What only today's agent sees.
        lab.must("one", "sed -i /192.0.2.9/d /etc/hosts");
        terraform.plan().exits(2).says(&[BLIND, "0 to add, 1 to change, 0 to destroy"]);

        terraform.write("override.tf", REFUSES);
        terraform.plan().exits(2).says(&["cannot look at `host`; `agent_update = false` keeps it from being updated"]);
        terraform.fails(&["is 0.0.9, older than this provider, which is", today, "Remove `agent_update = false`"]);
        assert_eq!(lab.must("one", VERSION), "0.0.9");

        terraform.write("override.tf", "");
        terraform.apply();
        self.is_of_today();
        assert!(lab.must("one", "cat /etc/hosts").contains("192.0.2.9\telsewhere"));
        lab.must("one", "sed -i /192.0.2.9/d /etc/hosts");
        terraform.plan().exits(2).says(&["hosts: /etc/hosts does not have our names as declared"]);
        terraform.apply();
    }

    /// The provider is killed when the new program is in place, and the agent too: it comes up by itself and waits to be reached.
    fn passes_its_trial_when_the_next_apply_comes(&self) {
        self.is_on_trial();
        self.lab.must("one", "systemctl kill --signal KILL groundwork-agent; rm /run/hold");
        self.comes_up_as(&self.today);
        self.lab.must("one", &format!("test -e {NOTE}"));
        self.terraform.apply();
        self.is_of_today();
    }

    fn takes_a_broken_program_back(&self) {
        self.is_on_trial();
        self.lab
            .must("one", "printf '#!/bin/sh\\nexit 1\\n' >$(readlink /usr/local/bin/groundwork-agent); rm /run/hold");
        self.comes_up_as("0.0.9");
        let note = self.lab.must("one", &format!("cat {NOTE}"));
        assert!(note.contains("it was started 2 times and nobody reached it"), "{note}");
        self.terraform.plan().exits(2).says(&[BLIND]);
        self.terraform.apply();
        self.is_of_today();
    }

    fn takes_a_program_back_that_nobody_reaches(&self) {
        self.is_on_trial();
        self.lab.must("one", "rm /run/hold");
        self.comes_up_as(&self.today);
        // What its timer does when the time is over.
        self.lab.must("one", "systemctl start groundwork-agent-trial.service");
        self.comes_up_as("0.0.9");
        self.terraform.apply();
        self.is_of_today();
    }

    fn survives_a_power_cut_in_the_trial(&self) {
        self.is_on_trial();
        self.lab.control("power", &["one", "off"]).exits(0);
        self.lab.control("power", &["one", "on"]).exits(0);
        self.comes_up_as(&self.today);
        self.terraform.apply();
        self.is_of_today();
    }

    /// An update whose provider was killed when the new program was in place. It starts when `/run/hold` is gone.
    fn is_on_trial(&self) {
        let Self { lab, terraform, .. } = self;
        self.is_of_yesterday();
        lab.must(
            "one",
            "mkdir -p /run/systemd/system/groundwork-agent.service.d && touch /run/hold && \
             printf \"[Service]\\nExecStartPre=/bin/sh -c 'while test -e /run/hold; do sleep 0.1; done'\\n\" \
             >/run/systemd/system/groundwork-agent.service.d/hold.conf && systemctl daemon-reload",
        );
        terraform.killed(|| {
            lab.exec("one", &format!("test -e {NOTE} && test -L /usr/local/bin/groundwork-agent")).code == 0
        });
        wait_until("the agent restarts", || {
            lab.exec("one", "systemctl show -P ActiveState groundwork-agent").text.trim() == "activating"
        });
    }

    /// Puts yesterday's agent where a seed puts one.
    fn is_of_yesterday(&self) {
        self.lab.must(
            "one",
            "systemctl stop groundwork-agent && rm -rf /usr/local/libexec/groundwork && \
             install /root/yesterday /usr/local/bin/groundwork-agent.new && \
             mv -f /usr/local/bin/groundwork-agent.new /usr/local/bin/groundwork-agent && systemctl start groundwork-agent",
        );
        assert_eq!(self.lab.must("one", VERSION), "0.0.9");
    }

    /// Nothing is on trial any more, and nothing differs.
    fn is_of_today(&self) {
        assert_eq!(self.lab.must("one", VERSION), self.today);
        self.lab.must("one", &format!("test ! -e {NOTE} && systemctl is-active groundwork-agent"));
        self.terraform.has_no_changes();
    }

    fn comes_up_as(&self, version: &str) {
        let line = format!("systemctl is-active groundwork-agent && {VERSION}");
        wait_until("the agent is up", || self.lab.exec("one", &line).text == format!("active\n{version}\n"));
    }

    fn fetch(&self, yesterday: &Path) {
        self.lab.serve("yesterday", std::fs::read(yesterday).expect("yesterday's agent"));
        let url = format!("http://{}/files/yesterday", self.lab.address(1));
        let fetch = format!("import urllib.request; urllib.request.urlretrieve('{url}', '/root/yesterday')");
        self.lab.must("one", &format!("python3 -c \"{fetch}\""));
    }
}
