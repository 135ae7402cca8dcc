//! The cluster's own documents: what kubeadm notes for later joins and upgrades, in ConfigMaps, and beside it what was laid over them.
//!
//! YAML is read and written by kubectl, which has a parser of it. Source: kubeadm, `kubeadm-config`, `kubelet-config` and `kube-proxy` in
//! `kube-system`.

use super::document::Laid;
use crate::cluster::Distribution;
use crate::cluster::kube::{ADMIN, CACHE, Kube, failed, failure, kubectl};
use crate::cluster::output::{mask, reasons};
use crate::host::{Command, Host, HostError, Output};
use crate::run::Failure;
use agent_proto::overlay::Fragment;
use serde_json::{Value, json};
use std::time::Duration;

/// A document in a ConfigMap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) map: &'static str,
    key: &'static str,
}

pub(super) const CLUSTER: Document = Document { map: "kubeadm-config", key: "ClusterConfiguration" };
pub(super) const KUBELET: Document = Document { map: "kubelet-config", key: "kubelet" };
pub(super) const KUBE_PROXY: Document = Document { map: "kube-proxy", key: "config.conf" };
const LAID: Document = Document { map: "groundwork-configuration", key: "laid" };
pub(super) const ALL: [Document; 4] = [CLUSTER, KUBELET, KUBE_PROXY, LAID];

/// All of them, as they are now.
#[derive(Debug, Default, Clone)]
pub(super) struct Documents {
    pub(super) cluster: Fragment,
    pub(super) kubelet: Fragment,
    /// `None` where there is no kube-proxy.
    pub(super) kube_proxy: Option<Fragment>,
    /// `None` where nothing was noted yet.
    pub(super) laid: Option<Laid>,
    texts: [String; 4],
}

impl Documents {
    /// Asks until the API server answers.
    pub(super) async fn ask(kube: &Kube<'_>) -> Result<Self, Failure> {
        let json = kube.ask(STEP, ADMIN, &question()).await?;
        Self::read(kube.host(), &json).await.map_err(failed(STEP, "read them"))?.map_err(|why| failure(STEP, why))
    }

    /// Asks once. The API server, or a document, may not be readable: then why.
    pub(super) async fn look(host: &dyn Host) -> Result<Result<Self, String>, HostError> {
        let said = kubectl(host, (Distribution::Kubeadm, ADMIN), &question()).await?;
        if said.code != Some(0) {
            return Ok(Err(format!("the API server does not answer: {}", reasons(&said.stderr).join("; "))));
        }
        Self::read(host, &said.stdout).await
    }

    async fn read(host: &dyn Host, answer: &str) -> Result<Result<Self, String>, HostError> {
        let texts = match texts(answer) {
            Ok(texts) => texts,
            Err(error) => return Ok(Err(format!("the API server's answer cannot be read: {error}"))),
        };
        let [cluster, kubelet, kube_proxy, laid] = &texts;
        let there: Vec<&str> =
            [cluster, kubelet, kube_proxy].into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        let mut read = match parsed(host, ADMIN, &there).await? {
            Ok(read) => read.into_iter(),
            Err(why) => return Ok(Err(why)),
        };
        let mut next = |text: &str| if text.is_empty() { None } else { read.next() };
        let (cluster, kubelet, kube_proxy) = (next(cluster), next(kubelet), next(kube_proxy));
        let (Some(cluster), Some(kubelet)) = (cluster, kubelet) else {
            return Ok(Err(format!("{} or {} is not in the cluster", CLUSTER.map, KUBELET.map)));
        };
        let laid = serde_json::from_str(laid).ok();
        Ok(Ok(Self { cluster, kubelet, kube_proxy, laid, texts }))
    }

    /// The text of one, as it is now.
    pub(super) fn text(&self, document: &Document) -> &str {
        let at = ALL.iter().position(|one| one == document).unwrap_or_default();
        self.texts.get(at).map_or("", String::as_str)
    }
}

fn question() -> [&'static str; 11] {
    let [cluster, kubelet, kube_proxy, laid] = ALL.map(|document| document.map);
    [
        "get",
        "configmaps",
        cluster,
        kubelet,
        kube_proxy,
        laid,
        "--namespace",
        "kube-system",
        "--ignore-not-found",
        "-o",
        "json",
    ]
}

/// Texts of the documents in an answer; empty where one is not there.
fn texts(answer: &str) -> Result<[String; 4], serde_json::Error> {
    let answer: Value = if answer.trim().is_empty() { Value::Null } else { serde_json::from_str(answer)? };
    let items = answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer]);
    let text = |document: Document| {
        let map = items.iter().find(|item| item["metadata"]["name"] == document.map);
        map.and_then(|map| map["data"][document.key].as_str()).unwrap_or_default().to_owned()
    };
    Ok(ALL.map(text))
}

/// Objects that stand in texts in YAML, one each; or why they cannot be read.
pub(super) async fn parsed(
    host: &dyn Host,
    kubeconfig: &str,
    texts: &[&str],
) -> Result<Result<Vec<Fragment>, String>, HostError> {
    if texts.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let said = local(host, kubeconfig, "json", texts.join("\n---\n")).await?;
    if said.code != Some(0) {
        return Ok(Err(mask(&reasons(&said.stderr).join("; "))));
    }
    let read: Result<Vec<Fragment>, _> = serde_json::Deserializer::from_str(&said.stdout).into_iter().collect();
    Ok(match read {
        Ok(read) if read.len() == texts.len() => Ok(read),
        Ok(read) => Err(format!("of {} documents {} were read", texts.len(), read.len())),
        Err(error) => Err(error.to_string()),
    })
}

/// Without a server and without a change: kubectl prints what it has read.
async fn local(host: &dyn Host, kubeconfig: &str, form: &str, given: String) -> Result<Output, HostError> {
    let form = format!("--output={form}");
    let words =
        ["--kubeconfig", kubeconfig, CACHE, "patch", "--local", "--type=merge", "--patch={}", &form, "--filename=-"];
    host.run(&Command::new(Distribution::Kubeadm.kubectl(host), words).timeout(TIME).stdin(given), &|_| {}).await
}

/// Puts another document in the place of one. kubeadm reads its own line by line, as it writes it.
pub(super) async fn write(kube: &Kube<'_>, document: &Document, content: &Fragment) -> Result<(), Failure> {
    let said = local(kube.host(), ADMIN, "yaml", Value::Object(content.clone()).to_string()).await;
    let said = said.map_err(failed(STEP, "write YAML"))?;
    if said.code != Some(0) {
        return Err(failure(STEP, format!("{} cannot be written: {}", document.map, reasons(&said.stderr).join("; "))));
    }
    write_text(kube, document, &said.stdout).await
}

/// Notes what may be in the documents.
pub(super) async fn write_laid(kube: &Kube<'_>, laid: &Laid) -> Result<(), Failure> {
    let text = serde_json::to_string(laid).map_err(failed(STEP, "note what is laid over them"))?;
    write_text(kube, &LAID, &text).await
}

/// Of a cluster that begins with another one's objects: kubeadm has written its documents anew, and nothing is laid over them any more.
pub(in crate::cluster) async fn forget_laid(kube: &Kube<'_>) -> Result<(), Failure> {
    let words = [
        "--kubeconfig",
        ADMIN,
        CACHE,
        "delete",
        "configmap",
        LAID.map,
        "--namespace",
        "kube-system",
        "--ignore-not-found",
    ];
    kube.insist(STEP, &Command::new(kube.distribution.kubectl(kube.host()), words).timeout(TIME)).await.map(drop)
}

pub(super) async fn write_text(kube: &Kube<'_>, document: &Document, text: &str) -> Result<(), Failure> {
    let Document { map, key } = document;
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": map, "namespace": "kube-system" }, "data": { (*key): text },
    });
    let words = [
        "--kubeconfig",
        ADMIN,
        CACHE,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=groundwork-configuration",
        "-f",
        "-",
    ];
    let command = Command::new(kube.distribution.kubectl(kube.host()), words).timeout(TIME).stdin(body.to_string());
    // The API server may have been restarted just now.
    kube.insist(STEP, &command).await.map(drop)
}

pub(super) const LAID_OVER: &Document = &LAID;
const STEP: &str = "documents";
const TIME: Duration = Duration::from_secs(40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_by_their_names_be_there_one_or_many() {
        let map = |name: &str, key: &str, text: &str| json!({ "metadata": { "name": name }, "data": { (key): text } });
        let one = map("kubelet-config", "kubelet", "a");
        assert_eq!(texts(&one.to_string()).unwrap(), ["", "a", "", ""]);
        let list =
            json!({ "items": [one, map("kubeadm-config", "ClusterConfiguration", "b"), map("other", "laid", "c")] });
        assert_eq!(texts(&list.to_string()).unwrap(), ["b", "a", "", ""]);
        assert_eq!(texts("\n").unwrap(), [""; 4]);
        total::text("configuration-maps", &[&list.to_string()], |text| texts(text).ok());
    }
}
