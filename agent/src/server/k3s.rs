//! Requests for nodes of K3s and its relatives, read and checked.

use super::snapshots;
use super::wire::{address, drain, given, near, node_name, some, taints};
use crate::cluster::k3s::{AgentPlan, FurtherPlan, Release, Restore, ServerPlan, Source, UpgradePlan, Variant};
use agent_proto::overlay::{self, Fragment, Part};
use agent_proto::{form, v1 as proto};

pub(super) fn server_plan(own: &'static Variant, request: proto::ClusterInitRequest) -> Result<ServerPlan, String> {
    for (name, is_there) in [
        ("kube_vip", request.kube_vip.is_some()),
        ("ignore_preflight_errors", !request.ignore_preflight_errors.is_empty()),
    ] {
        if is_there {
            return Err(format!("{name}: this agent does not do this with {}", own.program));
        }
    }
    let mut names = request.certificate_names;
    names.iter_mut().for_each(|name| *name = name.trim().to_owned());
    Ok(ServerPlan {
        release: release(own, &request.version, request.k3s)?,
        node_name: node_name(request.node_name)?,
        address: address(request.advertise_address)?,
        endpoint: some(request.endpoint),
        pod_subnet: some(request.pod_subnet),
        service_subnet: some(request.service_subnet),
        certificate_names: names,
        taints: if request.taints_given { Some(taints(&request.taints)?) } else { None },
        overlay: fragment(Part::Server, &request.config.unwrap_or_default().server)?,
        cluster_id: some(request.cluster_id),
        restore_from: restore(request.restore_from, &request.restore_token_path)?,
    })
}

pub(super) fn further_plan(own: &'static Variant, request: proto::ClusterJoinRequest) -> Result<FurtherPlan, String> {
    let material = request.material.ok_or("material is missing")?;
    let join = request.control_plane.ok_or("control_plane is missing")?;
    if join.kube_vip.is_some() {
        return Err(format!("control_plane.kube_vip: this agent does not do this with {}", own.program));
    }
    let endpoint = given(material.endpoint, "material.endpoint")?;
    let server = ServerPlan {
        release: release(own, &request.version, request.k3s)?,
        node_name: node_name(request.node_name)?,
        address: address(request.advertise_address)?,
        endpoint: Some(endpoint.clone()),
        pod_subnet: some(join.pod_subnet),
        service_subnet: some(join.service_subnet),
        certificate_names: join.certificate_names.iter().map(|name| name.trim().to_owned()).collect(),
        taints: if join.taints_given { Some(taints(&join.taints)?) } else { None },
        overlay: fragment(Part::Server, &request.config.unwrap_or_default().server)?,
        cluster_id: None,
        restore_from: None,
    };
    Ok(FurtherPlan {
        server,
        endpoint,
        token: given(material.token, "material.token")?,
        ca_hash: given(material.ca_hash, "material.ca_hash")?,
        near: near(request.near)?,
    })
}

pub(super) fn agent_plan(own: &'static Variant, request: proto::ClusterJoinRequest) -> Result<AgentPlan, String> {
    let material = request.material.ok_or("material is missing")?;
    Ok(AgentPlan {
        release: release(own, &request.version, request.k3s)?,
        node_name: node_name(request.node_name)?,
        address: address(request.advertise_address)?,
        endpoint: given(material.endpoint, "material.endpoint")?,
        token: given(material.token, "material.token")?,
        ca_hash: given(material.ca_hash, "material.ca_hash")?,
        near: near(request.near)?,
        overlay: fragment(Part::Agent, &request.config.unwrap_or_default().agent)?,
    })
}

pub(super) fn upgrade_plan(request: proto::ClusterUpgradeRequest) -> Result<UpgradePlan, String> {
    // Which of them it is, its version tells.
    let own = Variant::of_version(&request.version)
        .ok_or_else(|| format!("version: {:?} is of none that this agent knows", request.version))?;
    Ok(UpgradePlan {
        release: release(own, &request.version, request.k3s)?,
        node_name: node_name(request.node_name)?,
        cluster_id: given(request.cluster_id, "cluster_id")?,
        drain: drain(request.drain_timeout_s),
        only_check: request.only_check,
    })
}

fn restore(path: String, token_path: &str) -> Result<Option<Restore>, String> {
    let Some(path) = snapshots::restore_from(path)? else { return Ok(None) };
    form::file(token_path).map_err(|why| format!("restore_token_path: {token_path:?} {why}"))?;
    Ok(Some(Restore { path, token_path: token_path.to_owned() }))
}

fn release(own: &'static Variant, version: &str, k3s: Option<proto::K3s>) -> Result<Release, String> {
    (own.form)(version).map_err(|why| format!("version: {version:?} {why}"))?;
    let proto::K3s { url, sha256, images_url, images_sha256 } = k3s.ok_or("k3s is missing")?;
    let images =
        if images_url.is_empty() { None } else { Some(source(("k3s.images_url", images_url), images_sha256)?) };
    Ok(Release { own, version: version.to_owned(), program: source(("k3s.url", url), sha256)?, images })
}

fn source((name, url): (&str, String), sha256: String) -> Result<Source, String> {
    form::web_url(&url).map_err(|why| format!("{name}: {url:?} {why}"))?;
    form::sha256(&sha256).map_err(|why| format!("the sum of {name}: {sha256:?} {why}"))?;
    Ok(Source { url, sha256 })
}

fn fragment(part: Part, text: &str) -> Result<Fragment, String> {
    overlay::read(part, text).map_err(|why| format!("config.{}: {why}", part.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::k3s::K3S;

    fn init() -> proto::ClusterInitRequest {
        let k3s = proto::K3s { url: "https://example.org/k3s".into(), sha256: "0".repeat(64), ..Default::default() };
        proto::ClusterInitRequest {
            distribution: "k3s".into(),
            name: "main".into(),
            version: "v1.34.3+k3s1".into(),
            node_name: "cp-1".into(),
            k3s: Some(k3s),
            ..Default::default()
        }
    }

    #[test]
    fn a_server_is_read() {
        let plan = server_plan(&K3S, init()).unwrap();
        assert_eq!((plan.release.version.as_str(), plan.release.images), ("v1.34.3+k3s1", None));
    }

    #[test]
    fn a_further_server_is_read_with_what_all_of_them_are_told() {
        let material = proto::JoinMaterialReply {
            endpoint: "api.example.org:6443".into(),
            token: format!("K10{}::server:SECRET", "0".repeat(64)),
            ca_hash: "sha256:00".into(),
            lasting: true,
            ..Default::default()
        };
        let join = proto::ControlPlaneJoin { pod_subnet: "10.52.0.0/16".into(), ..Default::default() };
        let request = proto::ClusterJoinRequest {
            distribution: "k3s".into(),
            version: init().version,
            node_name: "cp-2".into(),
            k3s: init().k3s,
            material: Some(material),
            control_plane: Some(join.clone()),
            config: Some(proto::ConfigOverlay { server: r#"{"disable":["traefik"]}"#.into(), ..Default::default() }),
            ..Default::default()
        };
        let plan = further_plan(&K3S, request.clone()).unwrap();
        assert_eq!(plan.server.pod_subnet.as_deref(), Some("10.52.0.0/16"));
        assert!(plan.server.overlay.contains_key("disable") && !format!("{plan:?}").contains("SECRET"));
        let vip = proto::ControlPlaneJoin { kube_vip: Some(proto::KubeVip::default()), ..join };
        let request = proto::ClusterJoinRequest { control_plane: Some(vip), ..request };
        let refused = further_plan(&K3S, request).unwrap_err();
        assert!(refused.starts_with("control_plane.kube_vip"), "{refused}");
    }

    #[test]
    fn a_version_tells_what_is_upgraded() {
        let of = |version: &str| {
            let (version, k3s) = (version.to_owned(), init().k3s);
            let named = |name: &str| name.to_owned();
            let (node_name, cluster_id) = (named("cp-1"), named("sha256:00"));
            upgrade_plan(proto::ClusterUpgradeRequest { version, k3s, node_name, cluster_id, ..Default::default() })
        };
        assert_eq!(of("v1.34.4+k3s1").unwrap().release.own.name, "K3s");
        assert_eq!(of("v1.34.4+rke2r1").unwrap().release.own.name, "RKE2");
        assert!(of("v1.34.4+k0s.0").unwrap_err().starts_with("version"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |k3s: proto::K3s| proto::ClusterInitRequest { k3s: Some(k3s), ..init() };
        let good = init().k3s.unwrap();
        for (request, name) in [
            (proto::ClusterInitRequest { version: "1.34.3".into(), ..init() }, "version"),
            (proto::ClusterInitRequest { k3s: None, ..init() }, "k3s"),
            (with(proto::K3s { url: "file:///etc/shadow".into(), ..good.clone() }), "k3s.url"),
            (with(proto::K3s { sha256: "00".into(), ..good.clone() }), "k3s.url"),
            (with(proto::K3s { images_url: "-o".into(), ..good }), "k3s.images_url"),
            (proto::ClusterInitRequest { restore_from: "/a".into(), ..init() }, "restore_token_path"),
            (proto::ClusterInitRequest { node_name: "--help".into(), ..init() }, "node_name"),
        ] {
            let said = server_plan(&K3S, request).unwrap_err();
            assert!(said.contains(name), "{said}");
        }
    }
}
