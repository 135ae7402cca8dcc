//! From one CA to another, cut off anywhere.

use super::*;
use crate::agents::{Goal, rotate};

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
