//! What a change will do.

use super::*;
use model::{GuestAgent, Ssh};
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
    assert!(!AgentResource.validate(&in_vm()).has_errors());
    let both = Agent { ssh: agent("pi").ssh, ..in_vm() };
    assert!(AgentResource.validate(&both).has_errors());
    assert!(!AgentResource.validate(&Agent { ssh: Attr::Unknown, ..Agent::default() }).has_errors());
}

fn in_vm() -> Agent {
    let vm = Value::Map([("vmid".to_owned(), Value::from(120_i64))].into());
    let guest: GuestAgent = tf::load(&vm).unwrap();
    Agent { ssh: Attr::Null, guest_agent: guest.into(), ..agent("192.0.2.7") }
}

#[test]
fn where_the_guest_agent_sees_a_vm_is_no_difference_of_a_plan() {
    let prior = in_vm();
    assert_eq!(prior.name(), "VM 120");
    assert_eq!(planned(&prior, &prior), prior);
    let placed = Agent { address: "vm.lab".into(), ..prior.clone() };
    let endpoint = planned(&prior, &placed).endpoint;
    assert_eq!(endpoint.get().and_then(|endpoint| endpoint.address.cloned()).as_deref(), Some("vm.lab:7443"));
    assert_eq!(planned(&placed, &prior).endpoint, prior.endpoint, "it stays until it gives no answer");
    let places = prior.places(vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]);
    assert_eq!(places, ["192.0.2.7:7443", "[2001:db8::7]:7443"]);
}

#[test]
fn another_vm_is_another_machine() {
    let replaced = |vmid: Value, address: Attr<String>| {
        let vm = Value::Map([("vmid".to_owned(), vmid)].into());
        let prior = Agent { address, ..in_vm() };
        let mut m = Agent { guest_agent: tf::load::<GuestAgent>(&vm).unwrap().into(), ..prior.clone() };
        let mut notes = PlanNotes::new(true);
        AgentResource.plan(Some(&prior), &m.clone(), &mut m, &mut notes);
        notes.replacing().to_vec()
    };
    let at = [Path::from("guest_agent").name("vmid")];
    assert_eq!(replaced(Value::from(121_i64), Attr::Null), at);
    assert_eq!(replaced(Value::Unknown, Attr::Null), at);
    assert!(replaced(Value::from(120_i64), Attr::Null).is_empty());
    assert!(replaced(Value::from(121_i64), "vm.lab".into()).is_empty(), "the address says which machine");
}
