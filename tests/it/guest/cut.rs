//! An installation through the guest agent that is cut off: at any call, by Ctrl-C, or with the provider killed. The next apply goes on, does
//! not send again what is there, and there is one agent.

use super::Guest;
use crate::harness::long_ready;

impl Guest {
    /// From the call of this method and number on the API answers none of the guest agent's.
    #[track_caller]
    fn cut(&self, how: &str, method: &str, number: u64) {
        let skip = format!("skip={number}");
        self.machine.lab.control("fault", &[how, method, "*/agent/*", &skip, "always"]).exits(0);
    }

    /// After whatever was cut, one more apply is enough; then the machine is as before all. How many files that one wrote.
    #[track_caller]
    fn goes_on(&self, after: &str) -> u64 {
        self.machine.lab.control("fault", &["clear"]).exits(0);
        self.calls("");
        self.terraform.apply();
        let written = self.calls("/agent/file-write");
        self.terraform.has_no_changes();
        let agents = self.machine.must("pgrep -fc '[g]roundwork-agent serve'; ls -d /var/lib/groundwork/install /var/lib/groundwork/enrol.json 2>/dev/null | wc -l");
        assert_eq!(agents, "1\n0", "{after}: one agent, and nothing left over");
        self.forget();
        written
    }
}

#[test]
fn an_installation_that_is_cut_off_at_any_call_goes_on() {
    if !long_ready() {
        return;
    }
    let guest = Guest::start("guest-cuts");
    guest.terraform.configure(&guest.agent("    timeout = \"2s\"", "  timeouts { create = \"2m\" }"));
    let files = guest.goes_on("no cut");
    // The look, the folder, two checks, the parts put together, the script.
    let all = files + 6;

    // Each small file and the first parts, through the program, its last parts and all that comes then.
    let of_post = (0..9).chain([all / 3, all / 2, all * 3 / 4]).chain(all - 6..all).map(|number| ("POST", number));
    // Questions, and whether scripts have ended.
    let of_get = (0..6).map(|number| ("GET", number));
    let points: Vec<(&str, u64)> = of_post.chain(of_get).collect();
    let mut least = files;
    for (method, number) in &points {
        // Half of them are done, and only the answer is lost.
        let how = if number % 2 == 0 { "cut-before" } else { "cut-after" };
        guest.cut(how, method, *number);
        let after = format!("{how} at {method} {number} of {all}");
        let said = guest.terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        assert_eq!(
            (said.code, said.text.matches("Error: ").count()),
            (1, 1),
            "{after}: one diagnostic:\n{}",
            said.text
        );
        said.says(&["Cannot install the agent of VM", "pply again"]);
        assert!(guest.terraform.resource("groundwork_agent.pi").is_null(), "{after}: nothing is recorded");
        least = least.min(guest.goes_on(&after));
    }
    eprintln!(
        "an installation writes {files} files by {all} calls that change something; cut at {} places: all applies failed, all went on, with {least} \
         files at least",
        points.len()
    );
    assert!(least <= 5, "what was there was not sent again: {least} of {files}");

    // Ctrl-C while the program is sent, and a provider that is killed there.
    let half = || {
        let staged = "ls /var/lib/groundwork/install 2>/dev/null | wc -l";
        guest.machine.must(staged).parse::<u64>().is_ok_and(|there| there > files / 2)
    };
    guest.machine.lab.control("fault", &["latency", "0.1"]).exits(0);
    guest.terraform.interrupted(half).exits(1).says(&["topped on request"]);
    guest.goes_on("Ctrl-C");
    guest.machine.lab.control("fault", &["latency", "0.1"]).exits(0);
    guest.terraform.killed(half);
    guest.goes_on("a killed provider");
    guest.machine.end();
}
