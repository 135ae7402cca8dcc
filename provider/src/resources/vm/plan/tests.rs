//! Validation and plans of `groundwork_vm` as tables.

use super::plan;
use super::validate::validate;
use crate::endpoint::AgentEndpoint;
use crate::resources::vm::cards::Network;
use crate::resources::vm::disks::Disk;
use crate::resources::vm::model::{Agent, Clone, CloudInit, Interface, Route, Vm};
use crate::resources::vm::notes::noted::{Noted, note};
use crate::resources::vm::notes::{announced, slots};
use crate::resources::vm::options::Options;
use std::collections::{BTreeMap, BTreeSet};
use tf::{Attr, PlanNotes};

fn vm() -> Vm {
    let disk = Disk {
        storage: "local-lvm".into(),
        size_gib: 4.into(),
        volume: "local-lvm:vm-100-disk-0".into(),
        ..Disk::default()
    };
    let interface = Interface { address: "192.0.2.11/24".into(), ..Interface::default() };
    let network = BTreeMap::from([("net0".to_owned(), interface)]);
    Vm {
        id: "pve1/100".into(),
        node: "pve1".into(),
        current_node: "pve1".into(),
        name: "one".into(),
        options: Options { cores: 2.into(), ..Options::default() },
        image: "local:import/d.qcow2".into(),
        started: true.into(),
        reboot: true.into(),
        disk: BTreeMap::from([("scsi0".to_owned(), disk)]).into(),
        network: BTreeMap::from([("net0".to_owned(), Network { bridge: "vmbr0".into(), ..Network::default() })]).into(),
        cloud_init: CloudInit { network: network.into(), ..CloudInit::default() }.into(),
        agent: Agent::default().into(),
        endpoint: AgentEndpoint { address: "192.0.2.11:7443".into(), ..AgentEndpoint::default() }.into(),
        waiting: Vec::new().into(),
        effects: Vec::new().into(),
        ..Vm::default()
    }
}

fn disk(m: &mut Vm, slot: &str, change: impl Fn(&mut Disk)) {
    change(m.disk.get_mut().unwrap().entry(slot.to_owned()).or_default());
}

fn interface(m: &mut Vm, change: impl Fn(&mut Interface)) {
    let cloud_init = m.cloud_init.get_mut().unwrap();
    change(cloud_init.network.get_mut().unwrap().get_mut("net0").unwrap());
}

#[track_caller]
fn invalid(change: impl Fn(&mut Vm), at: &[&str]) {
    let mut m = vm();
    change(&mut m);
    let found = validate(&m);
    let paths: Vec<String> = found.iter().filter_map(|one| Some(one.path()?.to_string())).collect();
    assert_eq!(paths, at);
}

#[test]
fn every_contradiction_names_its_attribute() {
    invalid(|_| {}, &[]);
    invalid(
        |m| {
            m.image = Attr::Null;
            m.disk = Attr::Null;
            m.options.firmware.set("ovmf");
        },
        &["efi_storage"],
    );
    invalid(|m| m.clone.set(Clone { vmid: 900.into(), ..Clone::default() }), &["clone"]);
    invalid(
        |m| {
            m.image = Attr::Null;
            m.clone.set(Clone::default());
        },
        &["clone"],
    );
    invalid(|m| m.disk = Attr::Null, &["disk"]);
    invalid(|m| m.cloud_init.get_mut().unwrap().slot.set("scsi0"), &["disk[\"scsi0\"]"]);
    invalid(|m| disk(m, "virtio0", |disk| disk.ssd.set(true)), &["disk[\"virtio0\"].ssd"]);
    invalid(|m| disk(m, "sata0", |disk| disk.iothread.set(true)), &["disk[\"sata0\"].iothread"]);
    invalid(|m| m.network.set(BTreeMap::new()), &["cloud_init.network[\"net0\"]"]);
    invalid(|m| interface(m, |i| i.gateway6.set("fd00::1")), &["cloud_init.network[\"net0\"].gateway6"]);
    let gateway = &["cloud_init.network[\"net0\"].gateway"];
    invalid(|m| interface(m, |i| i.gateway.set("192.0.2.11")), gateway);
    invalid(|m| interface(m, |i| i.address.set("dhcp")), &["agent"]);
    invalid(
        |m| {
            m.options.guest_agent.set(true);
            interface(m, |i| (i.address, i.gateway) = ("dhcp".into(), "192.0.2.1".into()));
        },
        gateway,
    );
    let route = || Route { via: "fd00::1".into(), ..Route::default() };
    invalid(
        |m| interface(m, |i| i.route.set(BTreeMap::from([("198.51.100.0/24".to_owned(), route())]))),
        &["cloud_init.network[\"net0\"].route[\"198.51.100.0/24\"].via"],
    );
    second_card_with_a_gateway(None, &["cloud_init.network[\"net1\"].gateway"]);
    second_card_with_a_gateway(Some(200), &[]);
    invalid(|m| m.cloud_init = Attr::Null, &["agent"]);
    invalid(
        |m| {
            m.cloud_init = Attr::Null;
            m.options.guest_agent.set(true);
        },
        &[],
    );
}

#[track_caller]
fn second_card_with_a_gateway(metric: Option<i64>, at: &[&str]) {
    let second = Interface {
        address: "10.78.0.11/24".into(),
        gateway: "10.78.0.1".into(),
        metric: metric.map_or(Attr::Null, Attr::from),
        ..Interface::default()
    };
    invalid(
        |m| {
            interface(m, |i| i.gateway.set("192.0.2.1"));
            m.network.get_mut().unwrap().insert("net1".to_owned(), Network::default());
            m.cloud_init.get_mut().unwrap().network.get_mut().unwrap().insert("net1".to_owned(), second.clone());
        },
        at,
    );
}

#[test]
fn what_is_unknown_is_asked_later() {
    invalid(|m| m.cloud_init = Attr::Unknown, &[]);
    invalid(|m| interface(m, |i| i.address = Attr::Unknown), &[]);
    invalid(|m| m.disk = Attr::Unknown, &[]);
}

#[track_caller]
fn replaces(change: impl Fn(&mut Vm), at: &[&str]) {
    let (prior, mut m, mut notes) = (vm(), vm(), PlanNotes::new(true));
    change(&mut m);
    plan(Some(&prior), &m.clone(), &mut m, &mut notes);
    let paths: Vec<String> = notes.replacing().iter().map(ToString::to_string).collect();
    assert_eq!(paths, at);
}

#[test]
fn some_changes_need_a_new_machine() {
    replaces(|m| m.options.cores.set(4), &[]);
    replaces(|m| m.node.set("pve2"), &["node"]);
    replaces(|m| disk(m, "scsi0", |disk| disk.storage.set("data")), &["disk[\"scsi0\"].storage"]);
    replaces(|m| disk(m, "scsi1", |disk| disk.storage.set("data")), &[]);
}

#[test]
fn an_agent_comes_with_the_first_boot_of_a_machine_that_never_had_one() {
    let given_to = |prior: Vm| {
        let (mut m, mut notes) = (Vm { agent: Agent::default().into(), ..prior.clone() }, PlanNotes::new(true));
        plan(Some(&prior), &m.clone(), &mut m, &mut notes);
        notes.replacing().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let without = || Vm { agent: Attr::Null, endpoint: Attr::Null, ..vm() };
    assert_eq!(given_to(without()), ["agent"]);
    assert_eq!(given_to(Vm { image: Attr::imported(), ..without() }), [""; 0]);
    // The block was taken away, and the agent stayed.
    assert_eq!(given_to(Vm { endpoint: vm().endpoint, ..without() }), [""; 0]);
}

#[test]
fn a_vm_that_was_moved_is_where_the_configuration_then_says() {
    let prior = Vm { current_node: "pve2".into(), ..vm() };
    let (mut m, mut notes) = (Vm { node: "pve2".into(), ..prior.clone() }, PlanNotes::new(true));
    plan(Some(&prior), &m.clone(), &mut m, &mut notes);
    assert!(notes.replacing().is_empty());
}

#[test]
fn a_disk_cannot_shrink() {
    let told = |change: fn(&mut Vm)| {
        let (prior, mut m, mut notes) = (vm(), vm(), PlanNotes::new(true));
        disk(&mut m, "scsi0", |disk| disk.size_gib.set(3));
        change(&mut m);
        plan(Some(&prior), &m.clone(), &mut m, &mut notes);
        // An error would stand in the way of destroying the machine, and of making it anew.
        assert!(!notes.diagnostics().has_errors());
        let found = notes.diagnostics().iter().map(|one| (one.path().map(ToString::to_string), one.detail()));
        (found.collect::<Vec<_>>(), m.effects.cloned().unwrap_or_default())
    };
    let (said, effects) = told(|_| {});
    assert_eq!(said[0].0.as_deref(), Some("disk[\"scsi0\"].size_gib"));
    assert!(said[0].1.contains("cannot shrink") && effects[0].contains("4 -> 3: refused"), "{said:?} {effects:?}");

    // A new machine has new disks.
    let (said, _) = told(|m| m.node.set("pve2"));
    assert!(said.iter().all(|(path, _)| path.is_none()), "{said:?}");
}

#[test]
fn no_machine_is_replaced_where_none_can_be_made() {
    let planned = |node: &str| {
        let (prior, mut m, mut notes) = (vm(), vm(), PlanNotes::new(true));
        Noted::with_nodes(&[("pve1", true), ("pve2", true), ("pve3", false)]).keep(notes.private());
        m.node.set(node);
        // Nothing else replaces it either.
        disk(&mut m, "scsi0", |disk| disk.storage.set("data"));
        plan(Some(&prior), &m.clone(), &mut m, &mut notes);
        assert!(!notes.diagnostics().has_errors());
        let said: String =
            notes.diagnostics().iter().map(|one| format!("{} {}", one.summary(), one.detail())).collect();
        (notes.replacing().len(), said, m.effects.cloned().unwrap_or_default())
    };
    let (replacing, said, _) = planned("pve2");
    assert!(
        replacing == 2 && said.contains("VM pve1/100 will be replaced") && said.contains("scsi0: all its data"),
        "{said}"
    );
    for (node, why) in [("pve3", "Node pve3 is offline"), ("pve7", "has no node pve7; it has pve1, pve2, pve3")] {
        let (replacing, said, effects) = planned(node);
        assert!(replacing == 0 && said.contains(why), "{said}");
        assert!(effects.len() == 1 && effects[0].starts_with(&format!("node: pve1 -> {node}: refused")), "{effects:?}");
    }
}

#[test]
fn a_card_that_somebody_took_away_comes_back_with_its_address() {
    let notes = || {
        let notes = PlanNotes::new(true);
        let there = serde_json::json!([{"key": "net0", "value": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}]);
        note(notes.private(), &serde_json::from_value(there).unwrap(), &BTreeMap::new());
        notes
    };
    let prior = Vm { network: BTreeMap::new().into(), ..vm() };
    let mac = |config: &Vm| {
        let mut m = config.clone();
        m.network
            .get_mut()
            .unwrap()
            .values_mut()
            .filter(|card| card.mac.is_null())
            .for_each(|card| card.mac = Attr::Unknown);
        plan(Some(&prior), config, &mut m, &mut notes());
        m.network.get().unwrap()["net0"].mac.cloned()
    };
    assert_eq!(mac(&vm()).as_deref(), Some("BC:24:11:00:00:01"));
    let mut given = vm();
    given.network.get_mut().unwrap().get_mut("net0").unwrap().mac.set("BC:24:11:00:00:02");
    assert_eq!(mac(&given).as_deref(), Some("BC:24:11:00:00:02"));
}

#[test]
fn a_removal_that_waits_is_drift() {
    let leaving = |notes: &PlanNotes| {
        let there = serde_json::json!([{"key": "scsi0", "value": "s:v,size=4G", "delete": 2}]);
        note(notes.private(), &serde_json::from_value(there).unwrap(), &BTreeMap::new());
    };
    let prior = Vm { waiting: vec!["scsi0".to_owned()].into(), ..vm() };
    // Somebody else's: the configuration wants the disk.
    let (mut m, mut notes) = (prior.clone(), PlanNotes::new(false));
    leaving(&notes);
    plan(Some(&prior), &vm(), &mut m, &mut notes);
    assert!(m.waiting.is_unknown());
    assert_eq!(
        m.effects.need().unwrap(),
        &["disk.scsi0: its removal, which waits for a power cycle, is taken back: live"]
    );
    // Our own, left by an apply that could not reboot.
    let (mut m, mut notes) = (Vm { disk: BTreeMap::new().into(), ..prior.clone() }, PlanNotes::new(true));
    leaving(&notes);
    slots::plan(notes.private(), &vm());
    slots::begun(notes.private());
    plan(Some(&prior), &m.clone(), &mut m, &mut notes);
    let line = "disk.scsi0: goes, with all its data: needs a reboot, which this apply makes";
    assert_eq!(m.effects.need().unwrap(), &[line]);
    assert!(announced::is(notes.private()));
}

#[test]
fn an_imported_vm_gets_no_agent_and_the_plan_says_so() {
    let warnings = |prior: &Vm| {
        let (mut m, mut notes) = (prior.clone(), PlanNotes::new(false));
        plan(Some(prior), &vm(), &mut m, &mut notes);
        notes.diagnostics().iter().map(|one| one.path().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&Vm { image: Attr::imported(), endpoint: Attr::Null, ..vm() }), ["agent"]);
    assert_eq!(warnings(&Vm { image: Attr::imported(), ..vm() }), [""; 0]);
}

#[test]
fn spelling_is_no_change() {
    let tagged = |tags: [&str; 2]| Options {
        tags: tags.map(str::to_owned).into_iter().collect::<BTreeSet<_>>().into(),
        ..vm().options
    };
    let prior = Vm { description: "text".into(), options: tagged(["a", "b"]), ..vm() };
    let mut m = Vm { description: "text\n".into(), options: tagged(["A", "b"]), ..vm() };
    let mut notes = PlanNotes::new(true);
    plan(Some(&prior), &m.clone(), &mut m, &mut notes);
    assert_eq!(m, prior);
}

#[test]
fn what_waits_is_applied_once_a_reboot_is_allowed() {
    let prior = Vm { waiting: vec!["cores".to_owned()].into(), reboot: false.into(), ..vm() };
    let mut m = Vm { reboot: true.into(), ..prior.clone() };
    plan(Some(&prior), &m.clone(), &mut m, &mut PlanNotes::new(true));
    assert!(m.waiting.is_unknown());
    assert_eq!(m.effects.need().unwrap().len(), 1);
    let mut still = prior.clone();
    plan(Some(&prior), &prior, &mut still, &mut PlanNotes::default());
    assert_eq!(still, prior, "nothing changes by itself");
}

#[test]
fn a_new_machine_is_known_beforehand_as_far_as_can_be() {
    let options = Options { cores: 3.into(), ..Options::default() };
    let config = Vm { options, name: "one".into(), ..Vm::default() };
    let mut m = Vm {
        options: Options { memory_mib: Attr::Unknown, ..config.options.clone() },
        image: Attr::Unknown,
        endpoint: Attr::Unknown,
        ..config.clone()
    };
    plan(None, &config, &mut m, &mut PlanNotes::new(true));
    assert_eq!((m.options.cores.get(), m.options.memory_mib.get()), (Some(&3), Some(&512)));
    assert!(m.image.is_null() && m.endpoint.is_null());
}

#[test]
fn what_is_not_known_yet_leaves_the_effects_open() {
    let config = Vm { description: Attr::Unknown, ..Vm::default() };
    let mut m = Vm { description: Attr::Unknown, ..vm() };
    plan(Some(&vm()), &config, &mut m, &mut PlanNotes::new(true));
    assert!(m.effects.is_unknown() && m.waiting.is_unknown());
    let options = Options { cores: 3.into(), ..Options::default() };
    let mut m = Vm { options: options.clone(), ..vm() };
    plan(Some(&vm()), &Vm { options, ..Vm::default() }, &mut m, &mut PlanNotes::new(true));
    assert!(m.effects.is_known());
}

/// What is not known yet is known at the apply, and Terraform then holds us to every line of the plan.
#[test]
fn a_plan_with_unknown_values_is_kept_when_they_are_known() {
    type Change = fn(&mut Vm, Option<bool>);
    fn to<T>(attr: &mut Attr<T>, known: Option<bool>, yes: T, no: T) {
        *attr = known.map_or(Attr::Unknown, |known| if known { yes } else { no }.into());
    }
    let changes: [(&str, Change); 8] = [
        ("reboot", |m, known| to(&mut m.reboot, known, true, false)),
        ("started", |m, known| to(&mut m.started, known, true, false)),
        ("cores", |m, known| to(&mut m.options.cores, known, 2, 8)),
        ("name", |m, known| to(&mut m.name, known, "one".to_owned(), "two".to_owned())),
        ("description", |m, known| to(&mut m.description, known, String::new(), "x".to_owned())),
        ("on_boot", |m, known| to(&mut m.options.on_boot, known, true, false)),
        ("node", |m, known| to(&mut m.node, known, "pve1".to_owned(), "pve2".to_owned())),
        ("disk", |m, known| disk(m, "scsi0", |disk| to(&mut disk.size_gib, known, 4, 5))),
    ];
    let planned = |change: Change, known: Option<bool>| {
        let (prior, mut config) = (vm(), vm());
        config.options.memory_mib.set(4096);
        change(&mut config, known);
        let mut m = config.clone();
        plan(Some(&prior), &config, &mut m, &mut PlanNotes::new(true));
        (m.effects, m.waiting)
    };
    for (name, change) in changes {
        let (effects, waiting) = planned(change, None);
        for known in [true, false] {
            let (after, waits) = planned(change, Some(known));
            assert!(effects.is_unknown() || effects == after, "{name}: {effects:?} was planned, now {after:?}");
            assert!(waiting.is_unknown() || waiting == waits, "{name}: {waiting:?} was planned, now {waits:?}");
        }
    }
}
