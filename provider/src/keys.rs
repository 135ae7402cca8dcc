//! The latest keys of an object's machines, noted in its private state: see `agents/keys`.

use std::collections::BTreeMap;

use crate::context::Cx;

/// From here on, what this object has seen counts. Before its agents are spoken to.
pub(crate) fn recall(cx: &Cx) {
    let noted: BTreeMap<String, String> = cx.private().get(KEYS).unwrap_or_default();
    noted.iter().for_each(|(pin, key)| cx.agents.recall_key(pin, key));
}

/// Notes the keys that the machines known by these fingerprints were seen with. Of one that gave no answer, what was noted stays.
pub(crate) fn note(cx: &Cx, fingerprints: impl IntoIterator<Item = String>) {
    let latest = fingerprints.into_iter().filter_map(|pin| Some((cx.agents.latest_key(&pin)?, pin)));
    let noted: BTreeMap<String, String> = latest.map(|(key, pin)| (pin, key)).collect();
    if noted.is_empty() {
        cx.private().remove(KEYS);
    } else {
        cx.private().set(KEYS, &noted);
    }
}

/// Key in the private state of machines, agents and clusters.
const KEYS: &str = "keys";
