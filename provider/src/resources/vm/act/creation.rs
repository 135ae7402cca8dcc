//! One creation as it stands: whose it is, by which number it goes, and how its VM is recognised.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use pve::{Guests, NodeName, Vmid};
use tf::{Attr, Diagnostic};

use super::claims::Claim;
use super::error::Error;
use super::operation::Operation;
use crate::resources::vm::disks;
use crate::resources::vm::locate::Found;
use crate::resources::vm::marker::Mark;
use crate::resources::vm::model::Vm;

/// One creation.
pub(super) struct Creation<'a> {
    pub(super) op: &'a Operation<'a>,
    pub(super) name: String,
    pub(super) node: NodeName,
    /// The number that the configuration asks for.
    pub(super) wanted: Option<Vmid>,
    pub(super) claim: Claim,
    /// Of everything that the VM is made of.
    pub(super) made_of: String,
    /// As they were some seconds ago at most.
    pub(super) guests: Arc<Guests>,
}

/// What a call for a new VM came to.
pub(super) enum Made {
    /// It was carried out, and nobody has looked yet.
    Done(Vmid),
    /// Its outcome was not known, and the VM is there.
    Seen(Found),
}

impl<'a> Creation<'a> {
    pub(super) fn new(op: &'a Operation<'a>, m: &Vm, claim: Claim, guests: Arc<Guests>) -> Result<Self, Diagnostic> {
        let (name, node) = (m.name.need()?.clone(), node(m)?);
        let wanted = m.vmid.get().and_then(|number| Vmid::new(*number));
        Ok(Self { op, name, node, wanted, claim, made_of: made_of(m), guests })
    }

    /// The mark that the VM carries until it is finished.
    pub(super) fn mark(&self, m: &Vm) -> Mark {
        Mark::of(m, self.claim.token(), &self.op.cx.agents)
    }

    /// The description with the mark.
    pub(super) fn marked(&self, m: &Vm) -> String {
        self.mark(m).on(m.description.text().unwrap_or_default())
    }

    /// Whether it is the VM of this creation.
    pub(super) fn is_ours(&self, m: &Vm, found: &Found) -> bool {
        self.mark(m).is_in(found.settings.written("description").unwrap_or_default())
    }

    /// The number to ask for next, noted as about to be asked for.
    pub(super) async fn number(&mut self) -> Result<Vmid, Error> {
        let numbers = &self.op.cx.numbers;
        let vmid = match self.wanted {
            Some(vmid) => vmid,
            None => numbers.next(&self.op.client, &self.guests, &self.name).await?,
        };
        numbers.named(vmid, &self.name);
        self.claim.begin(vmid, &self.made_of);
        Ok(vmid)
    }

    /// From here on the VM may exist.
    pub(super) fn record(&self, m: &mut Vm, vmid: Vmid) {
        m.vmid.set(i64::from(vmid.get()));
        m.id.set(format!("{}/{vmid}", self.node));
        self.op.cx.numbers.named(vmid, &self.name);
    }

    /// Nothing exists after all.
    pub(super) fn forget(&self, m: &mut Vm, vmid: Vmid) {
        self.op.cx.numbers.forget(vmid);
        m.id = Attr::Null;
        if self.wanted.is_none() {
            m.vmid = Attr::Unknown;
        }
    }
}

/// The node to create the VM on.
pub(super) fn node(m: &Vm) -> Result<NodeName, Diagnostic> {
    m.node.need()?.parse().map_err(|_| Diagnostic::bug("the name of a node was not checked"))
}

/// Two configurations that make the same VM have the same sum: of what a VM cannot be given afterwards, by the values that the
/// configuration gives. What is computed may be known to one plan and not to the next. Secrets are no part of it.
fn made_of(m: &Vm) -> String {
    let disks: Vec<_> = disks::of(m).into_iter().map(|(slot, disk)| (slot, disk.storage)).collect();
    let source = (&m.node, &m.vmid, &m.image, &m.clone, &m.pool, disks);
    let first_boot = (&m.options.firmware, &m.efi_storage, &m.cloud_init, &m.agent);
    hex::encode(digest(&SHA256, format!("{source:?}{first_boot:?}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::vm::model::CloudInit;
    use crate::resources::vm::options::Options;

    #[test]
    fn a_sum_is_of_what_a_vm_is_made_of() {
        let m = Vm { node: "pve1".into(), image: "local:import/a.qcow2".into(), ..Vm::default() };
        let options = Options { cores: 4.into(), ..Options::default() };
        let same = Vm { options, effects: vec!["x".to_owned()].into(), started: true.into(), ..m.clone() };
        assert_eq!(made_of(&m), made_of(&same));
        assert_ne!(made_of(&m), made_of(&Vm { node: "pve2".into(), ..m.clone() }));
        assert_ne!(made_of(&m), made_of(&Vm { image: "local:import/b.qcow2".into(), ..m.clone() }));
        let keys = CloudInit { ssh_keys: vec!["ssh-ed25519 A".to_owned()].into(), ..CloudInit::default() };
        assert_ne!(made_of(&m), made_of(&Vm { cloud_init: keys.into(), ..m.clone() }));
    }
}
