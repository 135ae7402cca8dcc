//! The provider block's attributes, and what their values must look like.

use tf::{Attr, Diagnostic, Diagnostics, Model, Path, Row, Secret, block, check, optional};

use crate::explain;

/// The provider block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    pub(super) proxmox: Attr<ProxmoxBlock>,
    pub(super) agent: Attr<AgentBlock>,
}

/// Where Proxmox VE is, and who we are there.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxmoxBlock {
    pub(super) endpoints: Attr<Vec<String>>,
    pub(super) api_token: Attr<Secret<String>>,
    pub(super) username: Attr<String>,
    pub(super) password: Attr<Secret<String>>,
    pub(super) otp: Attr<Secret<String>>,
    pub(super) ca_cert_pem: Attr<String>,
    pub(super) tls_fingerprint: Attr<String>,
    pub(super) insecure: Attr<bool>,
    pub(super) parallelism: Attr<i64>,
}

/// The CA by which agents and provider know each other, and what the provider holds of it.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentBlock {
    pub(super) pki_dir: Attr<String>,
    pub(super) ca_cert_pem: Attr<String>,
    pub(super) ca_key_pem: Attr<Secret<String>>,
    pub(super) client_cert_pem: Attr<String>,
    pub(super) client_key_pem: Attr<Secret<String>>,
    pub(super) agent_update: Attr<bool>,
}

impl Model for Block {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { proxmox, agent } = self;
        vec![
            block("proxmox", proxmox, "Where Proxmox VE is, and who we are there."),
            block(
                "agent",
                agent,
                "The CA by which agents and provider know each other, and what the provider holds of it: `pki_dir`, or `ca_cert_pem` with \
                 `ca_key_pem`, or, to plan, with `client_cert_pem` and `client_key_pem`. `terraform-provider-groundwork pki init DIR` makes a \
                 CA; see the guide about trust.",
            ),
        ]
    }
}

impl Model for ProxmoxBlock {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { endpoints, api_token, username, password, otp, ca_cert_pem, tls_fingerprint, insecure, parallelism } =
            self;
        vec![
            optional(
                "endpoints",
                endpoints,
                "Nodes of one cluster, `https://pve1:8006`; the next is tried when one cannot be reached, does \
                 not answer or has no quorum. \
                 Environment: `GROUNDWORK_PROXMOX_ENDPOINTS` (with commas) or `PROXMOX_VE_ENDPOINT`.",
            )
            .check(endpoint_form),
            optional(
                "api_token",
                api_token,
                "API token, `user@realm!name=uuid`. From an ordinary input variable it stands in saved plans: take the \
                 environment, or an ephemeral variable. Environment: `GROUNDWORK_PROXMOX_API_TOKEN` or `PROXMOX_VE_API_TOKEN`.",
            )
            .check(token_form),
            optional(
                "username",
                username,
                "User with its realm, `root@pam`, where a token will not do. \
                 Environment: `GROUNDWORK_PROXMOX_USERNAME` or `PROXMOX_VE_USERNAME`.",
            )
            .check(username_form),
            optional(
                "password",
                password,
                "Password of the user. Environment: `GROUNDWORK_PROXMOX_PASSWORD` or `PROXMOX_VE_PASSWORD`.",
            ),
            optional(
                "otp",
                otp,
                "Current one-time code of the user's second factor. \
                 Environment: `GROUNDWORK_PROXMOX_OTP` or `PROXMOX_VE_OTP`.",
            ),
            optional(
                "ca_cert_pem",
                ca_cert_pem,
                "CA of the nodes' certificates, PEM or the path of a file: `/etc/pve/pve-root-ca.pem` of any node. Without it, a fingerprint \
                 or `insecure`, the CAs of the system are believed. Environment: `GROUNDWORK_PROXMOX_CA_CERT_PEM`.",
            )
            .check(pem_or_path),
            optional(
                "tls_fingerprint",
                tls_fingerprint,
                "SHA-256 fingerprint of the node's certificate, in place of a CA; 64 hex digits, with or without colons. \
                 Only with one endpoint: every node has a certificate of its own. \
                 Environment: `GROUNDWORK_PROXMOX_TLS_FINGERPRINT`.",
            )
            .check(fingerprint_form),
            optional(
                "insecure",
                insecure,
                "Whether to believe whoever answers; only for a first look, because it gives the credentials to anybody \
                 on the path. Environment: `GROUNDWORK_PROXMOX_INSECURE` or `PROXMOX_VE_INSECURE`.",
            ),
            optional("parallelism", parallelism, "Requests in flight per node, 1 to 64. Default 16.")
                .check(check::between(1, 64)),
        ]
    }
}

impl Model for AgentBlock {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { pki_dir, ca_cert_pem, ca_key_pem, client_cert_pem, client_key_pem, agent_update } = self;
        vec![
            optional(
                "pki_dir",
                pki_dir,
                "Folder with `ca.pem` and `ca-key.pem`, as `pki init` and `pki intermediate` make it, or with `ca.pem`, `client.pem` and \
                 `client-key.pem`, as `pki issue` does. Environment: `GROUNDWORK_AGENT_PKI_DIR`.",
            )
            .check(check::not_blank),
            optional(
                "ca_cert_pem",
                ca_cert_pem,
                "Certificate of the CA, PEM or the path of a file, in place of `pki_dir`. There can be several: agents believe each \
                 that issued itself. The certificate of an issuer below them stands here, too. Environment: `GROUNDWORK_AGENT_CA_CERT_PEM`.",
            )
            .check(pem_or_path),
            optional(
                "ca_key_pem",
                ca_key_pem,
                "Key of the CA or of an issuer below it, PEM or the path of a file; may come from an ephemeral resource or \
                 variable. From an ordinary input variable it stands in saved plans. Environment: `GROUNDWORK_AGENT_CA_KEY_PEM`.",
            )
            .check(pem_or_path),
            optional(
                "client_cert_pem",
                client_cert_pem,
                "A client certificate of that CA in place of its key, PEM or the path of a file, as `pki issue` makes it. Its role bounds \
                 what can be done: an observer's plans, and an operator's changes machines, but enrols none. \
                 Environment: `GROUNDWORK_AGENT_CLIENT_CERT_PEM`.",
            )
            .check(pem_or_path),
            optional(
                "client_key_pem",
                client_key_pem,
                "Key of `client_cert_pem`, PEM or the path of a file; may come from an ephemeral resource or variable. \
                 Environment: `GROUNDWORK_AGENT_CLIENT_KEY_PEM`.",
            )
            .check(pem_or_path),
            optional(
                "agent_update",
                agent_update,
                "Whether an agent that is older than this provider is updated before anything is applied to its machine. \
                 `false` refuses to apply instead. Default `true`.",
            ),
        ]
    }
}

impl ProxmoxBlock {
    pub(super) const fn is_partly_unknown(&self) -> bool {
        let Self { endpoints, api_token, username, password, otp, ca_cert_pem, tls_fingerprint, insecure, parallelism } =
            self;
        endpoints.is_unknown()
            || api_token.is_unknown()
            || username.is_unknown()
            || password.is_unknown()
            || otp.is_unknown()
            || ca_cert_pem.is_unknown()
            || tls_fingerprint.is_unknown()
            || insecure.is_unknown()
            || parallelism.is_unknown()
    }
}

impl AgentBlock {
    pub(super) const fn is_partly_unknown(&self) -> bool {
        let Self { pki_dir, ca_cert_pem, ca_key_pem, client_cert_pem, client_key_pem, agent_update } = self;
        agent_update.is_unknown()
            || pki_dir.is_unknown()
            || ca_cert_pem.is_unknown()
            || ca_key_pem.is_unknown()
            || client_cert_pem.is_unknown()
            || client_key_pem.is_unknown()
    }
}

/// What cannot work, whatever the environment says.
pub(super) fn contradictions(m: &Block) -> Diagnostics {
    let mut found = Diagnostics::new();
    if let Some(proxmox) = m.proxmox.get() {
        let both = proxmox.api_token.is_known() && proxmox.username.is_known();
        found.extend(both.then(|| contradiction("proxmox", "username", "api_token")));
        let trusts = [
            ("insecure", proxmox.insecure.is_true()),
            ("tls_fingerprint", proxmox.tls_fingerprint.is_known()),
            ("ca_cert_pem", proxmox.ca_cert_pem.is_known()),
        ];
        let given: Vec<&str> = trusts.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if let [one, other, ..] = given[..] {
            found.push(contradiction("proxmox", one, other));
        }
        found.extend(one_certificate_of_many(proxmox));
    }
    if let Some(agent) = m.agent.get() {
        let others = [
            ("ca_cert_pem", agent.ca_cert_pem.is_known()),
            ("ca_key_pem", agent.ca_key_pem.is_known()),
            ("client_cert_pem", agent.client_cert_pem.is_known()),
            ("client_key_pem", agent.client_key_pem.is_known()),
        ];
        let other = others.iter().find(|(_, known)| *known && agent.pki_dir.is_known());
        found.extend(other.map(|(other, _)| contradiction("agent", "pki_dir", other)));
        let both = agent.ca_key_pem.is_known() && agent.client_cert_pem.is_known();
        found.extend(both.then(|| contradiction("agent", "client_cert_pem", "ca_key_pem")));
    }
    found
}

fn contradiction(block: &str, one: &str, other: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot use {one} together with {other}"))
        .happened(format!("`{block}` gives both, and each says something else."))
        .next(format!("Keep one of `{one}` and `{other}`."))
        .at(Path::from(block).name(one))
}

fn one_certificate_of_many(proxmox: &ProxmoxBlock) -> Option<Diagnostic> {
    let several = proxmox.endpoints.get().is_some_and(|endpoints| endpoints.len() > 1);
    (several && proxmox.tls_fingerprint.is_known()).then(|| {
        Diagnostic::error("Cannot use tls_fingerprint with several endpoints")
            .happened("Every node has a certificate of its own, and one fingerprint fits one of them: none of the others could take over.")
            .next(explain::CA_OF_MANY)
            .at(Path::from("proxmox").name("tls_fingerprint"))
    })
}

fn endpoint_form(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace));
    if good { Ok(()) } else { Err("must be a URL such as `https://pve1:8006`".to_owned()) }
}

fn token_form(text: &str) -> Result<(), String> {
    let good = text.split_once('=').is_some_and(|(name, value)| {
        !value.is_empty() && name.split_once('!').is_some_and(|(user, _)| user.contains('@'))
    });
    if good { Ok(()) } else { Err("must have the form `user@realm!name=uuid`".to_owned()) }
}

fn username_form(text: &str) -> Result<(), String> {
    let good = text.rsplit_once('@').is_some_and(|(user, realm)| !user.is_empty() && !realm.is_empty());
    if good { Ok(()) } else { Err("must name the realm: `user@realm`".to_owned()) }
}

fn fingerprint_form(text: &str) -> Result<(), String> {
    let digits = text.bytes().filter(|byte| *byte != b':');
    let good = digits.clone().count() == 64 && digits.clone().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(()) } else { Err("must be a SHA-256 fingerprint: 64 hex digits".to_owned()) }
}

fn pem_or_path(text: &str) -> Result<(), String> {
    let is_path = !text.trim().contains('\n') && text.contains(['/', '\\']);
    if text.contains("-----BEGIN ") || is_path {
        return Ok(());
    }
    Err("must be PEM (`-----BEGIN …`) or the path of a file, with a `/`".to_owned())
}
