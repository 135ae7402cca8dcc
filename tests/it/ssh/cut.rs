//! An installation that is cut off: at any byte, by Ctrl-C, or with the provider killed. The next apply goes on, and there is one agent.

use super::{Machine, of_agent, private_key};
use crate::harness::{Terraform, long_ready};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Leads connections to a server, and cuts them when so many bytes have gone there.
struct Wire {
    port: u16,
    /// How many bytes may still go.
    left: Arc<AtomicU64>,
    gone: Arc<AtomicU64>,
}

impl Wire {
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (left, gone) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let (may, went) = (Arc::clone(&left), Arc::clone(&gone));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (back, forth) = (client.try_clone().expect("twice"), server.try_clone().expect("twice"));
                let (may, went) = (Arc::clone(&may), Arc::clone(&went));
                std::thread::spawn(move || lead(client, forth, &may, &went));
                std::thread::spawn(move || lead(server, back, &AtomicU64::new(u64::MAX), &AtomicU64::new(0)));
            }
        });
        Self { port, left, gone }
    }

    /// From here on so many bytes go there.
    fn lets(&self, bytes: u64) {
        self.gone.store(0, Ordering::SeqCst);
        self.left.store(bytes, Ordering::SeqCst);
    }

    fn gone(&self) -> u64 {
        self.gone.load(Ordering::SeqCst)
    }
}

fn lead(mut from: TcpStream, mut to: TcpStream, may: &AtomicU64, went: &AtomicU64) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let left = may.load(Ordering::SeqCst);
        let through = usize::try_from(left).unwrap_or(usize::MAX).min(length);
        if to.write_all(&buffer[..through]).is_err() {
            break;
        }
        went.fetch_add(through as u64, Ordering::SeqCst);
        if through < length {
            may.store(0, Ordering::SeqCst);
            break;
        }
        if left != u64::MAX {
            may.store(left - through as u64, Ordering::SeqCst);
        }
    }
    for end in [&from, &to] {
        end.shutdown(Shutdown::Both).ok();
    }
}

struct Cuts {
    machine: Machine,
    terraform: Terraform,
    wire: Wire,
}

impl Cuts {
    /// After whatever was cut, one more apply is enough; then the machine is as before all.
    #[track_caller]
    fn goes_on(&self, after: &str) {
        self.wire.lets(u64::MAX);
        self.terraform.apply();
        self.terraform.has_no_changes();
        let agents = self.machine.must("pgrep -fc '[g]roundwork-agent serve'; ls -d /var/lib/groundwork/install /var/lib/groundwork/enrol.json 2>/dev/null | wc -l");
        assert_eq!(agents, "1\n0", "{after}: one agent, and nothing left over");
        self.terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
        self.machine.wipe();
    }
}

/// Stands before the real one on the path of what an installation runs, and takes its time.
const SLOW_SYSTEMCTL: &str = r#"printf '#!/bin/sh\n[ "$1" != daemon-reload ] || sleep 6\nexec /usr/bin/systemctl "$@"\n' >/usr/local/sbin/systemctl
    chmod +x /usr/local/sbin/systemctl"#;

#[test]
fn an_installation_that_is_cut_off_anywhere_goes_on() {
    if !long_ready() {
        return;
    }
    let machine = Machine::start("cuts");
    let wire = Wire::to(format!("{}:22", machine.address));
    let terraform = machine.folder();
    let ssh = format!(
        "    host = \"127.0.0.1\"\n    port = {}\n    host_key = \"{}\"\n    timeout = \"2s\"\n{}",
        wire.port,
        machine.host_key(),
        private_key(&machine.key("id"))
    );
    terraform.configure(&of_agent(&ssh, &format!("  address = \"{}\"", machine.address)));
    let cuts = Cuts { machine, terraform, wire };
    cuts.wire.lets(u64::MAX);
    cuts.terraform.apply();
    let all = cuts.wire.gone();
    cuts.goes_on("no cut");

    // Greeting, keys, login, the look, each small file, through the program, its end, the script, the last word.
    let near = [40, 900, 2_000, 3_200, 4_500, 6_000, 9_000, 14_000, 20_000, 26_000];
    let from_end = [40_000, 12_000, 3_000, 1_200, 500, 150, 40];
    let points: Vec<u64> =
        near.into_iter().chain([all / 3, all / 2]).chain(from_end.map(|bytes| all - bytes)).collect();
    let (mut failed, mut done) = (0, 0);
    for bytes in &points {
        cuts.wire.lets(*bytes);
        let said = cuts.terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        // What is cut in the farewell may have come to its end.
        if said.code == 0 {
            assert!(all - bytes < 2_000, "cut after {bytes} of {all} bytes and nobody noticed:\n{}", said.text);
            done += 1;
        } else {
            assert_eq!(said.text.matches("Error: ").count(), 1, "one diagnostic:\n{}", said.text);
            said.says(&["Cannot install the agent of 127.0.0.1", "pply again"]);
            assert!(cuts.terraform.resource("groundwork_agent.pi").is_null(), "nothing is recorded");
            failed += 1;
        }
        cuts.goes_on(&format!("cut after {bytes} of {all} bytes"));
    }
    eprintln!(
        "an installation sends {all} bytes; cut at {} places: {failed} applies failed, {done} were through, all went on",
        points.len()
    );
    assert!(failed >= 14, "{failed}");

    // Ctrl-C while the program is sent, and a provider that is killed there.
    let half = || cuts.wire.gone() > all / 2;
    cuts.wire.lets(u64::MAX);
    cuts.terraform.interrupted(half).exits(1).says(&["Stopped on request"]);
    cuts.goes_on("Ctrl-C");
    cuts.wire.lets(u64::MAX);
    cuts.terraform.killed(half);
    cuts.goes_on("a killed provider");

    // What runs on the machine by then goes on without a provider: the next apply comes while it still works, and waits for it.
    cuts.machine.must(SLOW_SYSTEMCTL);
    cuts.terraform.killed(|| !cuts.machine.must("pgrep -f [i]nstall/install.sh || true").is_empty());
    cuts.machine.must("rm /usr/local/sbin/systemctl; test -f /var/lib/groundwork/install/install.sh");
    cuts.goes_on("an installation that goes on by itself");
    cuts.machine.end();
}
