//! Objects of a manifest: read by kubectl, whose YAML is the only one that counts, and named.

use super::{kubectl, told};
use crate::cluster::kube::{failed, failure};
use crate::host::Host;
use crate::run::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// An object as the manifest has it.
#[derive(Clone, PartialEq)]
pub(super) struct Object {
    pub(super) id: Id,
    pub(super) body: Value,
}

/// What tells an object from all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Id {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// Empty: none, or `default` if its kind has namespaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What has to be there before what: in this order objects come, and in the other they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Namespace,
    /// A kind of objects.
    Definition,
    /// Of a kind that Kubernetes has by itself.
    BuiltIn,
    /// Of a kind that was defined.
    Custom,
}

impl Id {
    /// Of an object; empty where it has no text.
    pub(super) fn of(body: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &body["metadata"];
        Self {
            api_version: text(&body["apiVersion"]),
            kind: text(&body["kind"]),
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
        }
    }

    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// In whatever version of its group. A kind without namespaces has none, so that `default` is as good as any.
    fn key(&self) -> (&str, &str, &str, &str) {
        let namespace = if self.namespace.is_empty() { "default" } else { &self.namespace };
        (self.group(), &self.kind, namespace, &self.name)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    pub(super) fn rank(&self) -> Rank {
        match (self.group(), self.kind.as_str()) {
            ("", "Namespace") => Rank::Namespace,
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Rank::Definition,
            (group, _) if !group.contains('.') || group.ends_with(".k8s.io") => Rank::BuiltIn,
            _ => Rank::Custom,
        }
    }

    fn skeleton(&self) -> Value {
        let mut metadata = json!({ "name": self.name });
        if !self.namespace.is_empty() {
            metadata["namespace"] = json!(self.namespace);
        }
        json!({ "apiVersion": self.api_version, "kind": self.kind, "metadata": metadata })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

impl Object {
    /// What is said of it, without its values if they are secrets.
    pub(super) fn without_secrets(&self, said: &str) -> String {
        let value = VALUES.iter().filter_map(|words| Some(said.find(words)? + words.len())).min();
        match value.and_then(|at| said.get(..at)) {
            Some(before) if self.id.kind == "Secret" => format!("{before}(hidden)"),
            Some(_) | None => said.to_owned(),
        }
    }
}

/// The objects of a manifest, in its order; those of its lists, too.
pub(super) async fn read(host: &dyn Host, content: &[u8]) -> Result<Vec<Object>, Failure> {
    let text = std::str::from_utf8(content).map_err(failed(READ, "read it"))?;
    // Without a server and without a change: kubectl prints what it has read.
    let words = ["patch", "--local", "--type=merge", "--patch={}", "--output=json", "--filename=-"];
    let said = kubectl(host, &words, text.to_owned()).await.map_err(failed(READ, "have kubectl read it"))?;
    if said.code != Some(0) {
        return Err(failure(READ, format!("it is no manifest: {}", told(&said.stderr))));
    }
    parse(&said.stdout)
}

fn parse(stdout: &str) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    let mut known = BTreeSet::new();
    for body in serde_json::Deserializer::from_str(stdout).into_iter::<Value>() {
        let mut body = body.map_err(failed(READ, "read what kubectl has read"))?;
        encode(&mut body);
        let id = Id::of(&body);
        let at = objects.len() + 1;
        if id.name.is_empty() || id.api_version.is_empty() {
            let lacks = if id.name.is_empty() { "metadata.name" } else { "apiVersion" };
            return Err(failure(READ, format!("its object {at}, a {}, has no `{lacks}`", id.kind)));
        }
        let (group, kind, namespace, name) = id.key();
        if !known.insert([group, kind, namespace, name].map(str::to_owned)) {
            return Err(failure(READ, format!("{id} stands in it twice")));
        }
        objects.push(Object { id, body });
    }
    Ok(objects)
}

/// The texts of a Secret as the API server keeps them: as `stringData` they would be managed in one place and stand in another.
fn encode(body: &mut Value) {
    if Id::of(body).kind != "Secret" {
        return;
    }
    let Some(Value::Object(texts)) = body.as_object_mut().and_then(|secret| secret.remove("stringData")) else {
        return;
    };
    for (key, text) in texts {
        if let Some(text) = text.as_str() {
            body["data"][key] = STANDARD.encode(text).into();
        }
    }
}

/// Objects as one document.
pub(super) fn list<'a>(bodies: impl Iterator<Item = &'a Value>) -> String {
    let items: Vec<&Value> = bodies.collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// Names of objects, in the form in which kubectl asks for them.
pub(super) fn skeletons(ids: &[Id]) -> String {
    let items: Vec<Value> = ids.iter().map(Id::skeleton).collect();
    list(items.iter())
}

/// "1 object", "7 objects"
pub(super) fn count(objects: usize) -> String {
    if objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") }
}

/// The first few, and how many more.
pub(super) fn names(ids: &[Id]) -> String {
    let mut names: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    if ids.len() > NAMED {
        names.push(format!("{} more", ids.len() - NAMED));
    }
    names.join(", ")
}

const READ: &str = "manifest";
const NAMED: usize = 5;
/// What the API server puts before a value that it refuses. Source: apimachinery, `field.Error`; structured-merge-diff, `typed`.
const VALUES: [&str; 2] = ["Invalid value: ", ", got "];

#[cfg(test)]
mod tests {
    use super::*;

    fn id(api_version: &str, kind: &str, namespace: &str) -> Id {
        Id { api_version: api_version.into(), kind: kind.into(), namespace: namespace.into(), name: "a".into() }
    }

    #[test]
    fn what_kubectl_has_read_is_named() {
        let said = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b", "namespace": "a"}, "spec": {}}"#;
        let objects = parse(said).unwrap_or_else(|failure| panic!("{failure:?}"));
        let names: Vec<String> = objects.iter().map(|object| object.id.to_string()).collect();
        assert_eq!(names, ["Namespace a", "Deployment a/b"]);
        assert_eq!(
            skeletons(&[objects[1].id.clone()]),
            r#"{"apiVersion":"v1","items":[{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"b","namespace":"a"}}],"kind":"List"}"#
        );
    }

    #[test]
    fn what_has_no_name_or_stands_there_twice_is_refused() {
        let nameless = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a"}}"#;
        let one = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#;
        let same = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"}}"#;
        let said = |text: &str| parse(text).map(|_| ()).unwrap_err().message;
        assert_eq!(said(nameless), "its object 1, a Pod, has no `metadata.name`");
        assert_eq!(said(&one.replace("v1", "")), "its object 1, a Pod, has no `apiVersion`");
        assert_eq!(said(&format!("{one}{same}")), "Pod default/a stands in it twice");
    }

    #[test]
    fn texts_of_a_secret_are_what_the_api_server_keeps() {
        let secret = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"x": "eA=="}, "stringData": {"y": "y"}}"#;
        let body = parse(secret).map(|objects| objects[0].body.clone()).unwrap_or_default();
        assert_eq!((&body["data"], &body["stringData"]), (&json!({ "x": "eA==", "y": "eQ==" }), &Value::Null));
    }

    #[test]
    fn an_object_is_the_same_in_another_version_and_in_the_default_namespace() {
        assert!(id("apps/v1", "Deployment", "").is(&id("apps/v1beta1", "Deployment", "default")));
        assert!(!id("apps/v1", "Deployment", "").is(&id("example.org/v1", "Deployment", "")));
        assert!(!id("v1", "Pod", "x").is(&id("v1", "Pod", "")));
    }

    #[test]
    fn what_others_need_comes_first() {
        let ranks = [
            id("v1", "Namespace", ""),
            id("apiextensions.k8s.io/v1", "CustomResourceDefinition", ""),
            id("rbac.authorization.k8s.io/v1", "ClusterRole", ""),
            id("example.org/v1", "Namespace", ""),
        ]
        .map(|id| id.rank());
        assert_eq!(ranks, [Rank::Namespace, Rank::Definition, Rank::BuiltIn, Rank::Custom]);
    }

    #[test]
    fn of_a_secret_no_value_is_told() {
        let secret = Object { id: id("v1", "Secret", ""), body: Value::Null };
        let said = "The Secret \"a\" is invalid: type: Invalid value: \"hunter2\": field is immutable";
        assert_eq!(secret.without_secrets(said), "The Secret \"a\" is invalid: type: Invalid value: (hidden)");
        assert_eq!(secret.without_secrets("is forbidden"), "is forbidden");
        let number = ".data.pin: expected string, got &value.valueUnstructured{Value:1234}";
        assert_eq!(secret.without_secrets(number), ".data.pin: expected string, got (hidden)");
        let other = Object { id: id("v1", "Service", ""), body: Value::Null };
        assert_eq!(other.without_secrets(said), said);
    }

    #[test]
    fn any_text_is_answered() {
        let good = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}"#;
        total::text("manifest-objects", &[good], |text| {
            parse(text).map(|objects| objects.iter().map(|object| object.id.to_string()).collect::<Vec<_>>()).is_ok()
        });
    }
}
