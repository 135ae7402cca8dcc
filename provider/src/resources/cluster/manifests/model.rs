//! The attributes of a `manifest` block, and what stands behind them.

use crate::agents::{Applied, form};
use crate::fetch::sha256;
use crate::timeouts;
use std::time::Duration;
use tf::check::Verdict;
use tf::{Attr, Model, Row, Secret, optional};

/// Objects that the API server is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in super::super) struct Manifest {
    pub(super) content: Attr<String>,
    pub(super) content_wo: Attr<Secret<String>>,
    pub(super) content_wo_version: Attr<i64>,
    pub(super) url: Attr<String>,
    pub(super) checksum: Attr<String>,
    pub(super) namespace: Attr<String>,
    pub(super) after: Attr<Vec<String>>,
    pub(super) wait: Attr<bool>,
    pub(super) timeout: Attr<String>,
    pub(super) force_conflicts: Attr<bool>,
    pub(super) prune: Attr<bool>,
    pub(super) once: Attr<bool>,
}

impl Model for Manifest {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            content,
            content_wo,
            content_wo_version,
            url,
            checksum,
            namespace,
            after,
            wait,
            timeout,
            force_conflicts,
            prune,
            once,
        } = self;
        let mut rows = sources([content, url, checksum, namespace], content_wo, content_wo_version);
        rows.extend([
            optional("after", after, "Names of manifests that come before this one, and are ready then."),
            optional(
                "wait",
                wait,
                "Whether to wait until what it brings is ready: Deployments, DaemonSets, StatefulSets and Pods, Jobs to their end, \
                 CustomResourceDefinitions and APIServices. Default `true`.",
            ),
            optional("timeout", timeout, "How long applying it may take, the waiting included. Default `10m`.")
                .check(timeouts::check),
            optional(
                "force_conflicts",
                force_conflicts,
                "Whether to take fields from others who manage them. Without it they are an error that names them. Default `false`.",
            ),
            optional(
                "prune",
                prune,
                "Whether objects are deleted that are in the manifest no more, and all of them when the block is taken away; a namespace \
                 with all that is in it. Without it they stay, and are forgotten. Default `false`.",
            ),
            optional(
                "once",
                once,
                "Whether it is applied once and never looked at again, because somebody else takes its objects over, such as Argo CD. \
                 Default `false`.",
            ),
        ]);
        rows
    }
}

/// What is applied.
fn sources<'a>(
    [content, url, checksum, namespace]: [&'a mut Attr<String>; 4],
    content_wo: &'a mut Attr<Secret<String>>,
    content_wo_version: &'a mut Attr<i64>,
) -> Vec<Row<'a>> {
    vec![
        optional(
            "content",
            content,
            "Objects in YAML or JSON, any number of documents, such as `file(\"kube-flannel.yml\")`. It stands in the state and in \
             plans.",
        )
        .check(self::content),
        optional(
            "content_wo",
            content_wo,
            "The same, kept out of state and plans: for manifests with a Secret. Needs `content_wo_version`.",
        )
        .sensitive()
        .write_only(),
        optional(
            "content_wo_version",
            content_wo_version,
            "A number for `content_wo`: another one has it applied again. A difference in `content_wo` alone is seen by nobody.",
        ),
        optional(
            "url",
            url,
            "Where the computer that Terraform runs on fetches the objects, through the proxy of its environment: machines need no way \
             out for it. Needs `checksum`. It is fetched only when it is to be applied.",
        )
        .check(form::web_url),
        optional("checksum", checksum, "`sha256:<hex>` of what `url` gives.").check(self::checksum),
        optional(
            "namespace",
            namespace,
            "Namespace of objects that give none, if their kind has namespaces. It must be there, or stand in the manifest. Default \
             `default`.",
        )
        .check(form::manifest_name),
    ]
}

/// Where the objects come from.
pub(super) enum Source {
    Content(String),
    Secret(Secret<String>),
    Web {
        url: String,
        /// SHA-256, hex.
        sum: String,
    },
    Nothing,
}

impl Manifest {
    pub(super) fn source(&self) -> Source {
        if let Some(content) = self.content.cloned() {
            return Source::Content(content);
        }
        if let Some(content) = self.content_wo.cloned() {
            return Source::Secret(content);
        }
        match (self.url.cloned(), self.sum()) {
            (Some(url), Some(sum)) => Source::Web { url, sum },
            _ => Source::Nothing,
        }
    }

    fn sum(&self) -> Option<String> {
        Some(self.checksum.text()?.strip_prefix(ALGORITHM)?.to_ascii_lowercase())
    }

    /// What tells its content from others; `None` while it is not known. The same file has the same key, wherever it comes from.
    pub(super) fn key(&self) -> Option<String> {
        let content = self.content_key()?;
        if self.namespace.is_unknown() {
            return None;
        }
        Some(self.namespace.text().map_or(content.clone(), |namespace| format!("{content} in {namespace}")))
    }

    fn content_key(&self) -> Option<String> {
        if let Some(content) = self.content.text() {
            return Some(format!("{ALGORITHM}{}", sha256(content.as_bytes())));
        }
        let version = self.content_wo_version.get().map(|version| format!("version:{version}"));
        version.or_else(|| Some(format!("{ALGORITHM}{}", self.sum()?)))
    }

    pub(super) fn waits(&self) -> bool {
        self.wait.or(true)
    }

    pub(super) fn time(&self) -> Duration {
        self.timeout.text().and_then(timeouts::parse).unwrap_or(TIME)
    }

    /// What is different from what the cluster has of it, one line each.
    pub(super) fn drift(&self, known: Option<&Applied>) -> Vec<String> {
        let Some(known) = known else { return vec!["it is not applied".to_owned()] };
        if !known.done {
            return vec!["it was not applied to its end".to_owned()];
        }
        if self.once.is_true() {
            return Vec::new();
        }
        if self.key().is_some_and(|key| key != known.key) {
            return vec!["another content of it is applied".to_owned()];
        }
        known.drift.clone()
    }

    /// Whether there is nothing to do.
    pub(super) fn stands(&self, known: Option<&Applied>) -> bool {
        self.drift(known).is_empty() && !known.is_some_and(|known| self.prunes_otherwise(known))
    }

    /// Whether the cluster is to note another `prune`. One that is applied once is not sent again for that.
    fn prunes_otherwise(&self, known: &Applied) -> bool {
        !self.once.is_true() && known.prune.is_some_and(|prune| prune != self.prune.is_true())
    }
}

/// The name of a file is easily taken for its content.
fn content(text: &str) -> Verdict {
    if text.contains("kind") && text.contains("apiVersion") {
        return Ok(());
    }
    Err("must hold objects with `apiVersion` and `kind`; the content of a file is `file(\"name.yml\")`".to_owned())
}

fn checksum(text: &str) -> Verdict {
    let sum = text.strip_prefix(ALGORITHM);
    let good = sum.is_some_and(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if good { Ok(()) } else { Err("must be `sha256:` and 64 hex digits".to_owned()) }
}

const ALGORITHM: &str = "sha256:";
const TIME: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest { content: "abc".into(), ..Manifest::default() }
    }

    /// FIPS 180-2, B.1.
    const SUM: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_has_one_key_wherever_it_comes_from() {
        assert_eq!(manifest().key().as_deref(), Some(SUM));
        let web = Manifest { url: "https://example.org/a".into(), checksum: SUM.into(), ..Manifest::default() };
        assert_eq!(web.key(), manifest().key());
        let secret = Manifest {
            content_wo: Secret::new("abc".to_owned()).into(),
            content_wo_version: 3.into(),
            ..Manifest::default()
        };
        assert_eq!(secret.key().as_deref(), Some("version:3"));
        assert_eq!(Manifest { content: Attr::Unknown, ..Manifest::default() }.key(), None);
        let placed = Manifest { namespace: "argocd".into(), ..manifest() };
        assert_eq!(placed.key(), Some(format!("{SUM} in argocd")));
    }

    #[test]
    fn what_the_cluster_has_is_compared() {
        let known = Applied { name: "m".into(), key: SUM.into(), done: true, ..Applied::default() };
        assert!(manifest().stands(Some(&known)));
        let pruned = Applied { prune: Some(true), ..known.clone() };
        assert!(!manifest().stands(Some(&pruned)) && manifest().drift(Some(&pruned)).is_empty());
        assert!(Manifest { once: true.into(), ..manifest() }.stands(Some(&pruned)));
        assert_eq!(manifest().drift(None), ["it is not applied"]);
        let half = Applied { done: false, ..known.clone() };
        assert_eq!(manifest().drift(Some(&half)), ["it was not applied to its end"]);
        let other = Applied { key: "version:1".into(), ..known.clone() };
        assert_eq!(manifest().drift(Some(&other)), ["another content of it is applied"]);
        let changed = Applied { drift: vec!["ConfigMap a is missing".into()], ..known };
        assert_eq!(manifest().drift(Some(&changed)), ["ConfigMap a is missing"]);
        let once = Manifest { once: true.into(), ..manifest() };
        assert!(once.stands(Some(&changed)) && once.stands(Some(&other)));
        assert!(!once.stands(Some(&half)) && !once.stands(None));
    }

    #[test]
    fn a_name_is_no_content_and_a_checksum_has_its_form() {
        assert!(content("apiVersion: v1\nkind: Namespace").is_ok());
        assert!(content("kube-flannel.yml").unwrap_err().contains("file("));
        assert!(checksum(SUM).is_ok());
        assert!(checksum("sha512:00").is_err() && checksum(&SUM[..20]).is_err());
    }
}
