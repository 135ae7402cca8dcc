//! One of kubeadm's documents as it lives in the cluster, what is declared of it, and what was declared before: three ways to one document.
//!
//! Only what is declared is managed. What the cluster has beside it stays, and what was declared before and is not any more goes.

use crate::cluster::overlay::Overlay;
use agent_proto::overlay::Fragment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Fragments that may be in the cluster's documents: what was declared last, and what an apply that did not come to its end was to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Laid {
    pub(super) cluster: Vec<Fragment>,
    pub(super) kubelet: Vec<Fragment>,
    pub(super) kube_proxy: Vec<Fragment>,
}

impl Laid {
    /// What is declared, and nothing else.
    pub(super) fn of(declared: &Overlay) -> Self {
        Self::default().with(declared)
    }

    /// And this, too.
    pub(super) fn with(mut self, declared: &Overlay) -> Self {
        let parts = [
            (&mut self.cluster, &declared.cluster),
            (&mut self.kubelet, &declared.kubelet),
            (&mut self.kube_proxy, &declared.kube_proxy),
        ];
        for (laid, fragment) in parts {
            if !fragment.is_empty() && !laid.contains(fragment) {
                laid.push(fragment.clone());
            }
        }
        self
    }
}

/// The living document with what is declared, and without what was declared before.
///
/// # Errors
/// The path whose values are of two kinds, such as a list and an object.
pub(super) fn relaid(live: &Fragment, laid: &[Fragment], declared: &Fragment) -> Result<Fragment, String> {
    let formed = |fragment: &Fragment| formed(fragment, text(live, "apiVersion"));
    let (declared, mut wanted) = (formed(declared), live.clone());
    for before in laid.iter().map(formed).filter(|before| *before != declared) {
        lift(&mut wanted, &before, &declared);
    }
    put(&mut wanted, &declared)?;
    Ok(wanted)
}

/// What the living document has otherwise than it is declared, by its paths.
pub(super) fn differences(live: &Fragment, declared: &Fragment) -> Vec<String> {
    let (declared, mut found) = (formed(declared, text(live, "apiVersion")), Vec::new());
    for (key, value) in declared.iter().filter(|(key, _)| !is_head(key)) {
        differ(key, live.get(key), value, &mut found);
    }
    found
}

/// kubeadm's arguments are lists from `v1beta4` on, and were objects before: as the document's version has them.
fn formed(fragment: &Fragment, api_version: &str) -> Fragment {
    let lists = match api_version {
        "kubeadm.k8s.io/v1beta3" => false,
        version if version.starts_with("kubeadm.k8s.io/") => true,
        _ => return fragment.clone(),
    };
    let form = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::Object(arguments) if key == ARGUMENTS && lists => {
                arguments.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
            }
            Value::Array(arguments) if key == ARGUMENTS && !lists => {
                let pair = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["value"].clone()));
                Value::Object(arguments.iter().filter_map(pair).collect())
            }
            Value::Object(inner) => formed(inner, api_version).into(),
            other => other.clone(),
        };
        (key.clone(), value)
    };
    fragment.iter().map(form).collect()
}

/// Takes out what was declared and is not any more.
fn lift(live: &mut Fragment, before: &Fragment, declared: &Fragment) {
    let none = Map::new();
    for (key, old) in before.iter().filter(|(key, old)| !is_head(key) && !old.is_null()) {
        match (live.get_mut(key), old, declared.get(key)) {
            (None, ..) => {}
            (Some(Value::Object(live)), Value::Object(old), kept) => {
                lift(live, old, kept.and_then(Value::as_object).unwrap_or(&none));
            }
            (Some(Value::Array(live)), Value::Array(old), kept) if are_named(old) => {
                let kept = kept.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let is_one = |all: &[Value], one: &Value| all.iter().any(|other| name(other) == name(one));
                live.retain(|one| !is_one(old, one) || is_one(kept, one));
            }
            (Some(_), _, None | Some(Value::Null)) => drop(live.remove(key)),
            (Some(_), _, Some(_)) => {}
        }
    }
}

fn put(live: &mut Fragment, declared: &Fragment) -> Result<(), String> {
    for (key, value) in declared.iter().filter(|(key, value)| !is_head(key) && !value.is_null()) {
        let mut found = Vec::new();
        differ("", live.get(key), value, &mut found);
        if found.is_empty() {
            continue;
        }
        let at = |path: String| if path.is_empty() { key.clone() } else { format!("{key}.{path}") };
        match (live.get_mut(key), value) {
            (Some(Value::Object(live)), Value::Object(value)) => put(live, value).map_err(at)?,
            (Some(Value::Array(live)), Value::Array(value)) if are_named(value) => {
                live.retain(|one| !value.iter().any(|new| name(new) == name(one)));
                live.extend(value.iter().cloned());
            }
            (Some(Value::Array(live)), Value::Array(value)) => live.clone_from(value),
            (Some(Value::Object(_) | Value::Array(_)), _) => return Err(at(String::new())),
            (Some(_) | None, value) => drop(live.insert(key.clone(), value.clone())),
        }
    }
    Ok(())
}

fn differ(at: &str, live: Option<&Value>, declared: &Value, found: &mut Vec<String>) {
    match (live, declared) {
        (_, Value::Null) => {}
        (Some(Value::Object(live)), Value::Object(declared)) => {
            for (key, value) in declared {
                differ(&format!("{at}.{key}"), live.get(key), value, found);
            }
        }
        (Some(Value::Array(live)), Value::Array(declared)) if are_named(live) || are_named(declared) => {
            for one in declared {
                let path = format!("{at}.{}", name(one).unwrap_or_default());
                if !found.contains(&path) && !stands(live, declared, one) {
                    found.push(path);
                }
            }
        }
        (Some(Value::Array(live)), Value::Array(declared)) => {
            let is_same = live.len() == declared.len() && live.iter().zip(declared).all(|(live, one)| holds(live, one));
            found.extend((!is_same).then(|| at.to_owned()));
        }
        (None, declared) if is_empty(declared) => {}
        (Some(live), declared) if is_same(live, declared) => {}
        _ => found.push(at.to_owned()),
    }
}

/// Whether a list has all elements of the name that this one has, in this order, and no other of that name.
fn stands(live: &[Value], declared: &[Value], one: &Value) -> bool {
    let of = |all: &[Value]| all.iter().filter(|other| name(other) == name(one)).cloned().collect::<Vec<_>>();
    let (live, declared) = (of(live), of(declared));
    live.len() == declared.len() && live.iter().zip(&declared).all(|(live, declared)| holds(live, declared))
}

fn holds(live: &Value, declared: &Value) -> bool {
    let mut found = Vec::new();
    differ("", Some(live), declared, &mut found);
    found.is_empty()
}

/// Such lists are many people's, each of whom has elements of his own. Others are taken as they are.
fn are_named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|one| name(one).is_some())
}

fn name(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

/// Go writes no field that is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || duration(text) == Some(0),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// `1m` is written back as `1m0s`.
fn is_same(live: &Value, declared: &Value) -> bool {
    let time = |value: &Value| value.as_str().and_then(duration);
    live == declared || time(live).is_some_and(|live| time(declared) == Some(live))
}

/// Nanoseconds of a duration in Go's form, such as `1h30m` or `500ms`.
fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*nanoseconds)?)?;
        rest = after.strip_prefix(unit)?;
    }
    (!text.is_empty()).then_some(sum)
}

/// What says of which document it is.
fn is_head(key: &str) -> bool {
    ["apiVersion", "kind"].contains(&key)
}

fn text<'a>(fragment: &'a Fragment, key: &str) -> &'a str {
    fragment.get(key).and_then(Value::as_str).unwrap_or_default()
}

const ARGUMENTS: &str = "extraArgs";
/// Longer ones first: `ms` is no `m`.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(value: &Value) -> Fragment {
        value.as_object().cloned().unwrap()
    }

    fn live() -> Fragment {
        fragment(&json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "clusterName": "main",
            "apiServer": { "extraArgs": [{ "name": "v", "value": "2" }, { "name": "theirs", "value": "x" }] },
        }))
    }

    fn arguments(document: &Fragment) -> Vec<(&str, &str)> {
        let all = document["apiServer"]["extraArgs"].as_array().unwrap().iter();
        all.map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap())).collect()
    }

    #[test]
    fn what_is_declared_comes_what_was_goes_and_what_is_theirs_stays() {
        let before = fragment(&json!({ "apiServer": { "extraArgs": [{ "name": "v", "value": "2" }] } }));
        let declared = fragment(&json!({
            "apiServer": { "extraArgs": [{ "name": "audit-log-path", "value": "-" }] },
            "scheduler": { "extraEnvs": [{ "name": "A", "value": "b" }] },
        }));
        let wanted = relaid(&live(), std::slice::from_ref(&before), &declared).unwrap();
        assert_eq!(arguments(&wanted), [("theirs", "x"), ("audit-log-path", "-")]);
        assert_eq!(wanted["scheduler"], declared["scheduler"]);
        assert_eq!(differences(&wanted, &declared), [""; 0]);
        let laid = [before.clone(), declared.clone()];
        assert_eq!(relaid(&wanted, &laid, &declared).unwrap(), wanted, "it is as it is to be");
        let more = fragment(
            &json!({ "apiServer": { "extraArgs": [{ "name": "audit-log-path", "value": "-" }, { "name": "v", "value": "2" }] } }),
        );
        let grown = relaid(&live(), std::slice::from_ref(&before), &more).unwrap();
        assert_eq!(arguments(&grown), [("theirs", "x"), ("audit-log-path", "-"), ("v", "2")]);
        assert_eq!(relaid(&grown, &[before.clone(), more.clone()], &more).unwrap(), grown, "and in its order");
        let back = relaid(&wanted, &laid, &before).unwrap();
        assert_eq!(arguments(&back), [("theirs", "x"), ("v", "2")]);
        assert_eq!(back["scheduler"], json!({ "extraEnvs": [] }));
        let nothing = relaid(&back, &laid, &Fragment::new()).unwrap();
        assert_eq!(arguments(&nothing), [("theirs", "x")]);
    }

    #[test]
    fn arguments_of_the_older_form_are_the_same_arguments() {
        let old =
            fragment(&json!({ "apiVersion": "kubeadm.k8s.io/v1beta3", "apiServer": { "extraArgs": { "v": "2" } } }));
        assert_eq!(differences(&live(), &old), [""; 0]);
        let new = fragment(&json!({ "apiServer": { "extraArgs": [{ "name": "v", "value": "4" }] } }));
        assert_eq!(differences(&old, &new), ["apiServer.extraArgs.v"]);
        assert_eq!(relaid(&old, &[], &new).unwrap()["apiServer"]["extraArgs"], json!({ "v": "4" }));
        assert_eq!(arguments(&relaid(&live(), &[], &old).unwrap()), [("v", "2"), ("theirs", "x")]);
    }

    #[test]
    fn an_argument_that_stands_twice_is_kept_twice() {
        let issuer = |value: &str| json!({ "name": "service-account-issuer", "value": value });
        let two = fragment(&json!({ "apiServer": { "extraArgs": [issuer("a"), issuer("b")] } }));
        let wanted = relaid(&live(), &[], &two).unwrap();
        assert_eq!(arguments(&wanted).len(), 4);
        assert_eq!(differences(&wanted, &two), [""; 0]);
        let one = fragment(&json!({ "apiServer": { "extraArgs": [issuer("a")] } }));
        assert_eq!(differences(&wanted, &one), ["apiServer.extraArgs.service-account-issuer"]);
        assert_eq!(arguments(&relaid(&wanted, &[two], &one).unwrap()).len(), 3);
    }

    #[test]
    fn what_go_writes_otherwise_is_no_difference() {
        let live = fragment(&json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "syncFrequency": "1m0s", "maxPods": 50, "authentication": { "webhook": { "cacheTTL": "0s" } },
        }));
        let declared = fragment(&json!({
            "kind": "KubeletConfiguration", "syncFrequency": "1m", "serverTLSBootstrap": false, "allowedUnsafeSysctls": [],
            "authentication": { "webhook": { "cacheTTL": "0s" }, "x509": {} }, "maxPods": 50, "evictionHard": null,
        }));
        assert_eq!(differences(&live, &declared), [""; 0]);
        let other = fragment(
            &json!({ "syncFrequency": "61s", "maxPods": 51, "failSwapOn": true, "authentication": { "anonymous": { "enabled": true } } }),
        );
        let mut found = differences(&live, &other);
        found.sort();
        assert_eq!(found, ["authentication.anonymous", "failSwapOn", "maxPods", "syncFrequency"]);
        assert_eq!(
            (duration("1h30m"), duration("500ms"), duration("5"), duration("")),
            (Some(5_400_000_000_000), Some(500_000_000), None, None)
        );
        total::text("go-duration", &["1h30m500ms"], duration);
    }

    #[test]
    fn a_list_without_names_is_taken_as_it_is_declared() {
        let live = fragment(&json!({ "kind": "KubeletConfiguration", "clusterDNS": ["10.96.0.10"], "maxPods": 110 }));
        let declared = fragment(&json!({ "clusterDNS": ["10.0.0.1", "10.0.0.2"] }));
        assert_eq!(differences(&live, &declared), ["clusterDNS"]);
        let wanted = relaid(&live, &[], &declared).unwrap();
        assert_eq!(wanted["clusterDNS"], declared["clusterDNS"]);
        assert_eq!(differences(&wanted, &declared), [""; 0]);
        let back = relaid(&wanted, &[declared], &Fragment::new()).unwrap();
        assert_eq!(
            Value::Object(back),
            json!({ "kind": "KubeletConfiguration", "maxPods": 110 }),
            "kubeadm's own comes back"
        );
    }

    #[test]
    fn values_of_two_kinds_are_named() {
        let odd = fragment(&json!({ "apiServer": { "extraArgs": 3 } }));
        assert_eq!(relaid(&live(), &[], &odd), Err("apiServer.extraArgs".to_owned()));
    }

    #[test]
    fn what_was_laid_is_noted_once() {
        let overlay = |v: &str| Overlay { kubelet: fragment(&json!({ "maxPods": v })), ..Overlay::default() };
        let laid = Laid::of(&overlay("1")).with(&Overlay::default()).with(&overlay("1")).with(&overlay("2"));
        assert_eq!(laid.kubelet.len(), 2);
        assert!(laid.cluster.is_empty());
        assert_ne!(laid, Laid::of(&overlay("2")));
    }
}
