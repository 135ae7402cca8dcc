//! An installation through the guest agent that is cut off: at any call, by Ctrl-C, or with the provider killed. The next apply goes on, does
//! not send again what is there, and there is one agent.

use super::Guest;
use crate::harness::ready;

impl Guest {
    /// From the call of this number on the API answers none of the guest agent's.
    #[track_caller]
    fn cut(&self, how: &str, number: u64) {
        let skip = format!("skip={number}");
        self.machine.lab.control("fault", &[how, "*", "*/agent/*", &skip, "always"]).exits(0);
    }

    /// After whatever was cut, one more apply is enough; then the machine is as before all. How many calls that one made.
    #[track_caller]
    fn goes_on(&self, after: &str) -> u64 {
        self.machine.lab.control("fault", &["clear"]).exits(0);
        self.calls("/agent/");
        self.terraform.apply();
        let calls = self.calls("/agent/");
        self.terraform.has_no_changes();
        let agents = self.machine.must("pgrep -fc '[g]roundwork-agent serve'; ls -d /var/lib/groundwork/install /var/lib/groundwork/enrol.json 2>/dev/null | wc -l");
        assert_eq!(agents, "1\n0", "{after}: one agent, and nothing left over");
        self.forget();
        calls
    }
}

#[test]
fn an_installation_that_is_cut_off_at_any_call_goes_on() {
    if !ready() {
        return;
    }
    let guest = Guest::start("guest-cuts");
    guest.terraform.configure(&guest.agent("    timeout = \"2s\"", "  timeouts { create = \"2m\" }"));
    let all = guest.goes_on("no cut");

    // Questions, the look, the folder, each small file, through the program, its end, the checks, the script.
    let points: Vec<u64> = (0..16).chain([all / 3, all / 2, all * 3 / 4]).chain(all.saturating_sub(9)..all).collect();
    let (mut failed, mut done, mut least) = (0, 0, all);
    for number in &points {
        // Half of them are done, and only the answer is lost.
        let how = if number % 2 == 0 { "cut-before" } else { "cut-after" };
        guest.cut(how, *number);
        let said = guest.terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        if said.code == 0 {
            assert!(*number + 3 >= all, "{how} at call {number} of {all}, and nobody noticed:\n{}", said.text);
            done += 1;
        } else {
            assert_eq!(said.text.matches("Error: ").count(), 1, "one diagnostic:\n{}", said.text);
            said.says(&["Cannot install the agent of VM", "pply again"]);
            assert!(guest.terraform.resource("groundwork_agent.pi").is_null(), "nothing is recorded");
            failed += 1;
        }
        least = least.min(guest.goes_on(&format!("{how} at call {number} of {all}")));
    }
    eprintln!(
        "an installation makes {all} calls; cut at {} of them: {failed} applies failed, {done} were through, all went on, with {least} calls at least",
        points.len()
    );
    assert!(failed >= 24, "{failed}");
    assert!(least < all / 2, "what was there was not sent again: {least} of {all}");

    // Ctrl-C while the program is sent, and a provider that is killed there.
    guest.machine.lab.control("fault", &["latency", "0.1"]).exits(0);
    let half = || {
        let staged = "ls /var/lib/groundwork/install 2>/dev/null | wc -l";
        guest.machine.must(staged).parse::<u64>().is_ok_and(|files| files > all / 2)
    };
    guest.terraform.interrupted(half).exits(1).says(&["Stopped on request"]);
    guest.goes_on("Ctrl-C");
    guest.machine.lab.control("fault", &["latency", "0.1"]).exits(0);
    guest.terraform.killed(half);
    guest.goes_on("a killed provider");
    guest.machine.end();
}
