//! Agents that are being restarted while they are asked.

use super::*;
use crate::agents::again;
use std::sync::atomic::{AtomicU32, Ordering};

#[tokio::test]
async fn an_agent_that_refuses_connections_is_waited_for_and_one_that_does_not_run_is_given_up_once() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let away = Endpoint { address: address.clone(), ..endpoint };
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let listener = TcpListener::bind(&address).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(&agent.address).await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
    };
    let until = soon();
    tokio::select! {
        reached = operator.agents.connect(&away, Role::Observer, &until) => drop(reached.unwrap()),
        () = comes_back => panic!("hung up"),
    }
    let since = Instant::now();
    let ask = async || operator.agents.connect(&away, Role::Observer, &until).await.err().unwrap();
    let said = ask().await;
    assert!(said.is_unreachable() && since.elapsed() >= Duration::from_secs(5), "{said}");
    assert!(ask().await.is_unreachable() && since.elapsed() < Duration::from_secs(8), "patience is spent once");
    let advice = crate::explain::agent("look at machine a", &said).to_string();
    assert!(advice.contains("systemctl status groundwork-agent"), "{advice}");
}

#[tokio::test]
async fn a_question_whose_connection_is_cut_is_asked_again() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let (address, cut) = wire(&agent.address).await;
    let (endpoint, until, asked) = (Endpoint { address, ..endpoint }, soon(), AtomicU32::new(0));
    let said = again(|| async {
        let mut agent = operator.agents.connect(&endpoint, Role::Observer, &until).await?;
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            cut.notify_waiters();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        agent.describe().await
    });
    said.await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}
