//! Manifests on an imitated API server: applied, changed, taken away, and cut after every one of its answers.

mod server;

use self::server::Server;
use super::{ManifestPlan, RemovalPlan, apply, look, passes, remove, told};
use crate::host::Host;
use crate::run::{Failure, Outcome, RunCx, Runner, What};
use crate::state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt as _;

/// A control plane, its agent's folder, and the story of the last run.
struct Scene {
    server: Arc<Server>,
    folder: tempfile::TempDir,
    story: Vec<What>,
}

impl Scene {
    fn new() -> Self {
        Self { server: Arc::default(), folder: tempfile::tempdir().unwrap(), story: Vec::new() }
    }

    async fn run<J, F>(&mut self, job: J) -> Result<Outcome, Failure>
    where
        J: FnOnce(RunCx, State) -> F,
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        // A new one each time: an agent that was killed remembers nothing.
        let runner = Runner::new(Arc::clone(&self.server) as Arc<dyn Host>);
        let state = State::open(self.folder.path()).unwrap();
        let id = runner.start("test", |cx| job(cx, state)).unwrap();
        self.story = runner.attach(&id).unwrap().map(|event| event.what).collect().await;
        match self.story.pop().unwrap() {
            What::Finished(outcome) => Ok(outcome),
            What::Failed(failure) => Err(failure),
            other => panic!("{other:?} is no end"),
        }
    }

    async fn apply(&mut self, content: &str) -> Result<Outcome, Failure> {
        self.apply_as(content, |_| ()).await
    }

    async fn apply_as(&mut self, content: &str, change: impl FnOnce(&mut ManifestPlan)) -> Result<Outcome, Failure> {
        let mut plan = ManifestPlan {
            cluster_id: self.server.cluster_id(),
            name: "m".into(),
            key: format!("{} bytes", content.len()),
            content: content.to_owned().into(),
            namespace: String::new(),
            force_conflicts: false,
            wait: true,
            prune: true,
            timeout: Duration::from_secs(60),
        };
        change(&mut plan);
        self.run(|cx, state| apply(cx, state, plan)).await
    }

    async fn remove(&mut self) -> Result<Outcome, Failure> {
        let cluster_id = self.server.cluster_id();
        let plan = RemovalPlan { cluster_id, name: "m".into(), prune: true, timeout: Duration::from_secs(60) };
        self.run(|cx, state| remove(cx, state, plan)).await
    }

    async fn drift(&self) -> Vec<String> {
        let found = look(&*self.server, &["m".to_owned()]).await.unwrap();
        found.into_iter().flat_map(|manifest| manifest.drift).collect()
    }

    /// What the last run noted.
    fn notes(&self) -> String {
        let line = |what: &What| match what {
            What::Note { line, .. } => Some(format!("{line}\n")),
            _ => None,
        };
        self.story.iter().filter_map(line).collect()
    }
}

/// One object a line.
const ALL: &str = r#"{"apiVersion": "example.org/v1", "kind": "Colour", "metadata": {"name": "blue", "namespace": "paint"}}
{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "Colour"}}
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "paint"}, "data": {"x": "1"}}
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "paint"}}
"#;
const LESS: &str = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "paint"}}
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "paint"}, "data": {"x": "1"}}
"#;

#[tokio::test(start_paused = true)]
async fn a_manifest_is_applied_in_order_and_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.apply(ALL).await.unwrap().changes, 1);
    let made = ["Namespace paint", "CustomResourceDefinition Colour", "Colour paint/blue", "ConfigMap paint/a"];
    assert_eq!(scene.server.order(), made);
    assert!(
        scene.notes().contains("waiting for CustomResourceDefinition Colour: not Established yet"),
        "{}",
        scene.notes()
    );
    assert_eq!(scene.apply(ALL).await.unwrap().changes, 0);
    assert_eq!(scene.drift().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_changed_is_seen_and_made_again() {
    let mut scene = Scene::new();
    scene.apply(ALL).await.unwrap();
    scene.server.delete("Colour paint/blue");
    scene.server.take("ConfigMap paint/a", "kubectl-edit");
    let seen = ["Colour paint/blue is missing", "ConfigMap paint/a was changed by kubectl-edit"];
    assert_eq!(scene.drift().await, seen);
    let failure = scene.apply(ALL).await.unwrap_err();
    assert_eq!(failure.step, "conflict");
    let said = "ConfigMap paint/a: Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .data.x";
    assert_eq!(failure.message, said);
    scene.apply_as(ALL, |plan| plan.force_conflicts = true).await.unwrap();
    assert_eq!(scene.drift().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_knows_whether_objects_go_with_their_manifest() {
    let mut scene = Scene::new();
    for prune in [true, false, true] {
        scene.apply_as(ALL, |plan| plan.prune = prune).await.unwrap();
        let found = look(&*scene.server, &[]).await.unwrap();
        assert_eq!(
            found.iter().map(|one| (one.prune, one.objects, one.done)).collect::<Vec<_>>(),
            [(Some(prune), 4, true)]
        );
    }
    scene.server.dies_after(Some(3));
    scene.apply_as(LESS, |plan| plan.prune = false).await.unwrap_err();
    scene.server.dies_after(None);
    let found = look(&*scene.server, &[]).await.unwrap();
    assert_eq!(
        found.iter().map(|one| (one.prune, one.objects, one.done)).collect::<Vec<_>>(),
        [(Some(false), 5, false)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_left_goes_unless_another_manifest_has_it() {
    let mut scene = Scene::new();
    scene.apply(ALL).await.unwrap();
    let other = ALL.lines().nth(2).unwrap().to_owned();
    scene.apply_as(&other, |plan| plan.name = "other".into()).await.unwrap();
    scene.apply(LESS).await.unwrap();
    let own = ["ConfigMap paint/a", "ConfigMap paint/b", "Namespace paint"];
    assert_eq!(scene.server.objects(), own);
    scene.server.delete("ConfigMap paint/b");
    scene.server.make("ConfigMap paint/b");
    scene.remove().await.unwrap();
    assert!(scene.notes().contains("ConfigMap paint/b stays"), "{}", scene.notes());
    assert_eq!(scene.server.objects(), ["ConfigMap paint/a", "ConfigMap paint/b"]);
    assert_eq!(scene.remove().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn an_apply_that_was_cut_anywhere_is_gone_on_with() {
    let mut cuts = 0;
    loop {
        let mut scene = Scene::new();
        scene.apply(LESS).await.unwrap();
        scene.server.dies_after(Some(cuts));
        let cut = scene.apply(ALL).await.is_err();
        scene.server.dies_after(None);
        scene.apply(ALL).await.unwrap();
        let all = ["Colour paint/blue", "ConfigMap paint/a", "CustomResourceDefinition Colour", "Namespace paint"];
        assert_eq!(scene.server.objects(), all, "after {cuts} answers");
        assert_eq!(scene.apply(ALL).await.unwrap().changes, 0, "after {cuts} answers");
        assert_eq!(scene.drift().await, [""; 0], "after {cuts} answers");
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 8, "{cuts}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_cut_anywhere_is_gone_on_with() {
    let mut cuts = 0;
    loop {
        let mut scene = Scene::new();
        scene.apply(ALL).await.unwrap();
        scene.server.dies_after(Some(cuts));
        let cut = scene.remove().await.is_err();
        scene.server.dies_after(None);
        scene.remove().await.unwrap();
        assert_eq!(scene.server.objects(), [""; 0], "after {cuts} answers");
        assert!(look(&*scene.server, &[]).await.unwrap().is_empty(), "after {cuts} answers");
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_and_another_cluster_are_refused() {
    let mut scene = Scene::new();
    assert_eq!(scene.apply("garbage").await.unwrap_err().step, "manifest");
    let foreign = scene.apply_as(ALL, |plan| plan.cluster_id = "sha256:00".into()).await.unwrap_err();
    assert_eq!(foreign.step, "ownership");
    assert_eq!(scene.server.objects(), [""; 0]);
}

#[test]
fn kubectls_words_are_told_without_advice_and_content() {
    let conflict = "error: Apply failed with 2 conflicts: conflicts with \"a\" using v1:\n- .data.x\n- .data.y\n\
        Please review the fields above--they currently have other managers. Here\nare the ways\n";
    assert_eq!(told(conflict), "Apply failed with 2 conflicts: conflicts with \"a\" using v1: - .data.x - .data.y");
    let kind = "error: unable to decode \"STDIN\": Object 'Kind' is missing in '{\"password\":\"hunter2\"}'\n";
    assert_eq!(told(kind), "unable to decode \"STDIN\": Object 'Kind'");
    assert_eq!(told("Warning: x is deprecated\n"), "it printed no reason");
}

#[test]
fn what_comes_up_by_itself_is_waited_for() {
    let kind = "resource mapping not found for name: \"a\" namespace: \"\" from \"STDIN\": no matches for kind \"Foo\" in version \"x.io/v1\"";
    let hook =
        "Internal error occurred: failed calling webhook \"webhook.cert-manager.io\": connect: connection refused";
    assert!(passes(kind) && passes(hook));
    assert!(!passes("The Service \"a\" is invalid: spec.ports: Required value"));
    assert!(!passes("namespaces \"paint\" not found"));
}

#[test]
fn any_text_is_answered() {
    total::text("kubectl-told", &["error: a is missing in '{}'\nPlease review the fields above--\n"], told);
}
