//! `config.yaml` of a server and of an agent, and the note beside it. JSON is YAML, and needs no rules for quoting.
//!
//! Source: K3s, "Configuration File"; `k3s server --help`. A setting that K3s does not know it passes over with a warning, so what a user
//! lays over ours is compared with what the program's own help lists.

use super::agent::AgentPlan;
use super::server::ServerPlan;
use super::variant::Variant;
use crate::cluster::config::Taint;
use crate::cluster::overlay::lay;
use crate::host::{Access, Host, HostError};
use agent_proto::overlay::{Fragment, Part};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the agent has to know of a K3s, or a relative, that it made, and that keeps it nowhere. It is the first thing that is written and the last that goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    /// Of the attempt that began it.
    pub(super) mark: Option<String>,
    /// `host:port` of the API server.
    pub(super) endpoint: String,
    /// The program was put here by us, and goes with the node.
    pub(super) own_program: bool,
}

/// The note that stands here; an empty one where none does.
pub(super) fn note(host: &dyn Host, own: &Variant) -> Result<Note, HostError> {
    Ok(host.text(own.places.note)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

impl Note {
    pub(super) fn write(&self, host: &dyn Host, own: &Variant) -> Result<(), HostError> {
        let text = format!("{}\n", serde_json::to_string(self).unwrap_or_default());
        host.write(own.places.note, text.as_bytes(), Access::PRIVATE)
    }
}

/// `host:port` of the API server, of a server.
pub(in crate::cluster) fn endpoint(host: &dyn Host, own: &Variant) -> Result<Option<String>, HostError> {
    Ok(Some(note(host, own)?.endpoint).filter(|endpoint| !endpoint.is_empty()))
}

/// Of a server. One that begins a cluster does so with etcd, so that more can come, and makes its secret itself; one that joins `others`, or begins with
/// a snapshot, has that in a file.
///
/// # Errors
/// What the user's part has in another form.
pub(super) fn server(plan: &ServerPlan, others: Option<&str>) -> Result<String, String> {
    let (variant, mut own) = (plan.release.own, Fragment::new());
    match others {
        None if variant.is_told_to_begin => drop(own.insert("cluster-init".into(), json!(true))),
        None => {}
        Some(endpoint) => joins(&mut own, variant, endpoint),
    }
    if plan.restore_from.is_some() {
        own.insert("token-file".into(), json!(variant.places.token));
    }
    own.insert("write-kubeconfig-mode".into(), json!("0600"));
    node(&mut own, &plan.node_name, plan.address.as_deref());
    if let Some(address) = &plan.address {
        own.insert("advertise-address".into(), json!(address));
    }
    for (key, subnet) in [("cluster-cidr", &plan.pod_subnet), ("service-cidr", &plan.service_subnet)] {
        own.extend(subnet.as_ref().map(|subnet| (key.to_owned(), json!(subnet))));
    }
    let host = plan.endpoint.as_deref().map(|endpoint| crate::cluster::kube::host_of(endpoint).to_owned());
    let names: Vec<String> = host.into_iter().chain(plan.certificate_names.iter().cloned()).collect();
    if !names.is_empty() {
        own.insert("tls-san".into(), json!(names));
    }
    if let Some(taints) = plan.taints.as_ref().filter(|taints| !taints.is_empty()) {
        own.insert("node-taint".into(), taints.iter().map(Taint::text).collect());
    }
    text(own, Part::Server, &plan.overlay)
}

/// Of an agent. Its token stands in a file of its own: everybody on the machine may see arguments and environment.
///
/// # Errors
/// What the user's part has in another form.
pub(super) fn agent(plan: &AgentPlan) -> Result<String, String> {
    let mut own = Fragment::new();
    joins(&mut own, plan.release.own, &plan.endpoint);
    node(&mut own, &plan.node_name, plan.address.as_deref());
    text(own, Part::Agent, &plan.overlay)
}

/// The configuration of the server that began the cluster, as it is to be once others join: one that they cast out would begin an empty
/// cluster with its next start, and is to join them. `None` where it is so.
///
/// # Errors
/// When it is not in the form in which it was written.
pub(super) fn of_several(variant: &Variant, text: &str, endpoint: &str) -> Result<Option<String>, serde_json::Error> {
    let mut own: Fragment = serde_json::from_str(text)?;
    if own.contains_key("server") {
        return Ok(None);
    }
    own.remove("cluster-init");
    joins(&mut own, variant, endpoint);
    Ok(Some(format!("{:#}\n", Value::Object(own))))
}

fn joins(own: &mut Fragment, variant: &Variant, endpoint: &str) {
    own.insert("server".into(), json!(format!("https://{}", variant.supervisor(endpoint))));
    own.insert("token-file".into(), json!(variant.places.token));
}

fn node(own: &mut Fragment, name: &str, address: Option<&str>) {
    own.insert("node-name".into(), json!(name));
    own.extend(address.map(|address| ("node-ip".to_owned(), json!(address))));
}

fn text(mut own: Fragment, part: Part, over: &Fragment) -> Result<String, String> {
    lay(&mut own, over)
        .map_err(|path| format!("config.{}: {path} is of another type in what is written", part.name()))?;
    Ok(format!("{:#}\n", Value::Object(own)))
}

/// The first setting of the user's part that this program does not know, by its help.
pub(super) fn unknown<'a>(over: &'a Fragment, help: &str) -> Option<&'a str> {
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix('-'));
    let known: BTreeSet<&str> =
        flags.filter_map(|line| line.trim_start_matches('-').split([' ', ',']).next()).collect();
    // `key+` adds to what another file says.
    over.keys().map(String::as_str).find(|key| !known.contains(key.trim_end_matches('+')))
}
