//! `groundwork_kubeconfig`: access to a cluster for one run, by a client certificate of its own that soon ends.
//!
//! The key is made here, the certificate by the agent of a control plane with the cluster's CA. Kubernetes cannot revoke a certificate
//! and takes no longer life for one that it has: there is nothing to renew and nothing to close.

use crate::agents::{Access, Credential, Endpoint, Error, Refusal, form};
use crate::context::{Cx, Data, looking};
use crate::endpoint::{EndpointModel, fingerprint_form};
use crate::{explain, kubeconfig, timeouts};
use std::collections::BTreeMap;
use std::time::Duration;
use tf::{
    Attr, Diagnostic, Diagnostics, EphemeralResource, Model, Opened, Row, Secret, chain, computed, optional, required,
};

/// See [`EphemeralResource::DOC`].
pub(crate) struct KubeconfigEphemeral;

#[derive(Debug, Clone, Default)]
pub(crate) struct Kubeconfig {
    ca_fingerprint: Attr<String>,
    control_planes: Attr<BTreeMap<String, ControlPlane>>,
    user: Attr<String>,
    groups: Attr<Vec<String>>,
    ttl: Attr<String>,
    name: Attr<String>,
    host: Attr<String>,
    cluster_ca_certificate: Attr<String>,
    client_certificate: Attr<String>,
    client_key: Attr<Secret<String>>,
    kubeconfig: Attr<Secret<String>>,
    expires: Attr<String>,
}

impl Model for Kubeconfig {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            ca_fingerprint, control_planes, user, groups, ttl, name, host, cluster_ca_certificate, client_certificate, client_key,
            kubeconfig, expires,
        } = self;
        vec![
            required(
                "ca_fingerprint",
                ca_fingerprint,
                "Which cluster: `ca_fingerprint` of its `groundwork_cluster`. A control plane of another cluster gives nothing. As long as \
                 it is not known, Terraform waits, and so does what is configured with the values below.",
            )
            .check(fingerprint_form),
            required(
                "control_planes",
                control_planes,
                "`control_planes` of the `groundwork_cluster`. They are asked in the order of their names until one answers.",
            ),
            optional("user", user, "Name of the user, as Kubernetes has it in its audit log.")
                .default("groundwork")
                .check(form::kubernetes_user),
            optional(
                "groups",
                groups,
                "Groups of the user, to which a `RoleBinding` or a `ClusterRoleBinding` gives rights. Default: those of kubeadm's own \
                 administrator, `kubeadm:cluster-admins` (before 1.29 `system:masters`), who may do everything.",
            )
            .check(form::kubernetes_user),
            optional(
                "ttl",
                ttl,
                "How long the certificate counts, by the control plane's clock: from `5m` to `24h`. It must last for what is applied with \
                 it, as a certificate is neither renewed nor revoked.",
            )
            .default("1h")
            .check(life),
            optional("name", name, "Name of cluster and context in `kubeconfig`.").default("kubernetes").check(form::node_name),
            computed("host", host, "URL of the API server, `https://192.0.2.11:6443`."),
            computed("cluster_ca_certificate", cluster_ca_certificate, "Certificate of the cluster's CA, PEM."),
            computed("client_certificate", client_certificate, "The user's certificate, PEM."),
            computed("client_key", client_key, "The key that belongs to it, PEM. It was made for this run and is stored nowhere."),
            computed("kubeconfig", kubeconfig, "A whole kubeconfig with certificate and key in it."),
            computed("expires", expires, "When the certificate ends, `2026-11-27T21:00:00Z`."),
        ]
    }
}

/// A control plane's machine. What else the members of a cluster have is of no use here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ControlPlane {
    endpoint: Attr<EndpointModel>,
}

impl Model for ControlPlane {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { endpoint } = self;
        vec![required("endpoint", endpoint, "The machine's agent: `endpoint` of its `groundwork_machine`.")]
    }
}

impl EphemeralResource for KubeconfigEphemeral {
    type Data = Data;
    type Model = Kubeconfig;

    const NAME: &'static str = "kubeconfig";
    const DOC: &'static str = "Access to a cluster for one run: a client certificate of its own that soon ends. Providers such as \
        `kubernetes` and `helm` are configured with it in the apply that makes the cluster, and neither state nor plan nor log holds \
        the key. It needs Terraform 1.10 or OpenTofu 1.11.\n\n\
        The key is made by the provider and stays in its memory; a control plane's agent has the cluster's CA sign a certificate for \
        it. Every plan and every apply has its own. That takes the agents' role operator: an observer's certificate is refused, so what \
        observers plan must not open it. For people there is `kubeconfig` of `groundwork_cluster`, which holds no secret.\n\n\
        ```terraform\n\
        provider \"kubernetes\" {\n  \
          host                   = ephemeral.groundwork_kubeconfig.main.host\n  \
          cluster_ca_certificate = ephemeral.groundwork_kubeconfig.main.cluster_ca_certificate\n  \
          client_certificate     = ephemeral.groundwork_kubeconfig.main.client_certificate\n  \
          client_key             = ephemeral.groundwork_kubeconfig.main.client_key\n\
        }\n\
        ```";

    async fn open(&self, cx: &Cx, m: &mut Kubeconfig) -> Opened {
        let access = access(m)?;
        let members = m.control_planes.need()?.iter();
        let members: Vec<_> =
            members.map(|(name, own)| Ok((name.clone(), endpoint(own)?))).collect::<Result<_, Diagnostic>>()?;
        let (credential, passed) =
            cx.agents.credential(&members, &access, &looking(cx)).await.map_err(|all| nobody(&all))?;
        passed.iter().for_each(|(name, error)| cx.warn(passed_over(name, error)));
        fill(m, &credential)?;
        Ok(None)
    }

    fn validate(&self, m: &Kubeconfig) -> Diagnostics {
        let nobody_to_ask = m.control_planes.get().is_some_and(BTreeMap::is_empty).then(|| {
            Diagnostic::error("Cannot open a kubeconfig without a control plane")
                .happened("`control_planes` is empty.")
                .next("Give it `control_planes` of a `groundwork_cluster`.")
                .at("control_planes")
        });
        nobody_to_ask.into_iter().chain(no_group(m)).collect()
    }
}

/// An empty list is no wish for the administrator's rights.
fn no_group(m: &Kubeconfig) -> Option<Diagnostic> {
    m.groups.get().is_some_and(Vec::is_empty).then(|| {
        Diagnostic::error("Cannot open a kubeconfig for nobody")
            .happened("`groups` is empty.")
            .next("Name a group, or leave `groups` out: then it is for an administrator.")
            .at("groups")
    })
}

fn access(m: &Kubeconfig) -> Result<Access, Diagnostic> {
    no_group(m).map_or(Ok(()), Err)?;
    let ttl = timeouts::parse(m.ttl.need()?).ok_or_else(|| Diagnostic::bug("a ttl that is none passed its check"))?;
    Ok(Access {
        cluster_id: m.ca_fingerprint.need()?.clone(),
        user: m.user.need()?.clone(),
        groups: m.groups.or(Vec::new()),
        ttl,
    })
}

fn fill(m: &mut Kubeconfig, credential: &Credential) -> Result<(), Diagnostics> {
    let text = kubeconfig::with_key(m.name.need()?, m.user.need()?, credential);
    m.host.set(kubeconfig::server(&credential.endpoint));
    m.cluster_ca_certificate.set(credential.ca_certificate.clone());
    m.client_certificate.set(credential.certificate.clone());
    m.client_key.set(credential.key.clone());
    m.kubeconfig.set(text);
    m.expires.set(credential.expires.clone());
    Ok(())
}

fn endpoint(member: &ControlPlane) -> Result<Endpoint, Diagnostic> {
    let endpoint = member.endpoint.get().and_then(EndpointModel::to_endpoint);
    endpoint.ok_or_else(|| Diagnostic::bug("a control plane's endpoint is not known when it is asked"))
}

fn refusal(name: &str, error: &Error) -> Diagnostic {
    let act = format!("get a kubeconfig from control plane {name}");
    match error {
        Error::LesserRole { needs, .. } | Error::Ceiling { needs, .. } => Diagnostic::error(format!("Cannot {act}"))
            .happened(format!("{}.", capital(&chain(error))))
            .holds("Nothing was asked. Whoever has a kubeconfig made is a user of the cluster, and an observer of machines is not.")
            .next(format!(
                "Run with the role {role} (`terraform-provider-groundwork pki issue --role {role} DIR`), or leave the ephemeral resource \
                 out of what observers plan: every plan opens it.",
                role = needs.word()
            )),
        Error::NotKnown { .. } => Diagnostic::error(format!("Cannot {act}"))
            .happened(format!("{}: it is older than this provider.", capital(&chain(error))))
            .holds("Nothing was changed on the machine.")
            .next(
                "Change something of its `groundwork_machine` and apply that alone with `terraform apply -target=…`: whatever is applied \
                 to a machine updates its agent first.",
            ),
        other => explain::agent(&act, other),
    }
}

/// The error when no control plane gives anything; one alone is explained as it is.
fn nobody(passed: &[Refusal]) -> Diagnostic {
    match passed {
        [(name, error)] => refusal(name, error),
        _ => {
            let lines: Vec<String> = passed.iter().map(|(name, error)| format!("{name}: {}", chain(error))).collect();
            Diagnostic::error("Cannot get a kubeconfig from any control plane")
                .happened(explain::listed("All were asked:", &lines))
                .holds("Nothing was changed.")
                .next(
                    "See that the agent of one of them can be reached from here, and that it is a control plane still.",
                )
        }
    }
}

fn passed_over(name: &str, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Control plane {name} was passed over"))
        .happened(format!("It gave no kubeconfig: {}.", chain(error)))
        .holds("Another one gave it.")
        .next(format!("Look at {name}."))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// A life that is long enough for an apply and short enough to be forgotten.
fn life(text: &str) -> Result<(), String> {
    let good = timeouts::parse(text).is_some_and(|life| (SHORTEST..=LONGEST).contains(&life));
    if good { Ok(()) } else { Err("must be a time from `5m` to `24h`, such as `90m`".to_owned()) }
}

const SHORTEST: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_neither_too_short_nor_too_long() {
        for good in ["5m", "90m", "24h"] {
            assert_eq!(life(good), Ok(()), "{good}");
        }
        for bad in ["299s", "24h1s", "", "1d"] {
            assert!(life(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_groups_are_not_the_administrators() {
        let m =
            Kubeconfig { groups: Vec::new().into(), control_planes: BTreeMap::new().into(), ..Kubeconfig::default() };
        let found = KubeconfigEphemeral.validate(&m);
        let paths: Vec<String> = found.iter().map(|problem| problem.path().unwrap().to_string()).collect();
        assert_eq!(paths, ["control_planes", "groups"]);
        assert!(access(&m).is_err(), "nobody is asked");
        let unknown = Kubeconfig { groups: Attr::Unknown, control_planes: Attr::Unknown, ..Kubeconfig::default() };
        assert!(KubeconfigEphemeral.validate(&unknown).is_empty());
    }

    #[test]
    fn whoever_may_not_is_told_what_it_takes() {
        let lesser = Error::LesserRole { has: trust::Role::Observer, needs: trust::Role::Operator };
        let said = nobody(&[("cp-1".to_owned(), lesser)]).to_string();
        for part in ["from control plane cp-1", "has the role observer", "every plan opens it", "--role operator"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let down =
            |name: &str| (name.to_owned(), Error::Unreachable { address: "a:1".into(), why: "no answer".into() });
        let said = nobody(&[down("cp-1"), down("cp-2")]).to_string();
        assert!(said.contains("cp-1: the agent at a:1") && said.contains("cp-2: "), "{said}");
    }
}
