//! What a user lays over the documents that are written for kubeadm.

use agent_proto::overlay::Fragment;
use serde_json::Value;

/// One fragment for each document. What has an attribute of its own was refused before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Of `ClusterConfiguration`.
    pub cluster: Fragment,
    /// Of `InitConfiguration`.
    pub init: Fragment,
    /// Of `JoinConfiguration`.
    pub join: Fragment,
    /// Of `KubeletConfiguration`.
    pub kubelet: Fragment,
    /// Of `KubeProxyConfiguration`.
    pub kube_proxy: Fragment,
}

impl Overlay {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        let Self { cluster, init, join, kubelet, kube_proxy } = self;
        [cluster, init, join, kubelet, kube_proxy].iter().all(|fragment| fragment.is_empty())
    }
}

/// Lays `over` on top of `ours`: objects are joined, lists are put together, other values replace ours; `null` says nothing.
///
/// # Errors
/// The path whose values are of two kinds, such as a list and an object.
pub(super) fn lay(ours: &mut Fragment, over: &Fragment) -> Result<(), String> {
    for (key, value) in over {
        let at = |path: String| if path.is_empty() { key.clone() } else { format!("{key}.{path}") };
        match (ours.get_mut(key), value) {
            (_, Value::Null) => {}
            (Some(Value::Object(mine)), Value::Object(value)) => lay(mine, value).map_err(at)?,
            (Some(Value::Array(mine)), Value::Array(value)) => mine.extend(value.iter().cloned()),
            (Some(Value::Object(_) | Value::Array(_)), _) => return Err(at(String::new())),
            (Some(mine), value) => value.clone_into(mine),
            (None, value) => {
                ours.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fragment(value: &Value) -> Fragment {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn objects_are_joined_and_lists_put_together() {
        let mut ours = fragment(&json!({
            "kind": "A", "timeouts": { "health": "8m0s" }, "node": { "args": [{ "name": "node-ip" }] }
        }));
        let over = fragment(&json!({
            "timeouts": { "health": "20m0s", "join": null }, "node": { "args": [{ "name": "v" }] }, "new": { "a": [1] }
        }));
        lay(&mut ours, &over).unwrap();
        let want = json!({
            "kind": "A",
            "timeouts": { "health": "20m0s" },
            "node": { "args": [{ "name": "node-ip" }, { "name": "v" }] },
            "new": { "a": [1] },
        });
        assert_eq!(Value::Object(ours), want);
    }

    #[test]
    fn values_of_two_kinds_are_named() {
        let mut ours = fragment(&json!({ "node": { "args": [] } }));
        let clash = lay(&mut ours, &fragment(&json!({ "node": { "args": { "v": "4" } } })));
        assert_eq!(clash, Err("node.args".to_owned()));
    }
}
