//! What each role may look at and do, and certificates that were made ready for it.

use super::*;
use crate::agents::call::role_to_plan;
use crate::agents::machine::{CommandSpec, FileSpec};

/// An operator who was given a ready certificate of a role.
pub(super) fn holder(operator: &Operator, role: Role) -> Agents {
    let (dir, out) = (&operator.dir, operator.dir.path().join(role.word()));
    pki::issue(dir.path(), &out, role, Duration::from_secs(86_400)).unwrap();
    Agents::new(Some(Authority::from_dir(&out).unwrap()))
}

fn file(content: &[u8]) -> FileSpec {
    FileSpec { content: content.to_vec().into(), ..FileSpec::default() }
}

fn files(files: &[(&str, &[u8])]) -> NodeSpec {
    let file = files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect();
    NodeSpec { file, ..NodeSpec::default() }
}

fn guarded() -> NodeSpec {
    let command = CommandSpec {
        unless: vec!["/usr/bin/true".into()],
        argv: vec!["/usr/bin/true".into()],
        ..CommandSpec::default()
    };
    NodeSpec { command: [("x".to_owned(), command)].into(), ..NodeSpec::default() }
}

#[tokio::test]
async fn an_observer_is_told_no_record_and_runs_no_program() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let mut called = operator.agents.connect(&endpoint, Role::Operator, &soon()).await.unwrap();
    called.record("machine", "{}").await.unwrap();
    assert_eq!(called.describe().await.unwrap().records.len(), 1);
    assert_eq!(called.plan(&guarded()).await.unwrap().not_looked_at, Vec::<String>::new());
    let mut called = operator.agents.connect(&endpoint, Role::Observer, &soon()).await.unwrap();
    assert_eq!(called.describe().await.unwrap().records.len(), 0);
    let [left] = &called.plan(&guarded()).await.unwrap().not_looked_at[..] else { panic!("one") };
    assert!(left.starts_with("commands: x: its `unless` is a program"), "{left}");
    assert_eq!(called.plan(&NodeSpec::default()).await.unwrap().not_looked_at, Vec::<String>::new());
    let large = files(&[("/x", &[0; agent_proto::LARGEST_LOOK])]);
    let refused = called.plan(&large).await.unwrap_err();
    assert!(refused.to_string().contains("a client of this role may send 256 KiB at most"), "{refused}");
    let roles = [guarded(), large, NodeSpec::default()].map(|spec| role_to_plan(&spec));
    assert_eq!(roles, [Role::Operator, Role::Operator, Role::Observer]);
}

#[tokio::test]
async fn an_observer_cannot_guess_the_content_of_a_file() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    agent.host.put("/etc/shadow", "root:secret");
    agent.host.put("/etc/motd", "hello");
    let mut called = operator.agents.connect(&endpoint, Role::Operator, &soon()).await.unwrap();
    called.record("machine", r#"{"file": {"/etc/motd": {"content": "hello"}}}"#).await.unwrap();
    let mut called = operator.agents.connect(&endpoint, Role::Observer, &soon()).await.unwrap();
    let right = called.plan(&files(&[("/etc/shadow", b"root:secret")])).await.unwrap();
    let wrong = called.plan(&files(&[("/etc/shadow", b"root:guess")])).await.unwrap();
    assert_eq!(right, wrong, "a guess is answered like any other");
    assert_eq!((right.drift.len(), right.not_looked_at.len()), (0, 1));
    // What was declared is compared.
    let declared = files(&[("/etc/motd", b"hello")]);
    let same = called.plan(&declared).await.unwrap();
    assert_eq!(same.not_looked_at, Vec::<String>::new());
    agent.host.put("/etc/motd", "changed");
    let changed = called.plan(&declared).await.unwrap();
    assert!(changed.drift.iter().any(|line| line.contains("/etc/motd")), "{changed:?}");
}

#[tokio::test]
async fn who_only_observes_plans_and_is_told_what_is_missing_to_apply() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let agents = holder(&operator, Role::Observer);
    let mut spec = guarded();
    spec.file = files(&[("/a", b"x"), ("/b", &[0; agent_proto::LARGEST_LOOK])]).file;
    let look = agents.inspect(&endpoint, &spec, &soon()).await.unwrap();
    let left = &look.missing.not_looked_at;
    assert_eq!(left.len(), 3, "{left:?}");
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let wait = Wait { deadline: Instant::now() + Duration::from_secs(20), stop: &stop, progress: &progress };
    let refused = agents.run(&endpoint, &Job::Apply(Box::default()), &wait).await.unwrap_err();
    assert!(matches!(refused, Error::LesserRole { has: Role::Observer, needs: Role::Operator }), "{refused}");
    assert!(agent.runner.current().is_none());
    assert!(matches!(agents.can_install(), Err(Error::NoKey { role: Role::Observer })));
    // An operator's does it, and enrols nobody.
    let agents = holder(&operator, Role::Operator);
    assert!(matches!(agents.can_install(), Err(Error::NoKey { role: Role::Operator })));
    agents.run(&endpoint, &Job::Apply(Box::default()), &wait).await.unwrap();
}

#[tokio::test]
async fn an_observer_sees_the_steps_of_a_run_and_not_what_was_said_in_it() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let job = Job::NodeSet(crate::agents::NodeSettings { node_name: "worker-1".into(), ..Default::default() });
    let Err(Error::Run { failure, .. }) = run(&operator, &endpoint, &job).await else { panic!("must fail") };
    let told = async |role| {
        let mut agent = operator.agents.connect(&endpoint, role, &soon()).await.unwrap();
        let mut events = agent.0.attach(&failure.run_id).await.unwrap().unwrap();
        let mut last = None;
        while let Some(Ok(event)) = events.next(std::future::pending()).await {
            last = event.what;
        }
        let Some(agent_proto::v1::event::What::Failed(failed)) = last else { panic!("{last:?}") };
        failed
    };
    let (whole, part) = (told(Role::Operator).await, told(Role::Observer).await);
    assert!(whole.message.contains("no node worker-1"), "{whole:?}");
    assert_eq!((part.step, part.message.as_str()), (whole.step, "why is told to operators"));
    assert_eq!(part.output, Vec::<String>::new());
}
