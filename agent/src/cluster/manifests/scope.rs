//! Which namespace an object is in that gives none.

use super::object::{Id, Object};
use super::{Work, kubectl, told};
use crate::cluster::kube::{failed, failure};
use crate::run::Failure;
use std::collections::BTreeSet;

/// Group and kind.
type Kind = (String, String);

/// Puts objects that give no namespace into this one, if their kind has namespaces.
pub(super) async fn place(work: &Work<'_>, objects: &mut [Object], namespace: &str) -> Result<(), Failure> {
    if namespace.is_empty() || objects.iter().all(|object| !object.id.namespace.is_empty()) {
        return Ok(());
    }
    let words = ["api-resources", "--namespaced=false", "--no-headers"];
    let said = kubectl(work.kube.host(), &words, String::new()).await;
    let said = said.map_err(failed(&work.step, "ask which kinds have no namespaces"))?;
    if said.code != Some(0) {
        return Err(failure(&work.step, told(&said.stderr)));
    }
    let mut without = read(&said.stdout);
    without.extend(objects.iter().filter_map(defined));
    for object in objects.iter_mut().filter(|object| object.id.namespace.is_empty()) {
        let kind = (object.id.group().to_owned(), object.id.kind.clone());
        if !without.contains(&kind) {
            object.body["metadata"]["namespace"] = namespace.into();
            object.id = Id::of(&object.body);
        }
    }
    Ok(())
}

/// Lines of name, short names if there are any, version, whether it has namespaces, and kind.
fn read(stdout: &str) -> BTreeSet<Kind> {
    let kind = |line: &str| {
        let mut words = line.split_whitespace().rev();
        let (kind, "false", version) = (words.next()?, words.next()?, words.next()?) else { return None };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        Some((group.to_owned(), kind.to_owned()))
    };
    stdout.lines().filter_map(kind).collect()
}

/// The kind that an object defines, if it has no namespaces.
fn defined(object: &Object) -> Option<Kind> {
    let spec = &object.body["spec"];
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let is_one = object.id.kind == "CustomResourceDefinition" && spec["scope"] == "Cluster";
    if is_one { Some((text(&spec["group"])?, text(&spec["names"]["kind"])?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_without_namespaces_are_read() {
        let said = "componentstatuses    cs     v1                             false   ComponentStatus\n\
                    clusterroles                rbac.authorization.k8s.io/v1   false   ClusterRole\n\
                    pods                 po     v1                             true    Pod\n";
        let kinds = [("", "ComponentStatus"), ("rbac.authorization.k8s.io", "ClusterRole")];
        assert_eq!(read(said), kinds.map(|(group, kind)| (group.to_owned(), kind.to_owned())).into());
    }

    #[test]
    fn a_definition_tells_of_its_kind() {
        let of = |scope: &str| {
            let body = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "x" },
                "spec": { "group": "example.org", "scope": scope, "names": { "kind": "Colour" } },
            });
            defined(&Object { id: Id::of(&body), body })
        };
        assert_eq!(of("Cluster"), Some(("example.org".to_owned(), "Colour".to_owned())));
        assert_eq!(of("Namespaced"), None);
    }

    #[test]
    fn any_text_is_answered() {
        total::text("kubectl-api-resources", &["nodes   no   v1   false   Node\n"], |text| read(text).len());
    }
}
