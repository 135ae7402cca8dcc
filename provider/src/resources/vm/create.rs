//! Bringing a VM into being: find one that an interrupted run left, or create or clone a new one.
//!
//! A VM without a seed costs five calls, and each is here for a reason: the call that creates it, carries the mark and takes the number;
//! looks at its task, since nothing is there before its end; one read, because only Proxmox VE knows the hardware addresses and volumes
//! it chose; and the call that takes the mark off. The list of guests, which says whether somebody else made a VM of that name in the
//! same moment, is asked for beside the read and shared by all that are created then. A start costs its call, its task and one look.
//! Nothing waits for another creation. The id goes into the model before the first wait. What the call leaves is completed by `finish`.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use pve::{Class, CreateVm, Error, Guests, NodeName, Params, Vmid};
use tf::{Attr, Diagnostic, Diagnostics};

use super::claims::{Claim, Taken};
use super::finish::{self, Begun};
use super::locate::{self, Found};
use super::marker::Mark;
use super::model::{CloudInit, Vm};
use super::site::{CREATE, Site};
use super::{clone, config, disks, earlier, probe, rivals, seeding, slots};
use crate::context::Cx;
use crate::timeouts::Limit;

/// One creation.
pub(super) struct Creation<'a> {
    pub(super) site: &'a Site<'a>,
    pub(super) name: &'a str,
    pub(super) node: &'a NodeName,
    /// The number that the configuration asks for.
    pub(super) wanted: Option<Vmid>,
    pub(super) claim: Claim,
    /// Of everything that the VM is made of.
    pub(super) made_of: String,
    /// As they were some seconds ago at most.
    pub(super) guests: Arc<Guests>,
}

/// Creates the VM of the model, or goes on with its creation.
pub(super) async fn create(cx: &Cx, m: &mut Vm) -> Result<(), Diagnostics> {
    let (name, node) = (m.name.need()?.clone(), node(m)?);
    let what = m.vmid.get().map_or_else(|| name.clone(), i64::to_string);
    let limit = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), CREATE);
    let site = Site::new(cx, format!("create VM {what} on node {node}"), limit, UNFINISHED)?;
    slots::begun(cx.private());
    let claim = Claim::take(site.client.endpoints(), &name).map_err(|Taken| rivals::claimed(&site, &name))?;
    let guests = site.client.cluster().guests_since(RECENT).await;
    let guests = guests.map_err(|error| site.failed(m, &error, NOTHING))?;
    let wanted = m.vmid.get().and_then(|number| Vmid::new(*number));
    let (site, made_of) = (&site, made_of(m));
    let mut creation = Creation { site, name: &name, node: &node, wanted, claim, made_of, guests };
    if let Some(found) = earlier::unfinished(&mut creation, m).await? {
        cx.progress(&format!("going on with the creation of VM {}", found.vmid));
        creation.record(m, found.vmid);
        finish::finish(site, m, found, Begun::Earlier).await?;
    } else {
        rivals::refuse(&creation, m).await?;
        if seeding::is_wanted(m) {
            // Told together: who lacks the agents' key often lacks a privilege, too.
            let mut lacks: Diagnostics = seeding::can_be_made(site, m).err().into_iter().collect();
            lacks.extend(seeding::can_be_kept(site, m, &node, NOTHING).await.err().into_iter().flatten());
            lacks.or(())?;
        }
        probe::addresses_are_free(site, m).await?;
        let found =
            if m.clone.is_known() { clone::cloned(&mut creation, m).await? } else { made(&mut creation, m).await? };
        finish::finish(site, m, found, Begun::Now).await?;
    }
    creation.claim.end();
    Ok(())
}

impl Creation<'_> {
    /// The mark that the VM carries until it is finished.
    pub(super) fn mark(&self, m: &Vm) -> Mark {
        Mark::of(m, self.claim.token(), &self.site.cx.agents)
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
    pub(super) async fn number(&mut self, m: &Vm) -> Result<Vmid, Diagnostics> {
        let (site, numbers) = (self.site, &self.site.cx.numbers);
        let vmid = match self.wanted {
            Some(vmid) => vmid,
            None => {
                let next = numbers.next(&site.client, &self.guests, self.name).await;
                next.map_err(|error| site.failed(m, &error, NOTHING))?
            }
        };
        numbers.named(vmid, self.name);
        self.claim.begin(vmid, &self.made_of);
        Ok(vmid)
    }

    /// From here on the VM may exist.
    pub(super) fn record(&self, m: &mut Vm, vmid: Vmid) {
        m.vmid.set(i64::from(vmid.get()));
        m.id.set(format!("{}/{vmid}", self.node));
        self.site.cx.numbers.named(vmid, self.name);
    }

    /// Nothing exists after all.
    pub(super) fn forget(&self, m: &mut Vm, vmid: Vmid) {
        self.site.cx.numbers.forget(vmid);
        m.id = Attr::Null;
        if self.wanted.is_none() {
            m.vmid = Attr::Unknown;
        }
    }

    /// The VM that was just made, if nobody else made one of its name in the same moment.
    pub(super) async fn there(&self, m: &mut Vm, vmid: Vmid) -> Result<Found, Diagnostics> {
        let look = async {
            let settings = self.site.client.vm(self.node, vmid).pending().await;
            match settings {
                Ok(settings) => {
                    Ok(Some(Found { node: self.node.clone(), vmid, status: "stopped".to_owned(), settings }))
                }
                // Somebody moved it already.
                Err(error) if error.is(Class::NoGuest) => locate::by_id(&self.site.client, vmid).await,
                Err(error) => Err(error),
            }
        };
        let (found, rival) = tokio::join!(look, rivals::of(self, vmid));
        let failed = |error: Error| self.site.failed(m, &error, UNFINISHED);
        let (found, rival) = (found.map_err(failed)?, rival.map_err(failed)?);
        let Some(found) = found else {
            let said = format!("VM {vmid} was created and is not there.");
            return Err(self.site.error(said).holds(UNFINISHED).next("Apply again.").into());
        };
        m.uuid.put(config::Seen(&found.settings).uuid());
        match rival {
            Some(rival) => rivals::settle(self, m, found, rival).await,
            None => Ok(found),
        }
    }
}

fn node(m: &Vm) -> Result<NodeName, Diagnostic> {
    m.node.need()?.parse().map_err(|_| Diagnostic::bug("the name of a node was not checked"))
}

/// Two configurations that make the same VM have the same sum: of what a VM cannot be given afterwards, by the values that the
/// configuration gives. What is computed may be known to one plan and not to the next. Secrets are no part of it.
fn made_of(m: &Vm) -> String {
    let disks: Vec<_> = disks::of(m).into_iter().map(|(slot, disk)| (slot, disk.storage)).collect();
    let source = (&m.node, &m.vmid, &m.image, &m.clone, &m.pool, disks);
    let first_boot = (&m.firmware, &m.efi_storage, &m.cloud_init, &m.agent);
    hex::encode(digest(&SHA256, format!("{source:?}{first_boot:?}").as_bytes()))
}

/// A new VM from an image or with empty disks.
async fn made(creation: &mut Creation<'_>, m: &mut Vm) -> Result<Found, Diagnostics> {
    let (site, uuid) = (creation.site, random_uuid());
    let mut params = config::creation(m, &uuid);
    params.set("description", creation.marked(m));
    params.extend(&recorded_addresses(m.cloud_init.get()));
    loop {
        let vmid = creation.number(m).await?;
        let new = CreateVm { vmid, config: params.clone(), pool: m.pool.cloned() };
        let ended = match site.client.qemu(creation.node).create(&new).begin().await {
            Ok(upid) => {
                creation.record(m, vmid);
                m.uuid.set(uuid.clone());
                site.client.wait(&upid).await.map(|_| ())
            }
            // Whether it was done is not known: look.
            Err(error) if error.outcome_unknown() => Err(error),
            // Somebody took the number meanwhile, and keeps it.
            Err(error) if creation.wanted.is_none() && error.is(Class::Exists) => continue,
            Err(error) => {
                creation.forget(m, vmid);
                return Err(site.failed(m, &error, NOTHING).into());
            }
        };
        let Err(error) = ended else { return creation.there(m, vmid).await };
        match left(creation, m, vmid, &uuid).await {
            Left::Ours(found) if error.outcome_unknown() => {
                creation.record(m, vmid);
                m.uuid.set(uuid);
                return Ok(*found);
            }
            Left::Ours(_) => return Err(site.failed(m, &error, UNFINISHED).into()),
            Left::Unknown => {
                // The UUID keeps a stranger safe who gets this number if it was not done.
                creation.record(m, vmid);
                m.uuid.set(uuid);
                return Err(site.failed(m, &error, UNKNOWN).into());
            }
            Left::Nothing => creation.forget(m, vmid),
        }
        if !error.is(Class::Busy) {
            return Err(site.failed(m, &error, NOTHING).into());
        }
        site.pause_holding(RETRY, "the creation", NOTHING).await?;
    }
}

/// What a failed creation left.
enum Left {
    Ours(Box<Found>),
    Nothing,
    /// Nobody can say.
    Unknown,
}

/// Looks for the VM that carries our UUID, once its lock is gone.
async fn left(creation: &Creation<'_>, m: &Vm, vmid: Vmid, uuid: &str) -> Left {
    let calm = creation.site.calm();
    match creation.site.unlocked(&calm, (creation.node, vmid)).await {
        Ok(false) => return Left::Nothing,
        // It stays locked: what can be read of it is there all the same.
        Ok(true) | Err(Error::Deadline { .. }) => {}
        Err(_) => return Left::Unknown,
    }
    match locate::by_id(&calm, vmid).await {
        Ok(Some(found)) => {
            let own = config::Seen(&found.settings).uuid();
            let ours = own.as_deref() == Some(uuid) || (own.is_none() && m.id.is_known());
            if ours { Left::Ours(Box::new(found)) } else { Left::Nothing }
        }
        Ok(None) => Left::Nothing,
        Err(_) => Left::Unknown,
    }
}

/// The static addresses as Proxmox VE's own options: without its cloud-init drive they do nothing but tell an import.
pub(super) fn recorded_addresses(cloud_init: Option<&CloudInit>) -> Params {
    let mut params = Params::new();
    let interfaces = cloud_init.and_then(|cloud_init| cloud_init.network.get()).into_iter().flatten();
    for (slot, interface) in interfaces {
        let part = |key: &str, value: Option<&str>| value.map(|value| format!("{key}={value}"));
        let parts = [part("ip", interface.address.text()), part("ip6", interface.address6.text())];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            params.set(&slot.replace("net", "ipconfig"), parts.join(","));
        }
    }
    params
}

/// A UUID of version 4.
fn random_uuid() -> String {
    let mut bytes = [0_u8; 16];
    for (byte, random) in bytes.iter_mut().zip(trust::nonce()) {
        *byte = random;
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default()).join("-")
}

pub(super) const NOTHING: &str = "Nothing was created and nothing was recorded in the state.";
pub(super) const UNFINISHED: &str =
    "The VM exists unfinished and is recorded in the state as tainted: the next apply replaces it.";
const UNKNOWN: &str = "Whether the VM exists is not known. It is recorded in the state as tainted: the next apply looks, and replaces it.";
const RECENT: Duration = Duration::from_secs(5);
pub(super) const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::model::Interface;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = random_uuid();
        assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'4'), "{uuid}");
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uuid}");
    }

    #[test]
    fn a_sum_is_of_what_a_vm_is_made_of() {
        let m = Vm { node: "pve1".into(), image: "local:import/a.qcow2".into(), ..Vm::default() };
        let same = Vm { cores: 4.into(), effects: vec!["x".to_owned()].into(), started: true.into(), ..m.clone() };
        assert_eq!(made_of(&m), made_of(&same));
        assert_ne!(made_of(&m), made_of(&Vm { node: "pve2".into(), ..m.clone() }));
        assert_ne!(made_of(&m), made_of(&Vm { image: "local:import/b.qcow2".into(), ..m.clone() }));
        let keys = CloudInit { ssh_keys: vec!["ssh-ed25519 A".to_owned()].into(), ..CloudInit::default() };
        assert_ne!(made_of(&m), made_of(&Vm { cloud_init: keys.into(), ..m.clone() }));
    }

    #[test]
    fn static_addresses_are_recorded_and_read_back() {
        let interface =
            Interface { address: "10.77.0.11/24".into(), address6: "fd00::1/64".into(), ..Interface::default() };
        let network = BTreeMap::from([("net1".to_owned(), interface)]);
        let params = recorded_addresses(Some(&CloudInit { network: network.into(), ..CloudInit::default() }));
        assert_eq!(params.get("ipconfig1"), Some("ip=10.77.0.11/24,ip6=fd00::1/64"));
        let rows = serde_json::json!([{ "key": "ipconfig1", "value": params.get("ipconfig1") }]);
        let settings = serde_json::from_value(rows).unwrap();
        assert_eq!(super::super::fill::recorded_addresses(&settings), ["10.77.0.11", "fd00::1"]);
    }
}
