//! What was applied: a ConfigMap in the cluster for each manifest, so that it is known to whoever takes the cluster over.
//!
//! It holds names of objects and sums of their fields; contents stay out. Whoever deletes it makes us apply the manifest again.

use super::live::{self, Live};
use super::object::Id;
use super::{AskError, kubectl, told};
use crate::host::Host;
use agent_proto::form;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Of one manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Inventory {
    #[serde(skip)]
    pub(super) name: String,
    /// Of its content.
    pub(super) key: String,
    /// It was applied whole, and was ready.
    pub(super) done: bool,
    /// Whether its objects go with it, as the latest apply asked; earlier agents did not note it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prune: Option<bool>,
    objects: Vec<Held>,
}

/// An object, and what was ours in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    #[serde(flatten)]
    pub(super) id: Id,
    /// Of the object that was applied; empty while it is not known.
    uid: String,
    fields: String,
}

impl Held {
    fn new(id: &Id) -> Self {
        Self { id: id.clone(), ..Self::default() }
    }

    /// Whether this is the object that was applied, and not one that somebody has made in its place.
    pub(super) fn is(&self, live: &Live) -> bool {
        !live.fields.is_empty() || !self.uid.is_empty() && self.uid == live.uid
    }
}

/// All that the cluster has.
pub(super) async fn all(host: &dyn Host) -> Result<Vec<Inventory>, AskError> {
    let words = ["get", "configmaps", "--namespace", NAMESPACE, "--selector", LABEL, "--output=json"];
    let said = kubectl(host, &words, String::new()).await.map_err(AskError::Host)?;
    if said.code != Some(0) {
        return Err(AskError::Refused(told(&said.stderr)));
    }
    read(&said.stdout).map_err(AskError::Unreadable)
}

/// One that somebody has spoilt counts as one of a manifest that was not applied. One that is not called as its label says is none of ours:
/// what is done about a manifest is done to the one of that name.
fn read(stdout: &str) -> Result<Vec<Inventory>, serde_json::Error> {
    let answer: Value = serde_json::from_str(stdout)?;
    let maps = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let inventory = |map: &Value| {
        let name = map["metadata"]["labels"][LABEL].as_str()?.to_owned();
        if form::manifest_name(&name).is_err() || map["metadata"]["name"] != name_of(&name) {
            return None;
        }
        let text = map["data"][DATA].as_str().unwrap_or_default();
        Some(Inventory { name, ..serde_json::from_str(text).unwrap_or_default() })
    };
    Ok(maps.iter().filter_map(inventory).collect())
}

/// Name of a manifest's ConfigMap.
pub(super) fn name_of(manifest: &str) -> String {
    format!("groundwork-manifest-{manifest}")
}

impl Inventory {
    /// Of a manifest that is applied whole.
    pub(super) fn done(name: &str, key: &str, ids: &[Id], live: &[Live]) -> Self {
        let held = |id: &Id| {
            let found = live::find(live, id).map(|live| (live.uid.clone(), live.fields.clone()));
            let (uid, fields) = found.unwrap_or_default();
            Held { id: id.clone(), uid, fields }
        };
        let objects = ids.iter().map(held).collect();
        Self { name: name.to_owned(), key: key.to_owned(), done: true, prune: None, objects }
    }

    /// Of one that is about to be: what was there before is not forgotten until it is taken away, or left for good.
    pub(super) fn about_to(&self, name: &str, key: &str, ids: &[Id]) -> Self {
        let known = |id: &Id| self.objects.iter().find(|held| held.id.is(id)).cloned().unwrap_or_else(|| Held::new(id));
        let objects = ids.iter().map(known).chain(self.without(ids)).collect();
        Self { name: name.to_owned(), key: key.to_owned(), done: false, prune: self.prune, objects }
    }

    /// The same, for an apply that asks for this.
    pub(super) fn asked_to(self, prune: bool) -> Self {
        Self { prune: Some(prune), ..self }
    }

    /// Whether this content was applied whole.
    pub(super) fn is_done(&self, key: &str) -> bool {
        self.done && self.key == key
    }

    pub(super) fn ids(&self) -> Vec<Id> {
        self.objects.iter().map(|held| held.id.clone()).collect()
    }

    /// Objects that are not among `ids`.
    pub(super) fn without(&self, ids: &[Id]) -> Vec<Held> {
        self.objects.iter().filter(|held| !ids.iter().any(|id| id.is(&held.id))).cloned().collect()
    }

    /// What is missing or was changed by others, one line each.
    pub(super) fn drift(&self, live: &[Live]) -> Vec<String> {
        let line = |held: &Held| {
            let Held { id, fields, .. } = held;
            let Some(live) = live::find(live, id) else { return Some(format!("{id} is missing")) };
            if live.is_ending {
                return Some(format!("{id} is being deleted"));
            }
            let who = match live.others.as_slice() {
                [] => String::new(),
                others => format!(" by {}", others.join(", ")),
            };
            (live.fields != *fields).then(|| format!("{id} was changed{who}"))
        };
        self.objects.iter().filter_map(line).collect()
    }

    /// As the cluster keeps it.
    pub(super) fn document(&self) -> Value {
        let data = serde_json::to_string(self).unwrap_or_default();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name_of(&self.name),
                "namespace": NAMESPACE,
                "labels": { LABEL: self.name, "app.kubernetes.io/managed-by": "groundwork" },
            },
            "data": { DATA: data },
        })
    }
}

pub(super) const NAMESPACE: &str = "kube-system";
const LABEL: &str = "groundwork/manifest";
const DATA: &str = "inventory";

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: "x".into(), name: name.into() }
    }

    fn live(name: &str, fields: &str, others: &[&str]) -> Live {
        let others = others.iter().map(|name| (*name).to_owned()).collect();
        let uid = format!("uid of {name}");
        Live { id: id(name), uid, fields: fields.into(), others, is_ending: false, body: Value::Null }
    }

    #[test]
    fn what_is_written_reads_back() {
        let inventory = Inventory::done("flannel", "sha256:00", &[id("a")], &[live("a", "01", &[])]);
        let list = json!({ "kind": "ConfigMapList", "items": [inventory.document()] });
        assert_eq!(read(&list.to_string()).unwrap(), [inventory]);
    }

    #[test]
    fn a_spoilt_one_is_of_a_manifest_that_was_not_applied() {
        let mut document = Inventory::done("flannel", "sha256:00", &[], &[]).document();
        document["data"]["inventory"] = json!("garbage");
        let mut odd = document.clone();
        odd["metadata"]["labels"][LABEL] = json!("Odd_");
        let mut other = document.clone();
        other["metadata"]["name"] = json!("somebodys");
        let list = json!({ "items": [document, { "metadata": {} }, odd, other] });
        assert_eq!(read(&list.to_string()).unwrap(), [Inventory { name: "flannel".into(), ..Inventory::default() }]);
    }

    #[test]
    fn what_was_there_before_is_kept_until_the_end() {
        let before = Inventory::done("m", "1", &[id("a"), id("b")], &[]);
        let now = before.about_to("m", "2", &[id("b"), id("c")]);
        assert_eq!((now.key.as_str(), now.done), ("2", false));
        assert_eq!(now.ids(), [id("b"), id("c"), id("a")]);
        assert_eq!(now.about_to("m", "3", &[id("c")]).ids(), [id("c"), id("b"), id("a")]);
        assert_eq!(before.without(&[id("b")]), [Held::new(&id("a"))]);
    }

    #[test]
    fn what_was_made_in_its_place_is_not_what_was_applied() {
        let applied = Inventory::done("m", "1", &[id("a")], &[live("a", "", &[])]);
        let now = applied.about_to("m", "2", &[id("a"), id("b")]);
        let [a, b] = now.objects.as_slice() else { panic!("{now:?}") };
        assert!(a.is(&live("a", "", &[])), "it has but its name");
        assert!(!a.is(&Live { uid: "another".into(), ..live("a", "", &[]) }));
        assert!(a.is(&Live { uid: "another".into(), ..live("a", "01", &[]) }), "it was applied again");
        assert!(!b.is(&live("b", "", &[])), "nobody knows");
    }

    #[test]
    fn differences_are_named_with_who_made_them() {
        let now = [live("a", "01", &["kubelet"]), live("b", "02", &[]), live("c", "03", &["x", "y"])];
        let inventory = Inventory::done("m", "1", &["a", "b", "c", "d"].map(id), &now);
        let missing = "ConfigMap x/d is missing";
        assert_eq!(inventory.drift(&now), [missing]);
        let mut later = now.to_vec();
        later[1] = live("b", "", &["kubectl-edit"]);
        later[2].fields = String::new();
        let found = inventory.drift(&later);
        assert_eq!(found, ["ConfigMap x/b was changed by kubectl-edit", "ConfigMap x/c was changed by x, y", missing]);
        later[0].is_ending = true;
        assert_eq!(inventory.drift(&later)[0], "ConfigMap x/a is being deleted");
    }

    #[test]
    fn any_text_is_answered() {
        let document = Inventory::done("m", "1", &[id("a")], &[]).document();
        let list = json!({ "items": [document] }).to_string();
        total::text("manifest-inventories", &[&list], |text| read(text).map(|all| all.len()).ok());
    }
}
