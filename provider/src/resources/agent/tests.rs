//! What a change will do.

use super::*;
use model::Ssh;
use tf::{Model, Value};

fn agent(host: &str) -> Agent {
    let ssh: Ssh = tf::load(&Value::Map([("host".to_owned(), Value::from(host))].into())).unwrap();
    let endpoint = AgentEndpoint { address: format!("{host}:7443").into(), fingerprint: "sha256:aa".into() };
    Agent {
        id: "sha256:aa".into(),
        ssh: ssh.into(),
        endpoint: endpoint.into(),
        drift: Vec::new().into(),
        ..Agent::default()
    }
}

fn planned(prior: &Agent, wanted: &Agent) -> Agent {
    let mut m = wanted.clone();
    AgentResource.plan(Some(prior), wanted, &mut m, &mut PlanNotes::new(true));
    m
}

#[test]
fn a_change_of_the_way_in_changes_nothing_else() {
    let prior = agent("pi");
    let mut wanted = prior.clone();
    let mut rows = wanted.ssh.get_mut().unwrap().rows();
    assert!(rows.len() > 15);
    rows.clear();
    drop(rows);
    assert_eq!(planned(&prior, &wanted), prior);
}

#[test]
fn another_address_is_known_before_and_another_port_after_the_apply() {
    let prior = agent("pi");
    let wanted = Agent { address: "pi.lab".into(), ..prior.clone() };
    let endpoint = planned(&prior, &wanted).endpoint;
    assert_eq!(endpoint.get().and_then(|endpoint| endpoint.address.cloned()).as_deref(), Some("pi.lab:7443"));
    for wanted in [
        Agent { port: 7000.into(), ..prior.clone() },
        Agent { allow_from: vec!["192.0.2.1".to_owned()].into(), ..prior.clone() },
    ] {
        assert!(planned(&prior, &wanted).endpoint.is_unknown());
    }
}

#[test]
fn what_was_found_in_its_place_is_repaired() {
    let prior = Agent { drift: vec!["another key".to_owned()].into(), ..agent("pi") };
    let m = planned(&prior, &prior);
    assert!(m.endpoint.is_unknown() && m.id.is_unknown() && m.drift == Attr::Known(Vec::new()));
}

#[test]
fn there_is_exactly_one_way_in() {
    assert!(AgentResource.validate(&Agent::default()).has_errors());
    assert!(!AgentResource.validate(&agent("pi")).has_errors());
    assert!(!AgentResource.validate(&Agent { ssh: Attr::Unknown, ..Agent::default() }).has_errors());
}
