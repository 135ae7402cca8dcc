//! Nodes as the API server has them: `kubectl get nodes -o json`, read.

use serde::Deserialize;
use std::collections::BTreeMap;

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether its kubelet says it is ready.
    pub ready: bool,
    /// Why it is not.
    pub ready_message: String,
    /// `v1.35.1`
    pub kubelet_version: String,
    /// Whether it carries the control plane's label.
    pub control_plane: bool,
    /// SMBIOS UUID, lower case.
    pub machine_uuid: String,
    /// Its own address.
    pub internal_address: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `key=value:Effect`
    pub taints: Vec<String>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What its kubelet is short of.
    pub pressures: Vec<String>,
    /// Its machine has left in order, and nobody need be waited for.
    pub leaving: bool,
    /// An upgrade has cordoned it, and did not come to its end.
    pub upgrading: bool,
}

/// All nodes of a list, or the one of a single object.
pub(super) fn read(json: &str) -> Result<Vec<Node>, serde_json::Error> {
    let list: List = serde_json::from_str(json)?;
    Ok(list.items.into_iter().map(Node::from).collect())
}

/// The node that was asked for by its name; `None` if the answer holds none.
pub(super) fn read_one(json: &str) -> Result<Option<Node>, serde_json::Error> {
    if json.trim().is_empty() {
        return Ok(None);
    }
    let node = Node::from(serde_json::from_str::<Item>(json)?);
    Ok(Some(node).filter(|node| !node.name.is_empty()))
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Taint {
    key: String,
    value: String,
    effect: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    conditions: Vec<Condition>,
    addresses: Vec<Address>,
    node_info: NodeInfo,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "kubeletVersion")]
    kubelet_version: String,
    #[serde(rename = "systemUUID")]
    system_uuid: String,
}

impl From<Item> for Node {
    fn from(item: Item) -> Self {
        let Status { conditions, addresses, node_info } = item.status;
        let short = |condition: &&Condition| PRESSURES.contains(&condition.kind.as_str()) && condition.status == "True";
        let told = |condition: &Condition| format!("{}: {}", condition.kind, condition.message);
        let pressures = conditions.iter().filter(short).map(told).collect();
        let ready = conditions.into_iter().find(|condition| condition.kind == "Ready").unwrap_or_default();
        let internal = addresses.into_iter().find(|address| address.kind == "InternalIP").unwrap_or_default();
        Self {
            ready: ready.status == "True",
            ready_message: ready.message,
            kubelet_version: node_info.kubelet_version,
            control_plane: item.metadata.labels.contains_key("node-role.kubernetes.io/control-plane"),
            machine_uuid: node_info.system_uuid.to_ascii_lowercase(),
            internal_address: internal.address,
            leaving: item.metadata.annotations.contains_key(LEAVING),
            upgrading: item.metadata.annotations.contains_key(UPGRADING),
            pressures,
            name: item.metadata.name,
            labels: item.metadata.labels,
            taints: item.spec.taints.into_iter().map(|taint| taint.text()).collect(),
            unschedulable: item.spec.unschedulable,
        }
    }
}

impl Taint {
    fn text(self) -> String {
        let Self { key, value, effect } = self;
        if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
    }
}

/// Annotation of a node whose machine has left, or is leaving, in order.
pub(super) const LEAVING: &str = "groundwork/leaving";
/// Annotation of a node that an upgrade has cordoned. Whoever was cordoned before has none, and stays so.
pub(super) const UPGRADING: &str = "groundwork/upgrading";
/// Conditions that are bad when they hold. Source: Kubernetes, `core/v1` NodeConditionType.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_nodes_are_read() {
        let nodes = read(include_str!("recorded/nodes.json")).unwrap();
        assert_eq!(nodes.len(), 1);
        let node = &nodes[0];
        assert_eq!((node.name.as_str(), node.ready, node.control_plane), ("cp-1", true, true));
        assert_eq!((node.kubelet_version.as_str(), node.internal_address.as_str()), ("v1.35.1", "10.77.5.11"));
        assert_eq!(node.taints, ["node-role.kubernetes.io/control-plane:NoSchedule"]);
    }

    #[test]
    fn pressures_and_marks_are_read() {
        let node = read_one(
            r#"{"metadata":{"name":"w","annotations":{"groundwork/leaving":"true","groundwork/upgrading":"true"}},"status":{"conditions":[
                {"type":"DiskPressure","status":"True","message":"kubelet has disk pressure"},
                {"type":"PIDPressure","status":"False","message":"kubelet has sufficient PID available"}]}}"#,
        );
        let node = node.unwrap().unwrap();
        assert_eq!(node.pressures, ["DiskPressure: kubelet has disk pressure"]);
        assert!(node.leaving && node.upgrading);
    }

    #[test]
    fn what_is_missing_or_no_list_is_no_panic() {
        assert_eq!(read(r#"{"items":[{}]}"#).unwrap(), [Node::default()]);
        assert!(read("[]").is_err());
        assert_eq!(read_one("").unwrap(), None);
        assert_eq!(read_one(r#"{"kind":"List","items":[]}"#).unwrap(), None);
        assert!(read_one("{").is_err());
    }

    #[test]
    fn any_text_is_answered() {
        let node = r#"{"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}"#;
        total::text("kubectl-node", &[node], |text| read_one(text).is_ok());
        total::text("kubectl-nodes", &[&format!("{{\"items\": [{node}]}}")], |text| {
            read(text).map_err(|error| error.to_string())
        });
    }
}
