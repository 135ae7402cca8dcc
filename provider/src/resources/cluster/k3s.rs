//! What is otherwise with K3s: where it comes from, what this version does not do with it yet, and what cannot be changed.
//!
//! All of it is refused by name: a configuration is never done in part.

use super::configuration::names;
use super::fixed::Change;
use super::model::{Cluster, Config};
use super::upgrade;
use crate::agents::{self, form};
use tf::check::Verdict;
use tf::{Attr, Diagnostic, Diagnostics, Model, Path, Row, optional, required};

/// Where K3s comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct K3s {
    pub(super) url: Attr<String>,
    pub(super) checksum: Attr<String>,
    pub(super) images_url: Attr<String>,
    pub(super) images_checksum: Attr<String>,
}

impl Model for K3s {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { url, checksum, images_url, images_checksum } = self;
        vec![
            required(
                "url",
                url,
                "Where the machines fetch K3s' program of `version`, such as `https://github.com/k3s-io/k3s/releases/download/v1.34.3%2Bk3s1/k3s`, \
                 or a copy of it on a server of your own. It must be for the architecture of the machines.",
            )
            .check(form::web_url),
            required(
                "checksum",
                checksum,
                "`sha256:<hex>` of the program, as it stands in `sha256sum-amd64.txt` of the release. What has another one is not used.",
            )
            .check(sum),
            optional(
                "images_url",
                images_url,
                "Where they fetch the archive of K3s' images, such as `k3s-airgap-images-amd64.tar.zst` of the release, for machines that reach \
                 no registry.",
            )
            .check(form::web_url),
            optional("images_checksum", images_checksum, "`sha256:<hex>` of the archive.").check(sum),
        ]
    }
}

fn sum(text: &str) -> Verdict {
    let hex = text.strip_prefix("sha256:").ok_or("must be `sha256:` and 64 hex digits")?;
    form::sha256(hex)
}

/// A version of Kubernetes, or of K3s; which of them it must be says [`problems`].
pub(super) fn version(text: &str) -> Verdict {
    form::kubernetes_version(text)
        .or_else(|why| form::k3s_version(text).map_err(|_| format!("{why}; with K3s `v1.34.3+k3s1`")))
}

/// Whether a cluster is one of K3s; `None` while that is not known.
fn known(m: &Cluster) -> Option<bool> {
    if m.distribution.is_null() { Some(false) } else { m.distribution.text().map(|name| name == "k3s") }
}

pub(super) fn is(m: &Cluster) -> bool {
    known(m) == Some(true)
}

/// The unit whose journal tells why a control plane does not do.
pub(super) fn unit(k3s: bool) -> &'static str {
    if k3s { "k3s" } else { "kubelet" }
}

/// A version as the configuration spells it.
pub(super) fn spelled(m: &Cluster, bare: String) -> String {
    if is(m) { format!("v{}", bare.trim_start_matches('v')) } else { bare }
}

/// The networks of pods and services where none are given.
pub(super) fn networks(m: &Cluster) -> [Option<&'static str>; 2] {
    if is(m) { [Some("10.42.0.0/16"), Some("10.43.0.0/16")] } else { [None, Some(super::networks::SERVICES)] }
}

/// What agents are told of it.
pub(super) fn release(m: &Cluster) -> Option<agents::K3s> {
    let k3s = m.k3s.get().filter(|_| is(m))?;
    let hex = |sum: &Attr<String>| sum.or("").trim_start_matches("sha256:").to_owned();
    let config = m.config.cloned().unwrap_or_default();
    Some(agents::K3s {
        url: k3s.url.or(""),
        sha256: hex(&k3s.checksum),
        images_url: k3s.images_url.or(""),
        images_sha256: hex(&k3s.images_checksum),
        server: config.server.or(""),
        agent: config.agent.or(""),
        pod_subnet: m.pod_subnet.or(""),
        service_subnet: m.service_subnet.or(""),
        certificate_names: m.certificate_names.or(Vec::new()),
    })
}

/// What does not go with the distribution.
pub(super) fn problems(m: &Cluster) -> Vec<Diagnostic> {
    match known(m) {
        None => Vec::new(),
        Some(true) => of_k3s(m),
        Some(false) => of_kubeadm(m),
    }
}

/// What was not known when the configuration was validated is looked at before anything is done.
pub(super) fn agreed(m: &Cluster) -> Result<(), Diagnostics> {
    let found = problems(m);
    if found.is_empty() { Ok(()) } else { Err(found.into_iter().collect()) }
}

fn of_kubeadm(m: &Cluster) -> Vec<Diagnostic> {
    let mut found = wrong_version(m, form::kubernetes_version);
    if m.k3s.is_known() {
        found.push(other(
            "`k3s` says where K3s comes from",
            "Set `distribution = \"k3s\"`, or take the block away.",
            "k3s",
        ));
    }
    if m.restore_from.get().is_some_and(|from| from.token_path.is_known()) {
        found.push(other(
            "`restore_from.token_path` names the secret of a cluster of K3s",
            "Take the attribute away, or set `distribution = \"k3s\"`.",
            Path::from("restore_from").name("token_path"),
        ));
    }
    let config = m.config.cloned().unwrap_or_default();
    for (name, part) in [("server", &config.server), ("agent", &config.agent)] {
        if part.is_known() {
            let what = format!("`config.{name}` is laid over K3s' `config.yaml`");
            let at = Path::from("config").name(name);
            found.push(other(
                &what,
                "Use `config.cluster`, `config.kubelet` and their like, or set `distribution = \"k3s\"`.",
                at,
            ));
        }
    }
    found
}

fn of_k3s(m: &Cluster) -> Vec<Diagnostic> {
    let mut found = wrong_version(m, form::k3s_version);
    found.extend(no_source(m));
    if m.restore_from.get().is_some_and(|from| from.token_path.is_null()) {
        found.push(
            Diagnostic::error("Cannot begin a cluster of K3s with a snapshot without its secret")
                .happened("What the servers of a cluster have in common stands in the snapshot encrypted with the cluster's secret.")
                .next(
                    "Set `restore_from.token_path` to a file on the first server by name, with a copy of \
                     `/var/lib/rancher/k3s/server/token` of the cluster of before.",
                )
                .at(Path::from("restore_from").name("token_path")),
        );
    }
    let attributes = [
        (
            "kube_vip",
            m.kube_vip.is_known(),
            "a virtual address by kube-vip",
            "Take the block away, and set `endpoint`: to the name or address of a load balancer, or with one server to its own.",
        ),
        ("quorum_recovery", m.quorum_recovery.is_known(), "a recovery of etcd from one member", "Take the block away."),
        (
            "certificate_renewal_days",
            m.certificate_renewal_days.is_known(),
            "a renewal of certificates by an apply",
            "Take the attribute away: K3s renews its certificates when it starts, if they end within 120 days.",
        ),
    ];
    found.extend(attributes.into_iter().filter(|one| one.1).map(|(at, _, what, next)| not_yet(what, next, at)));
    if m.ignore_preflight_errors.is_known() {
        found.push(other(
            "`ignore_preflight_errors` names checks of kubeadm",
            "Take the attribute away.",
            "ignore_preflight_errors",
        ));
    }
    let Config { cluster, init, join, kubelet, kube_proxy, server: _, agent: _ } =
        m.config.cloned().unwrap_or_default();
    let parts =
        [("cluster", cluster), ("init", init), ("join", join), ("kubelet", kubelet), ("kube_proxy", kube_proxy)];
    for (name, _) in parts.into_iter().filter(|(_, part)| part.is_known()) {
        let what = format!("`config.{name}` is laid over what kubeadm is given");
        let at = Path::from("config").name(name);
        found.push(other(
            &what,
            "Use `config.server` and `config.agent`: `kubelet-arg`, `kube-apiserver-arg` and their like.",
            at,
        ));
    }
    found
}

fn wrong_version(m: &Cluster, form: fn(&str) -> Verdict) -> Vec<Diagnostic> {
    let why = m.version.text().and_then(|text| form(text).err());
    why.map(|why| {
        Diagnostic::error("Cannot use this version")
            .happened(format!("`version` {why}."))
            .next("Give the version as the distribution spells it.")
            .at("version")
    })
    .into_iter()
    .collect()
}

fn no_source(m: &Cluster) -> Option<Diagnostic> {
    if m.k3s.is_null() {
        return Some(
            Diagnostic::error("Cannot make a cluster of K3s without its program")
                .happened("There is no `k3s` block, which says where the machines fetch it and what its checksum is.")
                .next("Add `k3s { url = …, checksum = \"sha256:…\" }`.")
                .at("k3s"),
        );
    }
    let k3s = m.k3s.get()?;
    let (missing, given) = match (&k3s.images_url, &k3s.images_checksum) {
        (url, sum) if url.is_known() && sum.is_null() => ("images_checksum", "images_url"),
        (url, sum) if url.is_null() && sum.is_known() => ("images_url", "images_checksum"),
        _ => return None,
    };
    Some(
        Diagnostic::error(format!("Cannot use `{given}` without `{missing}`"))
            .happened("What is fetched is used only if its checksum is right.")
            .next(format!("Give `{missing}` too."))
            .at(Path::from("k3s").name(given)),
    )
}

fn not_yet(what: &str, next: &str, at: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot make a cluster of K3s with {what}"))
        .happened("This version of the provider does not do that with K3s yet.")
        .next(next)
        .at(at)
}

fn other(what: &str, next: &str, at: impl Into<Path>) -> Diagnostic {
    Diagnostic::error("Cannot use what belongs to another distribution").happened(format!("{what}.")).next(next).at(at)
}

/// What `m` asks for and a cluster of K3s made as `prior` cannot be given by this version.
pub(super) fn changes(prior: &Cluster, m: &Cluster) -> Vec<Change> {
    if !is(prior) || !is(m) {
        return Vec::new();
    }
    let name = prior.name.or("");
    let differ = |one: &Attr<String>, other: &Attr<String>| {
        !one.is_unknown() && !other.is_unknown() && one.or("") != other.or("")
    };
    let mut found = Vec::new();
    let sum = |m: &Cluster| m.k3s.cloned().unwrap_or_default().checksum;
    let is_same = |one: Attr<String>, other: Attr<String>| one.is_known() && one == other;
    // What goes back to an older version has its program, and is refused for that.
    let goes_on = || upgrade::refusal(&prior.version.or(""), m).is_none();
    if differ(&prior.version, &m.version) && is_same(sum(prior), sum(m)) && goes_on() {
        found.push(Change {
            what: format!("give cluster {name} another version with the program of before"),
            why: format!("`k3s.checksum` is still the one of {}.", prior.version.or("")),
            next: format!("Give `k3s.url` and `k3s.checksum` of {}.", m.version.or("")),
            at: Path::from("k3s").name("checksum"),
        });
    }
    if !m.certificate_names.is_unknown() && names(prior) != names(m) {
        found.push(Change {
            what: format!("change `certificate_names` of cluster {name}"),
            why: "K3s reads them when a server is made, and this version of the provider does not change them afterwards."
                .to_owned(),
            next: "Take the change back; or destroy the cluster, which resets its machines, and apply then.".to_owned(),
            at: "certificate_names".into(),
        });
    }
    let server = |m: &Cluster| m.config.cloned().unwrap_or_default().server;
    if !m.config.is_unknown() && differ(&server(prior), &server(m)) {
        found.push(Change {
            what: format!("change `config.server` of cluster {name}"),
            why: "K3s reads it when the server starts, and this version of the provider does not change it afterwards."
                .to_owned(),
            next: "Take the change back; or destroy the cluster, which resets its machines, and apply then.".to_owned(),
            at: Path::from("config").name("server"),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::model::Member;
    use super::super::recovery::RestoreFrom;
    use super::*;
    use std::collections::BTreeMap;

    fn cluster() -> Cluster {
        let k3s = K3s {
            url: "https://example.org/k3s".into(),
            checksum: format!("sha256:{}", "0".repeat(64)).into(),
            ..K3s::default()
        };
        Cluster {
            name: "edge".into(),
            distribution: "k3s".into(),
            version: "v1.34.3+k3s1".into(),
            k3s: Attr::Known(k3s),
            control_planes: members(&["cp-1"]),
            ..Cluster::default()
        }
    }

    fn members(names: &[&str]) -> Attr<BTreeMap<String, Member>> {
        Attr::Known(names.iter().map(|name| ((*name).to_owned(), Member::default())).collect())
    }

    #[track_caller]
    fn check(m: &Cluster, paths: &[&str]) {
        let found: Vec<_> = problems(m).iter().filter_map(Diagnostic::path).map(ToString::to_string).collect();
        assert_eq!(found, paths);
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        check(&cluster(), &[]);
        check(&Cluster { control_planes: members(&["a", "b", "c"]), ..cluster() }, &[]);
        check(&Cluster { control_planes: Attr::Unknown, ..cluster() }, &[]);
        let all = Cluster {
            kube_vip: Attr::Known(super::super::vip::KubeVip::default()),
            restore_from: Attr::Known(RestoreFrom { path: "/a".into(), ..RestoreFrom::default() }),
            quorum_recovery: Attr::Known(super::super::quorum::QuorumRecovery::default()),
            certificate_renewal_days: 30.into(),
            ignore_preflight_errors: vec!["Mem".to_owned()].into(),
            ..cluster()
        };
        check(
            &all,
            &[
                "restore_from.token_path",
                "kube_vip",
                "quorum_recovery",
                "certificate_renewal_days",
                "ignore_preflight_errors",
            ],
        );
    }

    #[test]
    fn each_distribution_has_settings_of_its_own() {
        let config = Config { cluster: "{}".into(), server: "{}".into(), ..Config::default() };
        check(&Cluster { config: Attr::Known(config.clone()), ..cluster() }, &["config.cluster"]);
        check(&Cluster { k3s: Attr::Null, ..cluster() }, &["k3s"]);
        check(&Cluster { version: "1.34.3".into(), ..cluster() }, &["version"]);
        let kubeadm = Cluster { distribution: Attr::Null, config: Attr::Known(config), ..cluster() };
        check(&kubeadm, &["version", "k3s", "config.server"]);
        check(&Cluster { distribution: Attr::Unknown, ..cluster() }, &[]);
    }

    #[test]
    fn an_archive_needs_its_checksum() {
        let mut m = cluster();
        m.k3s.get_mut().unwrap().images_url = "https://example.org/images.tar.zst".into();
        check(&m, &["k3s.images_url"]);
        m.k3s.get_mut().unwrap().images_checksum = format!("sha256:{}", "0".repeat(64)).into();
        check(&m, &[]);
        assert!(sum("md5:00").is_err() && sum("sha256:00").is_err());
    }

    #[test]
    fn another_version_has_another_program_and_settings_of_servers_stay() {
        let config = |server: &str, agent: &str| {
            Attr::Known(Config { server: server.into(), agent: agent.into(), ..Config::default() })
        };
        let prior = Cluster { config: config("{}", "{}"), ..cluster() };
        let at = |m: &Cluster| changes(&prior, m).iter().map(|one| one.at.to_string()).collect::<Vec<_>>();
        assert!(at(&prior).is_empty());
        let names = vec!["api.example.org".to_owned()];
        assert_eq!(at(&Cluster { certificate_names: names.into(), ..prior.clone() }), ["certificate_names"]);
        let newer = Cluster { version: "v1.35.1+k3s1".into(), ..prior.clone() };
        assert_eq!(at(&newer), ["k3s.checksum"]);
        let older = Cluster { version: "v1.34.2+k3s1".into(), ..prior.clone() };
        assert!(at(&older).is_empty(), "that it is older is said elsewhere");
        let other = K3s { checksum: format!("sha256:{}", "1".repeat(64)).into(), ..prior.k3s.cloned().unwrap() };
        assert!(at(&Cluster { k3s: Attr::Known(other), ..newer }).is_empty());
        assert_eq!(at(&Cluster { config: config("{\"debug\":true}", "{}"), ..prior.clone() }), ["config.server"]);
        assert!(
            at(&Cluster { config: config("{}", "{\"debug\":true}"), ..prior.clone() }).is_empty(),
            "later joins read it"
        );
        let mirror = K3s { url: "https://mirror.example.org/k3s".into(), ..prior.k3s.cloned().unwrap() };
        assert!(at(&Cluster { k3s: Attr::Known(mirror), ..prior.clone() }).is_empty(), "the same program");
    }

    #[test]
    fn agents_are_told_where_it_comes_from() {
        let release = release(&cluster()).unwrap();
        assert_eq!((release.url.as_str(), release.sha256.len()), ("https://example.org/k3s", 64));
        assert_eq!(super::release(&Cluster { distribution: Attr::Null, ..cluster() }), None);
        assert_eq!(spelled(&cluster(), "1.34.3+k3s1".to_owned()), "v1.34.3+k3s1");
    }
}
