//! Terraform stops, or a deadline passes, while a run is begun, followed or waited for.

use super::*;

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
