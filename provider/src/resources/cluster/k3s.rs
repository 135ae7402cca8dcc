//! What is otherwise with K3s and its relatives: where the program comes from, what this version does not do with it yet, and what cannot be changed.
//!
//! All of it is refused by name: a configuration is never done in part. What a relative has of its own is its row of `ALL`, its block in the model, and
//! a file of the agent.

use super::configuration::names;
use super::fixed::Change;
use super::model::{Cluster, Config};
use super::upgrade;
use crate::agents::{self, form};
use tf::check::Verdict;
use tf::{Attr, Diagnostic, Diagnostics, Model, Path, Row, optional, required};

/// K3s, or a relative.
#[derive(Debug)]
pub(super) struct Variant {
    /// Its `distribution`, the name of its block, of its program and of its folders.
    pub(super) program: &'static str,
    /// As it is written, and that of something.
    pub(super) name: &'static str,
    pub(super) whose: &'static str,
    /// Of a server.
    pub(super) unit: &'static str,
    /// Where nodes join, if that is not where the API server is.
    pub(super) supervisor: Option<u16>,
    form: fn(&str) -> Verdict,
    block: fn(&Cluster) -> &Attr<Program>,
}

static ALL: [Variant; 2] = [
    Variant {
        program: "k3s",
        name: "K3s",
        whose: "K3s'",
        unit: "k3s",
        supervisor: None,
        form: form::k3s_version,
        block: |m| &m.k3s,
    },
    Variant {
        program: "rke2",
        name: "RKE2",
        whose: "RKE2's",
        unit: "rke2-server",
        supervisor: Some(9345),
        form: form::rke2_version,
        block: |m| &m.rke2,
    },
];

/// Where a program comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Program {
    pub(super) url: Attr<String>,
    pub(super) checksum: Attr<String>,
    pub(super) images_url: Attr<String>,
    pub(super) images_checksum: Attr<String>,
}

impl Model for Program {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { url, checksum, images_url, images_checksum } = self;
        vec![
            required(
                "url",
                url,
                "Where the machines fetch the program of `version`, such as `https://github.com/k3s-io/k3s/releases/download/v1.34.3%2Bk3s1/k3s` or \
                 `https://github.com/rancher/rke2/releases/download/v1.34.3%2Brke2r1/rke2.linux-amd64`, or a copy of it on a server of your own. It \
                 is the bare program, no archive, and must be for the architecture of the machines.",
            )
            .check(bare),
            required(
                "checksum",
                checksum,
                "`sha256:<hex>` of the program, as it stands in `sha256sum-amd64.txt` of the release. What has another one is not used.",
            )
            .check(sum),
            optional(
                "images_url",
                images_url,
                "Where they fetch the archive of its images, for machines that reach no registry: `k3s-airgap-images-amd64.tar.zst` or \
                 `rke2-images.linux-amd64.tar.zst` of the release.",
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

/// A release has an archive too, with scripts that nobody runs here.
fn bare(text: &str) -> Verdict {
    form::web_url(text)?;
    let is_archive = [".gz", ".tgz", ".zst", ".tar"].iter().any(|ending| text.ends_with(ending));
    if is_archive {
        Err("must lead to the bare program and no archive: of RKE2 `rke2.linux-amd64`".to_owned())
    } else {
        Ok(())
    }
}

/// A version of Kubernetes, or of K3s or a relative; which of them it must be says [`problems`].
pub(super) fn version(text: &str) -> Verdict {
    let others = || ALL.iter().find_map(|own| (own.form)(text).ok());
    form::kubernetes_version(text)
        .or_else(|why| others().ok_or_else(|| format!("{why}; with K3s `v1.34.3+k3s1`, with RKE2 `v1.34.3+rke2r1`")))
}

/// What a cluster is made with, if that is K3s or a relative; `None` outside while that is not known.
fn known(m: &Cluster) -> Option<Option<&'static Variant>> {
    if m.distribution.is_null() { Some(None) } else { m.distribution.text().map(called) }
}

fn called(program: &str) -> Option<&'static Variant> {
    ALL.iter().find(|own| own.program == program)
}

pub(super) fn of(m: &Cluster) -> Option<&'static Variant> {
    known(m).flatten()
}

pub(super) fn is(m: &Cluster) -> bool {
    of(m).is_some()
}

/// The block for a version, by what stands behind that of Kubernetes.
pub(super) fn block_of(build: &str) -> &'static str {
    ALL.iter().find(|own| build.starts_with(own.program)).map_or("k3s", |own| own.program)
}

/// The unit whose journal tells why a control plane does not do.
pub(super) fn unit(k3s: Option<&agents::K3s>) -> &'static str {
    k3s.and_then(|k3s| called(&k3s.distribution)).map_or("kubelet", |own| own.unit)
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
    let own = of(m)?;
    let program = (own.block)(m).get()?;
    let hex = |sum: &Attr<String>| sum.or("").trim_start_matches("sha256:").to_owned();
    let config = m.config.cloned().unwrap_or_default();
    Some(agents::K3s {
        distribution: own.program.to_owned(),
        url: program.url.or(""),
        sha256: hex(&program.checksum),
        images_url: program.images_url.or(""),
        images_sha256: hex(&program.images_checksum),
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
        Some(own) => {
            others(m, own).into_iter().chain(own.map_or_else(|| of_kubeadm(m), |own| of_k3s(own, m))).collect()
        }
    }
}

/// What was not known when the configuration was validated is looked at before anything is done.
pub(super) fn agreed(m: &Cluster) -> Result<(), Diagnostics> {
    let found = problems(m);
    if found.is_empty() { Ok(()) } else { Err(found.into_iter().collect()) }
}

/// Blocks of other distributions.
fn others(m: &Cluster, own: Option<&Variant>) -> Vec<Diagnostic> {
    let is_other = |one: &&Variant| own.is_none_or(|own| own.program != one.program) && (one.block)(m).is_known();
    let said = |Variant { program, name, .. }: &Variant| {
        let next = format!("Set `distribution = \"{program}\"`, or take the block away.");
        other(&format!("`{program}` says where {name} comes from"), &next, *program)
    };
    ALL.iter().filter(is_other).map(said).collect()
}

fn of_kubeadm(m: &Cluster) -> Vec<Diagnostic> {
    let mut found = wrong_version(m, form::kubernetes_version);
    if m.restore_from.get().is_some_and(|from| from.token_path.is_known()) {
        found.push(other(
            "`restore_from.token_path` names the secret of a cluster of K3s or RKE2",
            "Take the attribute away, or set `distribution`.",
            Path::from("restore_from").name("token_path"),
        ));
    }
    let config = m.config.cloned().unwrap_or_default();
    for (name, part) in [("server", &config.server), ("agent", &config.agent)] {
        if part.is_known() {
            let what = format!("`config.{name}` is laid over `config.yaml` of K3s or RKE2");
            let at = Path::from("config").name(name);
            found.push(other(
                &what,
                "Use `config.cluster`, `config.kubelet` and their like, or set `distribution`.",
                at,
            ));
        }
    }
    found
}

fn of_k3s(own: &Variant, m: &Cluster) -> Vec<Diagnostic> {
    let Variant { program, name, .. } = own;
    let mut found = wrong_version(m, own.form);
    found.extend(no_source(own, m));
    if m.restore_from.get().is_some_and(|from| from.token_path.is_null()) {
        found.push(
            Diagnostic::error(format!("Cannot begin a cluster of {name} with a snapshot without its secret"))
                .happened("What the servers of a cluster have in common stands in the snapshot encrypted with the cluster's secret.")
                .next(format!(
                    "Set `restore_from.token_path` to a file on the first server by name, with a copy of \
                     `/var/lib/rancher/{program}/server/token` of the cluster of before."
                ))
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
            "Take the attribute away: certificates are renewed when a server or an agent starts, if they end within 120 days.",
        ),
    ];
    found.extend(attributes.into_iter().filter(|one| one.1).map(|(at, _, what, next)| not_yet(name, (what, next), at)));
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

fn no_source(Variant { program, name, block, .. }: &Variant, m: &Cluster) -> Option<Diagnostic> {
    if block(m).is_null() {
        return Some(
            Diagnostic::error(format!("Cannot make a cluster of {name} without its program"))
                .happened(format!(
                    "There is no `{program}` block, which says where the machines fetch it and what its checksum is."
                ))
                .next(format!("Add `{program} {{ url = …, checksum = \"sha256:…\" }}`."))
                .at(*program),
        );
    }
    let given = block(m).get()?;
    let (missing, given) = match (&given.images_url, &given.images_checksum) {
        (url, sum) if url.is_known() && sum.is_null() => ("images_checksum", "images_url"),
        (url, sum) if url.is_null() && sum.is_known() => ("images_url", "images_checksum"),
        _ => return None,
    };
    Some(
        Diagnostic::error(format!("Cannot use `{given}` without `{missing}`"))
            .happened("What is fetched is used only if its checksum is right.")
            .next(format!("Give `{missing}` too."))
            .at(Path::from(*program).name(given)),
    )
}

fn not_yet(name: &str, (what, next): (&str, &str), at: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot make a cluster of {name} with {what}"))
        .happened(format!("This version of the provider does not do that with {name} yet."))
        .next(next)
        .at(at)
}

fn other(what: &str, next: &str, at: impl Into<Path>) -> Diagnostic {
    Diagnostic::error("Cannot use what belongs to another distribution").happened(format!("{what}.")).next(next).at(at)
}

/// What `m` asks for and a cluster of K3s, or a relative, made as `prior` cannot be given by this version.
pub(super) fn changes(prior: &Cluster, m: &Cluster) -> Vec<Change> {
    let Some(own) = of(prior).filter(|own| m.distribution.text() == Some(own.program)) else { return Vec::new() };
    let Variant { program, name: distribution, .. } = own;
    let name = prior.name.or("");
    let differ = |one: &Attr<String>, other: &Attr<String>| {
        !one.is_unknown() && !other.is_unknown() && one.or("") != other.or("")
    };
    let mut found = Vec::new();
    let sum = |m: &Cluster| (own.block)(m).cloned().unwrap_or_default().checksum;
    let is_same = |one: Attr<String>, other: Attr<String>| one.is_known() && one == other;
    // What goes back to an older version has its program, and is refused for that.
    let goes_on = || upgrade::refusal(&prior.version.or(""), m).is_none();
    if differ(&prior.version, &m.version) && is_same(sum(prior), sum(m)) && goes_on() {
        found.push(Change {
            what: format!("give cluster {name} another version with the program of before"),
            why: format!("`{program}.checksum` is still the one of {}.", prior.version.or("")),
            next: format!("Give `{program}.url` and `{program}.checksum` of {}.", m.version.or("")),
            at: Path::from(*program).name("checksum"),
        });
    }
    if !m.certificate_names.is_unknown() && names(prior) != names(m) {
        found.push(Change {
            what: format!("change `certificate_names` of cluster {name}"),
            why: format!(
                "{distribution} reads them when a server is made, and this version of the provider does not change them afterwards."
            ),
            next: "Take the change back; or destroy the cluster, which resets its machines, and apply then.".to_owned(),
            at: "certificate_names".into(),
        });
    }
    let server = |m: &Cluster| m.config.cloned().unwrap_or_default().server;
    if !m.config.is_unknown() && differ(&server(prior), &server(m)) {
        found.push(Change {
            what: format!("change `config.server` of cluster {name}"),
            why: format!(
                "{distribution} reads it when the server starts, and this version of the provider does not change it afterwards."
            ),
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
        let k3s = Program {
            url: "https://example.org/k3s".into(),
            checksum: format!("sha256:{}", "0".repeat(64)).into(),
            ..Program::default()
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

    fn rke2() -> Cluster {
        let version = "v1.34.3+rke2r1".into();
        Cluster { distribution: "rke2".into(), version, rke2: cluster().k3s, k3s: Attr::Null, ..cluster() }
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
        check(&kubeadm, &["k3s", "version", "config.server"]);
        check(&rke2(), &[]);
        check(&Cluster { k3s: cluster().k3s, version: "v1.34.3+k3s1".into(), ..rke2() }, &["k3s", "version"]);
        check(&Cluster { rke2: Attr::Null, ..rke2() }, &["rke2"]);
        check(
            &Cluster { rke2: cluster().k3s, distribution: Attr::Null, version: "1.34.3".into(), ..Cluster::default() },
            &["rke2"],
        );
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
        let release = "https://github.com/rancher/rke2/releases/download/v1.34.3%2Brke2r1/rke2.linux-amd64";
        assert!(bare(release).is_ok() && bare(&format!("{release}.tar.gz")).is_err());
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
        let newer_of = |version: &str| Cluster { version: version.into(), ..rke2() };
        let said = changes(&rke2(), &newer_of("v1.34.4+rke2r1")).pop().unwrap();
        assert!(said.at.to_string() == "rke2.checksum" && said.next.contains("`rke2.url`"), "{}", said.next);
        let other = Program { checksum: format!("sha256:{}", "1".repeat(64)).into(), ..prior.k3s.cloned().unwrap() };
        assert!(at(&Cluster { k3s: Attr::Known(other), ..newer }).is_empty());
        assert_eq!(at(&Cluster { config: config("{\"debug\":true}", "{}"), ..prior.clone() }), ["config.server"]);
        assert!(
            at(&Cluster { config: config("{}", "{\"debug\":true}"), ..prior.clone() }).is_empty(),
            "later joins read it"
        );
        let mirror = Program { url: "https://mirror.example.org/k3s".into(), ..prior.k3s.cloned().unwrap() };
        assert!(at(&Cluster { k3s: Attr::Known(mirror), ..prior.clone() }).is_empty(), "the same program");
    }

    #[test]
    fn agents_are_told_where_it_comes_from() {
        let release = release(&cluster()).unwrap();
        assert_eq!((release.url.as_str(), release.sha256.len()), ("https://example.org/k3s", 64));
        assert_eq!(super::release(&Cluster { distribution: Attr::Null, ..cluster() }), None);
        assert_eq!(spelled(&cluster(), "1.34.3+k3s1".to_owned()), "v1.34.3+k3s1");
        let told = super::release(&rke2()).unwrap();
        assert_eq!((told.distribution.as_str(), unit(Some(&told)), unit(None)), ("rke2", "rke2-server", "kubelet"));
        assert_eq!([block_of("k3s1"), block_of("rke2r1")], ["k3s", "rke2"]);
    }
}
