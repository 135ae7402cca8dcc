//! From one CA to another, cut off anywhere.

use super::*;
use crate::agents::{Goal, renew, rotate};
use rustls::pki_types::UnixTime;

fn authority(dir: &tempfile::TempDir) -> Authority {
    Authority::from_dir(dir.path()).unwrap()
}

fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pki::init(dir.path()).unwrap();
    dir
}

/// Whether an administrator with this CA is let in.
async fn reached(dir: &tempfile::TempDir, endpoint: &Endpoint) -> bool {
    Agents::new(Some(authority(dir))).connect(endpoint, Role::Admin, &soon()).await.is_ok()
}

#[tokio::test]
async fn machines_go_over_to_another_ca_step_by_step() {
    let (operator, folder, new) = (Operator::new(), tempfile::tempdir().unwrap(), root());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let machines = [endpoint.clone()];
    let go = async |goal| {
        let pair = (authority(&operator.dir), authority(&new));
        rotate(pair, &machines, goal, &|_| ()).await.unwrap()
    };
    assert_eq!((reached(&operator.dir, &endpoint).await, reached(&new, &endpoint).await), (true, false));
    assert_eq!(go(Goal::Both).await, 0);
    assert_eq!((reached(&operator.dir, &endpoint).await, reached(&new, &endpoint).await), (true, true));
    let known = Agents::new(Some(authority(&new))).identify(&endpoint.address, UUID, &soon()).await.unwrap();
    assert_eq!(known, endpoint, "its certificate is the new CA's");
    // After a restart both count still.
    drop(agent);
    let agent = start(folder.path(), &operator).await;
    let endpoint = Endpoint { address: agent.address.clone(), ..endpoint };
    assert_eq!((reached(&operator.dir, &endpoint).await, reached(&new, &endpoint).await), (true, true));
    let machines = [endpoint.clone()];
    for _ in 0..2 {
        let pair = (authority(&operator.dir), authority(&new));
        assert_eq!(rotate(pair, &machines, Goal::New, &|_| ()).await.unwrap(), 0, "again is no harm");
    }
    assert_eq!((reached(&operator.dir, &endpoint).await, reached(&new, &endpoint).await), (false, true));
}

#[tokio::test]
async fn while_one_machine_is_away_nobody_loses_the_old_ca() {
    let (operator, folder, new) = (Operator::new(), tempfile::tempdir().unwrap(), root());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Endpoint { address: listener.local_addr().unwrap().to_string(), ..endpoint.clone() };
    drop(listener);
    let failed =
        rotate((authority(&operator.dir), authority(&new)), &[gone, endpoint.clone()], Goal::New, &|_| ()).await;
    assert_eq!(failed.unwrap(), 1);
    assert_eq!((reached(&operator.dir, &endpoint).await, reached(&new, &endpoint).await), (true, true));
}

#[tokio::test]
async fn an_agent_lets_nobody_lock_himself_out() {
    let (operator, folder, new) = (Operator::new(), tempfile::tempdir().unwrap(), root());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let mut called = operator.agents.connect(&endpoint, Role::Admin, &soon()).await.unwrap();
    let certificates = authority(&new).anchors().iter().map(|der| der.to_vec()).collect();
    let request = agent_proto::v1::ReplaceAuthoritiesRequest { certificates };
    let asked =
        called.0.ask("ReplaceAuthorities", |mut client| async move { client.replace_authorities(request).await });
    let refused = asked.await.unwrap_err();
    assert!(refused.to_string().contains("would lock itself out"), "{refused}");
    assert!(reached(&operator.dir, &endpoint).await);
}

#[tokio::test]
async fn a_certificate_that_is_due_is_replaced_before_anything_is_applied() {
    let (operator, folder, new) = (Operator::new(), tempfile::tempdir().unwrap(), root());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let both = operator.authority().anchors().iter().chain(authority(&new).anchors()).cloned().collect::<Vec<_>>();
    let mut called = operator.agents.connect(&endpoint, Role::Admin, &soon()).await.unwrap();
    let request =
        agent_proto::v1::ReplaceAuthoritiesRequest { certificates: both.iter().map(|der| der.to_vec()).collect() };
    let asked =
        called.0.ask("ReplaceAuthorities", |mut client| async move { client.replace_authorities(request).await });
    asked.await.unwrap();
    let agents = Agents::new(Some(authority(&new)));
    assert!(matches!(agents.identify(&endpoint.address, UUID, &soon()).await, Err(Error::NotEnrolled { .. })));
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let wait = Wait { deadline: Instant::now() + Duration::from_secs(20), stop: &stop, progress: &progress };
    agents.run(&endpoint, &Job::Apply(Box::default()), &wait).await.unwrap();
    assert_eq!(agents.identify(&endpoint.address, UUID, &soon()).await.unwrap(), endpoint);
}

/// The key that serves at this address.
async fn key_at(operator: &Operator, endpoint: &Endpoint) -> String {
    let dialled = dial(operator.authority(), Role::Admin, &endpoint.address, &soon()).await.unwrap();
    trust::Pin::of(&dialled.public_key).to_string()
}

async fn renewed(operator: &Operator, endpoint: &Endpoint) {
    let failed = renew(authority(&operator.dir), std::slice::from_ref(endpoint), &|_| ()).await;
    assert_eq!(failed.unwrap(), 0);
}

#[tokio::test]
async fn a_machine_with_another_key_is_known_by_the_one_before_and_not_taken_back() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let before = tempfile::tempdir().unwrap();
    std::fs::create_dir(before.path().join("identity")).unwrap();
    for file in std::fs::read_dir(folder.path().join("identity")).unwrap().flatten() {
        std::fs::copy(file.path(), before.path().join("identity").join(file.file_name())).unwrap();
    }
    for _ in 0..2 {
        let key = key_at(&operator, &endpoint).await;
        renewed(&operator, &endpoint).await;
        assert_ne!(key_at(&operator, &endpoint).await, key);
        operator.agents.connect(&endpoint, Role::Operator, &soon()).await.unwrap();
        let found = operator.agents.identify(&endpoint.address, UUID, &soon()).await.unwrap();
        assert_eq!(found, endpoint, "known as ever");
    }
    drop(agent);
    let agent = start(folder.path(), &operator).await;
    let again = Endpoint { address: agent.address.clone(), ..endpoint.clone() };
    operator.agents.connect(&again, Role::Operator, &soon()).await.unwrap();
    // Who kept the first key, or a machine that was set back to it.
    let old = start(before.path(), &operator).await;
    let old = Endpoint { address: old.address.clone(), ..endpoint.clone() };
    let refused = operator.agents.connect(&old, Role::Operator, &soon()).await.err().unwrap();
    assert!(matches!(refused, Error::OldKey { .. }), "{refused}");
    assert!(refused.to_string().contains(&operator.agents.latest_key(&endpoint.fingerprint).unwrap()), "{refused}");
    let ignorant = Agents::new(Some(authority(&operator.dir)));
    ignorant.connect(&old, Role::Operator, &soon()).await.unwrap();
    ignorant.recall_key(&endpoint.fingerprint, &operator.agents.latest_key(&endpoint.fingerprint).unwrap());
    assert!(ignorant.connect(&old, Role::Operator, &soon()).await.is_err(), "what was noted counts");
}

#[tokio::test]
async fn a_key_that_has_served_its_time_is_replaced_before_anything_is_applied() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let first = key_at(&operator, &endpoint).await;
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let apply = async |endpoint: &Endpoint| {
        let wait = Wait { deadline: Instant::now() + Duration::from_secs(20), stop: &stop, progress: &progress };
        // A provider of its own: one looks once.
        let agents = Agents::new(Some(authority(&operator.dir)));
        agents.run(endpoint, &Job::Apply(Box::default()), &wait).await.unwrap();
    };
    apply(&endpoint).await;
    assert_eq!(key_at(&operator, &endpoint).await, first, "it is new");
    drop(agent);
    let since = folder.path().join("identity/key-since");
    std::fs::write(&since, (UnixTime::now().as_secs() - 6 * 365 * 86_400).to_string()).unwrap();
    let agent = start(folder.path(), &operator).await;
    let endpoint = Endpoint { address: agent.address.clone(), ..endpoint };
    apply(&endpoint).await;
    let second = key_at(&operator, &endpoint).await;
    assert_ne!(second, first);
    apply(&endpoint).await;
    assert_eq!(key_at(&operator, &endpoint).await, second, "once");
}
