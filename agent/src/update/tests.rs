//! An update cut off at every moment, and a new program that fails in every way: the machine has a working agent all along.

use super::*;
use crate::host::fake::Fake;
use std::sync::Arc;

const UNIT_FILE: &str = "/etc/systemd/system/groundwork-agent.service";

fn program(text: &str, version: &str) -> Program {
    let sha256 = program::digest(text.as_bytes());
    let mut incoming = Program::announced(version, &sha256, text.len().try_into().unwrap()).unwrap();
    incoming.take(text.as_bytes()).unwrap();
    incoming.whole().unwrap()
}

fn newer() -> Program {
    program("agent 0.2.0", "0.2.0")
}

/// A machine as a seed leaves it.
fn seeded() -> Arc<Fake> {
    let host = Arc::new(Fake::template());
    host.put(BIN, "agent 0.1.0");
    host.put(UNIT_FILE, "[Service]\nExecStart=/usr/local/bin/groundwork-agent serve\n");
    host
}

/// One that was updated before.
async fn updated_before() -> Arc<Fake> {
    let host = seeded();
    install(&*host, &program("agent 0.1.5", "0.1.5")).await.unwrap();
    start(&host).await;
    reached(&host).await;
    assert_eq!(runs(&host), "0.1.5");
    host
}

/// The program that systemd would start, and its text.
fn stands(host: &Fake) -> (String, String) {
    let path = match host.stat(BIN).unwrap().expect("something stands there").kind {
        Kind::Link(to) => to,
        _ => BIN.to_owned(),
    };
    let text = host.text(&path).unwrap_or_else(|| panic!("{path} is not there"));
    (path, text)
}

/// The version that runs after a start. Only what was checked can stand there.
fn runs(host: &Fake) -> String {
    stands(host).1.strip_prefix("agent ").expect("an agent").to_owned()
}

/// A start as the unit makes it: the fallback looks first, if there is one.
async fn start(host: &Fake) -> Trial {
    if host.has(FALLBACK) {
        guard(host).await.unwrap();
    }
    Trial::of(host, &stands(host).0).unwrap()
}

/// A client of the program that now runs.
async fn reached(host: &Fake) {
    start(host).await.passed(host).await;
}

#[tokio::test]
async fn an_update_that_is_reached_stays() {
    for host in [seeded(), updated_before().await] {
        let before = runs(&host);
        replace(&*host, &newer()).await.unwrap();
        assert!(host.log().iter().any(|line| line.contains("systemctl restart groundwork-agent.service")));
        let trial = start(&host).await;
        assert_eq!(runs(&host), "0.2.0");
        assert!(host.log().iter().any(|line| line.contains("--on-active=120") && line.ends_with("revert")));
        trial.passed(&*host).await;
        assert!(!host.has(NOTE) && !host.has(FALLBACK));
        assert!(host.text(UNIT_FILE).unwrap().contains("ExecStartPre="), "the unit is the new agent's");
        for _ in 0..5 {
            start(&host).await;
        }
        revert(&*host).await.unwrap();
        assert_eq!(runs(&host), "0.2.0");
        assert_eq!(failed(&*host).unwrap(), None);
        let kept = host.list(FOLDER).unwrap();
        assert_eq!(kept.len(), 2, "the new one and the one before, {before}: {kept:?}");
    }
}

#[tokio::test]
async fn a_program_that_does_not_come_up_is_taken_back_at_its_third_start() {
    let host = updated_before().await;
    replace(&*host, &newer()).await.unwrap();
    for _ in 0..2 {
        start(&host).await;
        assert_eq!(runs(&host), "0.2.0");
    }
    start(&host).await;
    assert_eq!(runs(&host), "0.1.5");
    let failed = failed(&*host).unwrap().unwrap();
    assert_eq!(
        (failed.version.as_str(), failed.why.as_str()),
        ("0.2.0", "it was started 2 times and nobody reached it")
    );
    reached(&host).await;
    assert_eq!(runs(&host), "0.1.5");
    // And it may be tried again.
    replace(&*host, &newer()).await.unwrap();
    assert_eq!(super::failed(&*host).unwrap(), None);
    reached(&host).await;
    assert_eq!(runs(&host), "0.2.0");
}

#[tokio::test]
async fn a_program_that_nobody_reaches_is_taken_back_in_time() {
    let host = seeded();
    replace(&*host, &newer()).await.unwrap();
    start(&host).await;
    host.log();
    revert(&*host).await.unwrap();
    assert_eq!(runs(&host), "0.1.0");
    assert_eq!(host.log(), ["/usr/bin/systemctl restart groundwork-agent.service"]);
    assert!(failed(&*host).unwrap().unwrap().why.contains("within 120 seconds"));
}

#[tokio::test]
async fn the_old_program_does_not_pass_the_trial_of_the_new_one() {
    let host = updated_before().await;
    let old = start(&host).await;
    replace(&*host, &newer()).await.unwrap();
    // A call that comes before the restart.
    old.passed(&*host).await;
    assert!(host.has(NOTE) && host.has(FALLBACK));
}

#[tokio::test]
async fn what_does_not_run_here_is_not_put_in_place() {
    let host = seeded();
    for (text, version, why) in
        [("not for this machine", "0.2.0", "126"), ("agent 0.3.0", "0.2.0", "it says that it is \"0.3.0\", not 0.2.0")]
    {
        let refused = replace(&*host, &program(text, version)).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(host.list(FOLDER).unwrap(), [""; 0]);
        assert_eq!(stands(&host), (BIN.to_owned(), "agent 0.1.0".to_owned()));
    }
}

#[tokio::test]
async fn what_is_not_ours_is_not_replaced() {
    let host = seeded();
    host.link(BIN, "/opt/agent");
    let refused = replace(&*host, &newer()).await.unwrap_err().to_string();
    assert!(refused.contains("it is a link to /opt/agent"), "{refused}");
}

#[tokio::test]
async fn a_packages_program_is_kept_where_a_removed_package_does_not_take_it() {
    let host = seeded();
    host.put("/usr/bin/groundwork-agent", "agent 0.1.0");
    host.link(BIN, "/usr/bin/groundwork-agent");
    replace(&*host, &newer()).await.unwrap();
    assert_eq!(stands(&host).1, "agent 0.2.0");
    let Some(Kind::Link(fallback)) = host.stat(FALLBACK).unwrap().map(|stat| stat.kind) else { panic!("a fallback") };
    assert!(fallback.starts_with(FOLDER), "{fallback}");
    assert_eq!(host.text(&fallback).unwrap(), "agent 0.1.0");
}

/// What happens to a machine, one after the other; each may be cut off after any of its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Replace,
    Start,
    Reached,
    Revert,
}

async fn act(host: &Fake, act: Act) {
    // What is cut off fails; nobody is there to hear of it.
    match act {
        Act::Replace => drop(replace(host, &newer()).await),
        Act::Start => drop(guard_of(host).await),
        Act::Reached => Trial::of(host, &stands(host).0).unwrap().passed(host).await,
        Act::Revert => drop(revert(host).await),
    }
}

async fn guard_of(host: &Fake) -> Result<(), HostError> {
    if host.has(FALLBACK) { guard(host).await } else { Ok(()) }
}

#[tokio::test]
async fn a_cut_at_every_moment_leaves_an_agent_that_works() {
    use Act::{Reached, Replace, Revert, Start};
    let stories: [&[Act]; 5] = [
        &[Replace, Start, Reached],
        &[Replace, Start, Start, Start],
        &[Replace, Start, Revert, Start],
        &[Replace, Revert],
        &[Replace, Replace, Start, Reached],
    ];
    let mut cases = 0;
    for before in [false, true] {
        for story in stories {
            for at in 0..story.len() {
                for cut in 0.. {
                    let host = if before { updated_before().await } else { seeded() };
                    let old = runs(&host);
                    for (index, step) in story.iter().enumerate().take(at + 1) {
                        host.die_after((index == at).then_some(cut));
                        act(&host, *step).await;
                    }
                    let whole = host.die_after_left() != Some(0);
                    host.die_after(None);
                    cases += 1;
                    check_life(&host, &old, &format!("{story:?}, {at}, cut {cut}")).await;
                    if whole {
                        break;
                    }
                }
            }
        }
    }
    assert!(cases > 150, "{cases} cases");
}

/// From here on: some agent starts; if the new one never works, the old one is back after three starts; and another update works.
async fn check_life(host: &Arc<Fake>, old: &str, case: &str) {
    let works = runs(host);
    assert!(works == old || works == "0.2.0", "{case}: {works}");
    let passed = !host.has(NOTE) && works == "0.2.0";
    for _ in 0..3 {
        guard_of(host).await.unwrap();
    }
    assert_eq!(runs(host), if passed { "0.2.0" } else { old }, "{case}");
    replace(&**host, &newer()).await.unwrap();
    reached(host).await;
    assert_eq!(runs(host), "0.2.0", "{case}");
    assert!(!host.has(NOTE) && !host.has(FALLBACK), "{case}");
}
