//! Terraform stops, or a deadline passes, while a run is begun, followed or waited for.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn spec_job() -> Job {
    Job::Apply(Box::new(NodeSpec { hostname: Some("a".to_owned()), ..NodeSpec::default() }))
}

#[tokio::test]
async fn who_waits_for_the_run_of_another_does_not_end_it() {
    for stops in [false, true] {
        let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
        let (agent, endpoint) = enrolled(folder.path(), &operator).await;
        agent.host.gate.forget_permits(100);
        let job = spec_job();
        let second = async {
            while agent.runner.current().is_none() {
                tokio::task::yield_now().await;
            }
            let stop = CancellationToken::new();
            // It gives up as soon as it knows what it waits for: at its deadline, or because Terraform stops.
            let progress = |line: &str| {
                if stops && line.contains("waiting for run") {
                    stop.cancel();
                }
            };
            let time = Duration::from_millis(if stops { 20_000 } else { 300 });
            let wait = Wait { deadline: Instant::now() + time, stop: &stop, progress: &progress };
            let ended = operator.agents.run(&endpoint, &job, &wait).await;
            agent.host.gate.add_permits(100);
            ended
        };
        let (first, second) = tokio::join!(run(&operator, &endpoint, &job), second);
        // This machine takes no hostname, so that the run fails in the end; it must not have been cut off.
        let Err(Error::Run { failure, .. }) = first else { panic!("must fail: {first:?}") };
        assert!(!failure.cancelled, "{failure:?}");
        let expected =
            if stops { matches!(second, Err(Error::Stopped)) } else { matches!(second, Err(Error::Deadline { .. })) };
        assert!(expected, "{second:?}");
    }
}

#[tokio::test]
async fn nothing_is_begun_after_a_stop_and_an_early_stop_is_not_lost() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    agent.host.gate.forget_permits(100);
    let (job, deadline) = (spec_job(), Instant::now() + Duration::from_secs(20));
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    stop.cancel();
    let wait = Wait { deadline, stop: &stop, progress: &progress };
    assert!(matches!(operator.agents.run(&endpoint, &job, &wait).await, Err(Error::Stopped)));
    assert_eq!(agent.runner.current(), None);

    // Stopped as soon as the run exists, most likely before its first event has come.
    let stop = CancellationToken::new();
    let wait = Wait { deadline, stop: &stop, progress: &progress };
    let stopping = async {
        while agent.runner.current().is_none() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        tokio::time::sleep(Duration::from_millis(300)).await;
        agent.host.gate.add_permits(100);
    };
    let (ended, ()) = tokio::join!(operator.agents.run(&endpoint, &job, &wait), stopping);
    assert!(matches!(ended, Err(Error::Stopped)), "{ended:?}");
}

/// Passes bytes on, and nothing of what the agent says while `is_mute`.
async fn relay(agent: &str, is_mute: impl Fn() -> bool + Send + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, agent) = (listener.local_addr().unwrap().to_string(), agent.to_owned());
    tokio::spawn(async move {
        loop {
            let (near, far) = (listener.accept().await.unwrap().0, TcpStream::connect(&agent).await.unwrap());
            let (mut said, mut to_agent) = far.into_split();
            let (mut asked, mut to_provider) = near.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut asked, &mut to_agent).await });
            let is_mute = is_mute.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 4096];
                while let Ok(length @ 1..) = said.read(&mut chunk).await {
                    if !is_mute() {
                        to_provider.write_all(&chunk[..length]).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

/// What a call comes to that has 300 ms, and one that is stopped after as long.
async fn ends<T: std::fmt::Debug>(call: impl AsyncFn(&Until) -> Result<T, Error>) {
    let (soon, stop) = (|| Instant::now() + Duration::from_millis(300), CancellationToken::new());
    let late = call(&Until::new(soon(), &stop)).await;
    assert!(matches!(late, Err(Error::Deadline { .. })), "{late:?}");
    let stopping = async {
        tokio::time::sleep_until(soon()).await;
        stop.cancel();
    };
    let until = Until::new(Instant::now() + Duration::from_secs(60), &stop);
    let (stopped, ()) = tokio::join!(call(&until), stopping);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
}

#[tokio::test]
async fn nobody_waits_past_the_limits_for_an_agent_that_says_nothing() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    // From the first byte on.
    let address = relay(&agent.address, || true).await;
    ends(async |until| operator.agents.identify(&address, UUID, until).await).await;
    // Once it is connected.
    let is_mute = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = Arc::clone(&is_mute);
    let address = relay(&agent.address, move || flag.load(std::sync::atomic::Ordering::SeqCst)).await;
    let endpoint = Endpoint { address, ..endpoint };
    ends(async |until| {
        is_mute.store(false, std::sync::atomic::Ordering::SeqCst);
        let mut called = operator.agents.connect(&endpoint, Role::Observer, until).await?;
        is_mute.store(true, std::sync::atomic::Ordering::SeqCst);
        called.describe().await
    })
    .await;
    // Once it has begun a run, so that not even the answer's headers come.
    agent.host.gate.forget_permits(100);
    let runner = agent.runner.clone();
    let address = relay(&agent.address, move || runner.current().is_some()).await;
    let endpoint = Endpoint { address, ..endpoint };
    let (stop, progress, job) = (CancellationToken::new(), |_: &str| {}, spec_job());
    let wait = Wait { deadline: Instant::now() + Duration::from_millis(500), stop: &stop, progress: &progress };
    let ended = operator.agents.run(&endpoint, &job, &wait).await;
    assert!(matches!(ended, Err(Error::Deadline { .. })), "{ended:?}");
}

#[tokio::test]
async fn an_enrolment_ends_with_its_time_though_the_machine_says_nothing() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let address = relay(&agent.address, || true).await;
    // It has 900 ms.
    let ended = operator.enrol(&address, &pending).await;
    assert!(matches!(ended, Err(Error::Deadline { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_machine_is_found_at_whichever_of_its_addresses_it_answers() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    // Nobody at the first address, and at the second an agent of somebody else.
    let (stranger, theirs) = (Operator::new(), tempfile::tempdir().unwrap());
    let _pending = stranger.seed(theirs.path(), 1);
    let other = start(theirs.path(), &stranger).await;
    let all = ["127.0.0.1:1".to_owned(), other.address.clone(), agent.address.clone()];
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let wait = || Wait { deadline: Instant::now() + Duration::from_secs(20), stop: &stop, progress: &progress };
    let endpoint = operator.agents.enrol(&all, &pending, &wait()).await.unwrap();
    assert_eq!(endpoint.address, agent.address);
    // Where only somebody else answers, that is said at once.
    let refused = operator.agents.enrol(&all[1..2], &pending, &wait()).await;
    assert!(matches!(refused, Err(Error::OtherAuthority { .. })), "{refused:?}");
}
