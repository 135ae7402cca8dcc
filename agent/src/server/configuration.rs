//! Messages about the configuration of a living cluster to domain types and back. Every value of a request is checked here.

use super::wire;
use crate::cluster::{ConfigurePlan, Differences, Overlay};
use agent_proto::{form, overlay, v1 as proto};
use serde_json::json;

pub(super) fn plan(request: proto::ClusterConfigureRequest) -> Result<ConfigurePlan, String> {
    let proto::ClusterConfigureRequest { cluster_id, node_name, config, before, kubelet, settle, .. } = request;
    let (names, names_before) = (request.certificate_names, request.certificate_names_before);
    if cluster_id.is_empty() {
        return Err("cluster_id is missing".to_owned());
    }
    form::node_name(&node_name).map_err(|why| format!("node_name: {node_name:?} {why}"))?;
    let read = |config: Option<proto::ConfigOverlay>| wire::overlay(&config.unwrap_or_default());
    let (declared, before) = (read(config)?, read(before)?);
    let fixed = overlay::fixed(&before.cluster, &declared.cluster);
    if !fixed.is_empty() {
        return Err(format!("config.cluster: {} cannot be changed in a cluster that lives", fixed.join(", ")));
    }
    let (declared, before) = (named(living(declared), &names)?, named(living(before), &names_before)?);
    Ok(ConfigurePlan { cluster_id, node_name, declared, before, kubelet, settle })
}

/// What is compared with a living cluster.
pub(super) fn declared(request: proto::ClusterConfigStatusRequest) -> Result<Overlay, String> {
    let declared = wire::overlay(&request.config.unwrap_or_default()).map(living)?;
    named(declared, &request.certificate_names)
}

/// With the names of the API server's certificate, which stand in the same document.
fn named(mut declared: Overlay, names: &[String]) -> Result<Overlay, String> {
    for name in names {
        form::certificate_name(name).map_err(|why| format!("certificate_names: {name:?} {why}"))?;
    }
    if !names.is_empty() {
        let server = declared.cluster.entry("apiServer").or_insert_with(|| json!({}));
        let server = server.as_object_mut().ok_or("config.cluster: apiServer must be an object")?;
        server.insert("certSANs".to_owned(), json!(names));
    }
    Ok(declared)
}

/// Of a declaration what a living cluster is given.
fn living(declared: Overlay) -> Overlay {
    Overlay { cluster: overlay::changeable(&declared.cluster), ..declared }
}

pub(super) fn differences(differences: Differences) -> proto::ClusterConfigStatusReply {
    let Differences { cluster, node } = differences;
    let lines = |all: Vec<String>| all.iter().map(|line| plain::line(line).into_owned()).collect();
    proto::ClusterConfigStatusReply { cluster: lines(cluster), node: lines(node) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_needs_its_cluster_and_node_and_what_a_living_cluster_can_be_given() {
        let config = |cluster: &str| Some(proto::ConfigOverlay { cluster: cluster.into(), ..Default::default() });
        let good = proto::ClusterConfigureRequest {
            cluster_id: "sha256:00".into(),
            node_name: "cp-1".into(),
            config: config(r#"{"scheduler":{"extraArgs":[]},"featureGates":{"A":true}}"#),
            before: config(r#"{"featureGates":{"A":true}}"#),
            ..Default::default()
        };
        let plan = plan(good.clone()).unwrap();
        assert_eq!((plan.declared.cluster.len(), plan.before.cluster.len()), (1, 0), "the rest is not compared");
        let names = vec!["api.example.org".to_owned()];
        let plan = super::plan(proto::ClusterConfigureRequest { certificate_names: names, ..good.clone() }).unwrap();
        assert_eq!(plan.declared.cluster["apiServer"]["certSANs"], json!(["api.example.org"]));
        for (request, name) in [
            (proto::ClusterConfigureRequest { cluster_id: String::new(), ..good.clone() }, "cluster_id"),
            (proto::ClusterConfigureRequest { node_name: "--help".into(), ..good.clone() }, "node_name"),
            (proto::ClusterConfigureRequest { config: config("[]"), ..good.clone() }, "config.cluster"),
            (
                proto::ClusterConfigureRequest { certificate_names: vec!["a:1".into()], ..good.clone() },
                "certificate_names",
            ),
            (proto::ClusterConfigureRequest { before: None, ..good }, "config.cluster: featureGates.A"),
        ] {
            let refused = super::plan(request).unwrap_err();
            assert!(refused.starts_with(name), "{refused}");
        }
    }
}
