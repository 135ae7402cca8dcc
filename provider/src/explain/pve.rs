//! The Proxmox client's errors, told as: what happened, what holds now, what to do next.

use pve::{Class, ConfigError, Error};
use tf::{Diagnostic, Path, chain};

use super::{rights, sentence};
use crate::timeouts::Limit;

/// The diagnostic for a failed act in Proxmox VE; `act` reads `create VM 120 on node pve1`.
pub(crate) fn pve(act: &str, error: &Error) -> Diagnostic {
    pve_own(act, error, Own::default())
}

/// The same where the resource has something to say itself.
pub(crate) fn pve_own(act: &str, error: &Error, own: Own<'_>) -> Diagnostic {
    let Own { holds: known, limit, cure } = own;
    let Cure { next: advice, at } = cure.unwrap_or_default();
    let late = limit.filter(|_| matches!(error, Error::Deadline { .. }));
    let advice = match (advice, late) {
        (Some(advice), _) => advice.to_owned(),
        (None, Some(limit)) => {
            format!("Raise `{}`, or see in Proxmox VE what takes so long, and apply again.", limit.name())
        }
        (None, None) => next(error),
    };
    let diagnostic = Diagnostic::error(format!("Cannot {act}"))
        .happened(happened(error))
        .holds(known.unwrap_or_else(|| holds(error)))
        .next(advice);
    match at.or_else(|| late?.path()) {
        Some(path) => diagnostic.at(path),
        None => diagnostic,
    }
}

/// What a resource knows better than this place, which knows no attributes but those of the provider block.
#[derive(Debug, Default)]
pub(crate) struct Own<'a> {
    /// What holds now.
    pub(crate) holds: Option<&'a str>,
    /// What gives the operation its time.
    pub(crate) limit: Option<Limit>,
    /// What to do next.
    pub(crate) cure: Option<Cure>,
}

/// What to do next.
#[derive(Debug, Default)]
pub(crate) struct Cure {
    /// The advice; the general one, if there is none of the resource's own.
    pub(crate) next: Option<&'static str>,
    /// The attribute whose editing is the cure.
    pub(crate) at: Option<Path>,
}

impl Cure {
    /// The general advice, for this attribute.
    pub(crate) fn at(path: impl Into<Path>) -> Self {
        Self { next: None, at: Some(path.into()) }
    }
}

/// For resources that need Proxmox VE when nobody says where it is.
pub(crate) fn no_endpoint() -> Diagnostic {
    Diagnostic::error("Cannot reach Proxmox VE without an endpoint")
        .happened("Neither the provider block nor the environment says where Proxmox VE is.")
        .holds("Nothing was asked and nothing was changed.")
        .next("Set `proxmox.endpoints` and `proxmox.api_token` in the provider block, or GROUNDWORK_PROXMOX_ENDPOINTS and GROUNDWORK_PROXMOX_API_TOKEN.")
}

/// The same when nobody says who we are there.
pub(crate) fn no_credentials() -> Diagnostic {
    Diagnostic::error("Cannot log in to Proxmox VE without credentials")
        .happened("Neither the provider block nor the environment gives an API token, or a user and a password.")
        .holds("Nothing was asked and nothing was changed.")
        .next("Set `proxmox.api_token` in the provider block, or GROUNDWORK_PROXMOX_API_TOKEN.")
}

/// For reads during a plan in which the provider block is not known yet.
pub(crate) fn unknown_proxmox() -> Diagnostic {
    Diagnostic::error("Cannot reach Proxmox VE before its settings are known")
        .happened("A value in the provider block's `proxmox` comes from something that is not applied yet.")
        .holds("Nothing was asked and nothing was changed.")
        .next("Apply what the provider block depends on first, with `terraform apply -target=…`.")
}

/// For a provider block that can never work.
pub(crate) fn bad_proxmox_settings(error: &ConfigError) -> Diagnostic {
    let correct =
        |attribute| format!("Correct `{attribute}` in the provider block's `proxmox`, or its environment variable.");
    let next = match error {
        ConfigError::Endpoint(_) => correct("endpoints"),
        ConfigError::Credentials(_) => correct("api_token"),
        ConfigError::Ca(_) => correct("ca_cert_pem"),
        ConfigError::Fingerprint(_) => correct("tls_fingerprint"),
        ConfigError::FingerprintOfMany => CA_OF_MANY.to_owned(),
        ConfigError::Tls(_) => correct("proxmox"),
    };
    Diagnostic::error("Cannot use the provider's Proxmox VE settings")
        .happened(sentence(&chain(error)))
        .holds("Nothing was asked and nothing was changed.")
        .next(next)
}

/// One certificate of several nodes is pinned.
pub(crate) const CA_OF_MANY: &str = "Give the cluster's CA (`/etc/pve/pve-root-ca.pem` of any node) as `ca_cert_pem`, or GROUNDWORK_PROXMOX_CA_CERT_PEM, in place of the fingerprint, or keep one endpoint.";

/// The call and the server's words; for a task also the last lines of its log.
fn happened(error: &Error) -> String {
    let said = sentence(&chain(error));
    match error {
        Error::Task(failed) if !failed.log.is_empty() => {
            format!("{said}\n\nThe task's last lines:\n  {}", failed.log.join("\n  "))
        }
        _ => said,
    }
}

fn holds(error: &Error) -> &'static str {
    match error {
        Error::Unreadable { call, .. } if is_read(call) => "Nothing was changed by this.",
        Error::Connect { .. } => "Nothing was sent, so nothing was changed by this.",
        Error::OneTimeCode { .. } => "Nothing was sent but the login, so nothing was changed by this.",
        Error::Lost { .. } => "Whether it was done is not known. The next run looks before it repeats anything.",
        Error::Refused(_) => "Nothing was changed by this.",
        Error::Unreadable { .. } => "It was done, but what came of it is not known.",
        Error::Task(_) => "The task has ended; what it did until then may remain.",
        Error::Deadline { .. } => "What was begun goes on in Proxmox VE.",
        Error::Stopped { .. } => "The task was stopped; what it did until then may remain.",
        Error::File { .. } => "Nothing was sent, so nothing was changed by this.",
    }
}

/// What to do next, whatever the resource.
pub(super) fn next(error: &Error) -> String {
    match error {
        Error::Connect { .. } if error.node().is_some() => "Bring the node back, and plan again.".to_owned(),
        Error::Connect { .. } if error.fingerprint().is_some() => {
            "If the host has a new certificate, set `tls_fingerprint` in the provider block's `proxmox` to its fingerprint, as the host itself shows it; if not, somebody else answers there.".to_owned()
        }
        Error::Connect { .. } => connect(&chain(error)),
        Error::Lost { .. } | Error::Stopped { .. } => "Apply again.".to_owned(),
        Error::OneTimeCode { .. } => "Set `otp` in the provider block's `proxmox`, or GROUNDWORK_PROXMOX_OTP, to the code shown now, and apply again. For work of more than an hour or two, use `api_token`: a token needs no code.".to_owned(),
        Error::Unreadable { call, .. } if is_read(call) => {
            "See that Proxmox VE itself answers at `endpoints` of the provider block's `proxmox`, and no login page or other program in front of it. If it does, report this with the log of `TF_LOG_PROVIDER=trace`.".to_owned()
        }
        Error::Unreadable { .. } => "Report this with the log of `TF_LOG_PROVIDER=trace`, and apply again.".to_owned(),
        Error::Deadline { .. } => "See in Proxmox VE what takes so long, and apply again.".to_owned(),
        Error::File { .. } => "Make the file readable for whoever runs Terraform.".to_owned(),
        Error::Refused(refused) if error.is(Class::Rights) => rights::missing(&refused.call, &refused.message),
        Error::Refused(refused) => by_class(error.class(), &refused.to_string()),
        Error::Task(failed) => by_class(error.class(), &failed.status),
    }
}

fn is_read(call: &str) -> bool {
    call.starts_with("GET ")
}

fn connect(said: &str) -> String {
    if said.contains("certificate") {
        return "Give the CA of the host (`/etc/pve/pve-root-ca.pem`) as `ca_cert_pem`, or the certificate's SHA-256 as `tls_fingerprint`, in the provider block's `proxmox`.".to_owned();
    }
    "See that the host answers on this address, or correct `endpoints` in the provider block's `proxmox`.".to_owned()
}

fn by_class(class: Class, message: &str) -> String {
    match class {
        Class::Rights => rights::missing("", message),
        Class::Credentials => "Correct `api_token` (`user@realm!name=uuid`) or `username`, `password` and `otp` in the provider block's `proxmox`, or give the token a longer life in Proxmox VE.".to_owned(),
        Class::Exists => "Choose another name, or import what exists.".to_owned(),
        Class::Full => "Free space on the storage, or choose one that has it.".to_owned(),
        Class::NoStorage => "Correct the name of the storage or volume, or add the storage to the node.".to_owned(),
        Class::NoGuest => "Plan again: the guest is looked for on the other nodes then.".to_owned(),
        Class::Busy | Class::Conflict => "Wait for the other operation, and apply again.".to_owned(),
        Class::NoQuorum => "Bring the cluster back to quorum, and apply again.".to_owned(),
        Class::NotRunning => "Start the VM, and apply again.".to_owned(),
        Class::AgentOff => "Switch the VM's option \"QEMU Guest Agent\" on (`qm set NUMBER --agent 1`), and power the VM off and on again: a reboot from inside does not connect it.".to_owned(),
        Class::NoAgent => "See that qemu-guest-agent runs in the guest.".to_owned(),
        Class::AgentForbids => "Let the guest agent do it, in the guest: take the command off its list of forbidden ones (`/etc/sysconfig/qemu-ga` or `/etc/qemu/qemu-ga.conf`), and restart it.".to_owned(),
        Class::NoProcess => "Apply again.".to_owned(),
        Class::InGuest => "Remove the cause in the guest, and apply again.".to_owned(),
        Class::NoLinkedClone => "Make a full copy, or make a template of the source, and apply again.".to_owned(),
        Class::NoNode => "Correct the name of the node: the cluster knows none like it.".to_owned(),
        Class::NoPool => "Correct the name of the pool, or make that pool first.".to_owned(),
        Class::NoBridge => "Correct the name of the bridge, or make that bridge on the node.".to_owned(),
        Class::WrongContent => "Choose a storage that may hold this, or add it to that storage's content types.".to_owned(),
        Class::OtherSum => "Correct the checksum, or find out why the file is another one, and apply again.".to_owned(),
        Class::NoDownload => "Correct the URL, or see why the node cannot reach it, and apply again.".to_owned(),
        Class::TooManyCpus => "Ask for no more CPUs than the node has, and apply again.".to_owned(),
        Class::HeldByGuest => "Apply again: the change waits for a power cycle, which the next plan announces. Or let the guest give the device up first.".to_owned(),
        Class::NotShared => "Keep the disks on a storage that both nodes share, or make the copy on the node of its source.".to_owned(),
        Class::InUse => "Delete the snapshots or linked clones that use the volume, and apply again: until then the plan shows what is to go.".to_owned(),
        Class::NotEmpty | Class::NoTask | Class::Other => "Remove the cause, and apply again.".to_owned(),
    }
}

/// The warning for `insecure`.
pub(crate) fn anybody() -> Diagnostic {
    Diagnostic::warning("Whoever answers is taken for Proxmox VE")
        .happened("`insecure` is set, by the provider block or its environment: no certificate is looked at, and whoever is on the path gets the credentials.")
        .next("Give the cluster's CA (`/etc/pve/pve-root-ca.pem` of any node) as `ca_cert_pem`, or the node's `tls_fingerprint`, in its place.")
        .at(Path::from("proxmox").name("insecure"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, message: &str, cure: &str) {
        let refused = pve::Refused {
            call: "POST /nodes/pve1/qemu".to_owned(),
            endpoint: "https://pve1:8006".to_owned(),
            status,
            message: message.to_owned(),
            errors: std::collections::BTreeMap::new(),
        };
        let text = pve("create VM 120 on node pve1", &Error::Refused(Box::new(refused))).to_string();
        assert!(text.starts_with("Error: Cannot create VM 120 on node pve1\n\n"), "{text}");
        assert!(text.contains(message) && text.contains(cure), "{text}");
    }

    #[test]
    fn a_refusal_names_its_cure() {
        check(
            403,
            "Permission check failed (/storage/fast, Datastore.AllocateSpace)",
            "Grant Datastore.AllocateSpace on /storage/fast",
        );
        check(
            403,
            "Permission check failed (/vms/1, VM.Config.Disk|VM.Config.CDROM)",
            "VM.Config.Disk or VM.Config.CDROM on /vms/1",
        );
        // The server names nothing: the call tells what it needs.
        check(403, "Permission check failed", "Grant VM.Allocate on /vms");
        check(401, "authentication failure", "`api_token`");
        check(403, "Permission check failed (pool 'x' does not exist)", "make that pool first");
        check(500, "hostname lookup 'pve7' failed", "Correct the name of the node");
        check(400, "storage 'local' does not support vm images", "Choose a storage that may hold this");
        check(500, "checksum mismatch: got 'a' != expect 'b'", "Correct the checksum");
        check(500, "download failed: 404", "Correct the URL");
        check(500, "Linked clone feature is not supported for 'x' (scsi0)", "Make a full copy");
    }

    #[test]
    fn one_fingerprint_for_several_nodes_names_the_ca() {
        let text = bad_proxmox_settings(&ConfigError::FingerprintOfMany).to_string();
        assert!(text.contains("One fingerprint cannot fit") && text.contains("`ca_cert_pem`"), "{text}");
    }

    #[test]
    fn a_used_one_time_code_names_its_attribute_and_what_needs_none() {
        let text = pve("read VM 120", &Error::OneTimeCode { user: "root@pam".to_owned() }).to_string();
        assert!(text.contains("The login of root@pam needs a one-time code"), "{text}");
        assert!(text.contains("`otp`") && text.contains("`api_token`"), "{text}");
    }

    #[test]
    fn a_page_in_place_of_an_answer_points_to_the_endpoint() {
        let source = serde_json::from_str::<u8>("<html>").unwrap_err();
        let text = pve("read the nodes", &Error::Unreadable { call: "GET /nodes".to_owned(), source }).to_string();
        assert!(text.contains("Nothing was changed by this.") && text.contains("`endpoints`"), "{text}");
    }

    #[test]
    fn what_was_late_names_its_limit() {
        let error = Error::Deadline { what: "the task X".to_owned() };
        let given = |time: &str| Limit::of("create", Some(&time.to_owned().into()), std::time::Duration::from_secs(60));
        let own = Own { holds: Some("It exists."), limit: Some(given("2m")), cure: None };
        let told = pve_own("create VM 120", &error, own);
        let text = told.detail();
        assert!(text.contains("The time for the task X is over.\n\nIt exists.\n\nRaise `timeouts.create`"), "{text}");
        assert_eq!(told.path().unwrap().to_string(), "timeouts.create");
    }

    #[test]
    fn advice_for_all_resources_names_no_attribute_but_the_provider_blocks() {
        const KNOWN: [&str; 5] = ["proxmox", "api_token", "username", "password", "otp"];
        // Files and commands are not attributes either.
        let is_name = |word: &&str| !word.contains(['@', '/', ' ']);
        for class in CLASSES {
            let advice = by_class(class, "");
            for word in advice.split('`').skip(1).step_by(2).filter(is_name) {
                assert!(KNOWN.contains(&word), "{class:?}: `{word}`");
            }
        }
    }

    const CLASSES: [Class; 29] = [
        Class::NotShared,
        Class::InUse,
        Class::NoGuest,
        Class::NoStorage,
        Class::NoNode,
        Class::NoPool,
        Class::NotEmpty,
        Class::NoBridge,
        Class::TooManyCpus,
        Class::HeldByGuest,
        Class::NoTask,
        Class::Exists,
        Class::Busy,
        Class::Conflict,
        Class::Full,
        Class::WrongContent,
        Class::OtherSum,
        Class::NoDownload,
        Class::NoLinkedClone,
        Class::Rights,
        Class::Credentials,
        Class::NoQuorum,
        Class::NotRunning,
        Class::AgentOff,
        Class::NoAgent,
        Class::AgentForbids,
        Class::NoProcess,
        Class::InGuest,
        Class::Other,
    ];

    #[test]
    fn a_certificate_that_is_not_believed_names_the_attributes() {
        let source = std::io::Error::other("invalid peer certificate: UnknownIssuer").into();
        let error = Error::Connect { call: "GET /version".into(), endpoint: "https://pve1:8006".into(), source };
        let text = pve("read the version", &error).to_string();
        assert!(text.contains("`ca_cert_pem`") && text.contains("UnknownIssuer"), "{text}");
    }
}
