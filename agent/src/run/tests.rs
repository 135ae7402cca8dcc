//! One run at a time, heard by many, stopped between changes.

use super::*;
use crate::host::fake::Fake;
use std::time::Duration;
use tokio_stream::StreamExt as _;

fn runner() -> Runner {
    Runner::new(Arc::new(Fake::template()))
}

async fn story(runner: &Runner, id: &str) -> Vec<What> {
    runner.attach(id).unwrap().map(|event| event.what).collect().await
}

#[tokio::test(start_paused = true)]
async fn a_second_run_is_told_about_the_first() {
    let runner = runner();
    let first = runner
        .start("first", |_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Outcome::default())
        })
        .unwrap();
    let refused = runner.start("second", |_| async { Ok(Outcome::default()) });
    assert_eq!(refused, Err(Busy(first.clone())));
    assert_eq!(runner.current(), Some(first.clone()));
    let end = story(&runner, &first).await.pop().unwrap();
    assert_eq!(end, What::Finished(Outcome::default()));
    assert_eq!(runner.current(), None);
    runner.start("third", |_| async { Ok(Outcome::default()) }).unwrap();
}

#[tokio::test(start_paused = true)]
async fn everybody_hears_the_whole_story_also_afterwards() {
    let runner = runner();
    let id = runner
        .start("talk", |cx| async move {
            for line in ["one", "two"] {
                cx.output("step", line);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(Outcome { changes: 1, reboot_needed: false })
        })
        .unwrap();
    let during = story(&runner, &id).await;
    assert_eq!(during.len(), 4);
    assert_eq!(during[0], What::Began { kind: "talk".into() });
    assert_eq!(story(&runner, &id).await, during);
    assert!(runner.attach("unknown").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_run_is_stopped_before_its_next_change() {
    let runner = runner();
    let id = runner
        .start("wait", |mut cx| async move {
            cx.cancelled().await;
            assert!(cx.is_cancelled());
            Err(Failure::cancelled("step"))
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    runner.cancel(&id);
    assert!(matches!(story(&runner, &id).await.pop().unwrap(), What::Failed(failure) if failure.cancelled));
    runner.cancel(&id);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_run_and_not_the_runner() {
    let runner = runner();
    let id = runner.start("panic", |_| async { panic!("oh") }).unwrap();
    let end = story(&runner, &id).await.pop().unwrap();
    assert!(matches!(end, What::Failed(failure) if failure.message.contains("bug in the agent")));
    runner.start("next", |_| async { Ok(Outcome::default()) }).unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_last_runs_are_kept() {
    let runner = runner();
    let mut ids = Vec::new();
    for _ in 0..=KEPT {
        let id = runner.start("short", |_| async { Ok(Outcome::default()) }).unwrap();
        story(&runner, &id).await;
        ids.push(id);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(runner.attach(&ids[0]).is_none());
    assert!(runner.attach(&ids[1]).is_some());
}
