//! The machine's name, in the kernel and in `/etc/hostname`; cloud-init must not set it back at the next boot.
//!
//! Source: hostname(5); cloud-init, module `update_hostname`. A name that a kubelet has joined with stays, and comes back: its
//! certificate carries it.

use super::Step;
use crate::change::{File, StepError, Todo, Verb};
use crate::host::{Host, HostError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

pub(super) struct Hostname(pub(super) Option<String>);

impl Step for Hostname {
    fn name(&self) -> &'static str {
        "hostname"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let Some(want) = &self.0 else {
            if host.exists(CLOUD)? {
                todo.push(format!("{CLOUD} is ours"), Verb::Remove(CLOUD.to_owned()), "no name is declared any more");
            }
            return Ok(todo);
        };
        let live = host.text(LIVE)?.unwrap_or_default();
        let written = host.text(FILE)?.unwrap_or_default();
        // What the next boot would set anyway does no harm now.
        if live.trim() != want && written.trim() != want && host.exists(KUBELET)? {
            let node = registered(host)?.unwrap_or_else(|| live.trim().to_owned());
            if !node.eq_ignore_ascii_case(want) {
                let why = format!("this machine is a cluster's node {node:?}; take it out of the cluster first");
                return Err(StepError::refused(format!("the name {want:?}"), why));
            }
        }
        // First, for it wins at the next boot.
        if host.text(CLOUD)?.as_deref() != Some(KEEP) && host.exists("/etc/cloud")? {
            let file = File::ours(CLOUD, KEEP);
            todo.push(format!("{CLOUD} is not as wanted"), Verb::Write(file), "cloud-init sets the name at every boot");
        }
        if written.trim() != want {
            let file = File::ours(FILE, format!("{want}\n"));
            todo.push(format!("{FILE} says {:?}", written.trim()), Verb::Write(file), "the name at the next boot");
        }
        if live.trim() != want {
            let set = Verb::Set { path: LIVE.to_owned(), value: want.clone() };
            todo.push(format!("the name is {:?}", live.trim()), set, "the name now");
        }
        Ok(todo)
    }
}

/// The name that the kubelet has in its cluster: its certificate's common name is `system:node:NAME`.
fn registered(host: &dyn Host) -> Result<Option<String>, HostError> {
    let Some(pem) = host.read(CREDENTIAL)? else { return Ok(None) };
    let certificate = CertificateDer::from_pem_slice(&pem).ok();
    Ok(certificate.and_then(|der| common_name(&der)))
}

/// No parser for one text: in DER its length stands right before it.
fn common_name(der: &[u8]) -> Option<String> {
    let at = der.windows(NODE.len()).position(|part| part == NODE)?;
    let length = usize::from(*der.get(at.checked_sub(1)?)?);
    let name = der.get(at + NODE.len()..at + length)?;
    String::from_utf8(name.to_vec()).ok()
}

const NODE: &[u8] = b"system:node:";
const LIVE: &str = "/proc/sys/kernel/hostname";
const FILE: &str = "/etc/hostname";
const CLOUD: &str = "/etc/cloud/cloud.cfg.d/99-zz-groundwork.cfg";
const KEEP: &str = "# Groundwork keeps the host name.\npreserve_hostname: true\n";
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
const CREDENTIAL: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    /// A node that joined as `node`, whose name is now another.
    fn joined(node: &str) -> Fake {
        let host = Fake::template();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
        let key = rcgen::KeyPair::generate().unwrap();
        host.put(CREDENTIAL, &(key.serialize_pem() + &params.self_signed(&key).unwrap().pem()));
        host.put(KUBELET, "");
        host
    }

    #[tokio::test]
    async fn a_joined_node_gets_its_own_name_back_and_no_other() {
        let host = joined("cp-1");
        let step = |name: &str| Hostname(Some(name.to_owned()));
        assert_eq!(step("cp-1").missing(&host).await.unwrap().changes.len(), 3);
        let refused = step("cp-2").missing(&host).await.unwrap_err().to_string();
        assert!(refused.contains("cluster's node \"cp-1\""), "{refused}");
        host.put(FILE, "cp-2\n");
        assert!(step("cp-2").missing(&host).await.is_ok(), "the next boot sets it anyway");
        host.put(CREDENTIAL, "");
        assert!(step("cp-1").missing(&host).await.is_err(), "nothing says that it is the node's");
    }

    #[test]
    fn any_text_is_answered() {
        total::bytes("kubelet-certificate", &[b"\x0c\x10system:node:cp-1"], common_name);
    }
}
