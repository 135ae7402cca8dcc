//! A new VM from an image or with empty disks.

use std::time::Duration;

use pve::{Class, CreateVm, Vmid};

use super::creation::{Creation, Made};
use super::error::Error;
use super::holds::Holds;
use super::image;
use crate::resources::vm::locate::{self, Found};
use crate::resources::vm::model::Vm;
use crate::resources::vm::{addresses, config};

/// Asks for the VM until one of its numbers is taken.
pub(super) async fn made(creation: &mut Creation<'_>, m: &mut Vm) -> Result<Made, Error> {
    image::fits(creation, m).await?;
    let (op, uuid) = (creation.op, random_uuid());
    let mut params = config::creation(m, &uuid);
    params.set("description", creation.marked(m));
    params.extend(&addresses::recording(m.cloud_init.get()));
    loop {
        let vmid = creation.number().await?;
        let new = CreateVm { vmid, config: params.clone(), pool: m.pool.cloned() };
        let ended = match op.client.qemu(&creation.node).create(&new).begin().await {
            Ok(upid) => {
                creation.record(m, vmid);
                m.uuid.set(uuid.clone());
                op.client.wait(&upid).await.map(|_| ())
            }
            // Whether it was done is not known: look.
            Err(error) if error.outcome_unknown() => Err(error),
            // Somebody took the number meanwhile, and keeps it.
            Err(error) if creation.wanted.is_none() && error.is(Class::Exists) => continue,
            Err(error) => {
                creation.forget(m, vmid);
                return Err(image::explained(creation, m, error).await);
            }
        };
        let Err(error) = ended else { return Ok(Made::Done(vmid)) };
        match left(creation, m, vmid, &uuid).await {
            Left::Ours(found) if error.outcome_unknown() => {
                creation.record(m, vmid);
                m.uuid.set(uuid);
                return Ok(Made::Seen(*found));
            }
            Left::Ours(_) => {
                op.now(Holds::Unfinished);
                return Err(error.into());
            }
            Left::Unknown => {
                // The UUID keeps a stranger safe who gets this number if it was not done.
                creation.record(m, vmid);
                m.uuid.set(uuid);
                op.now(Holds::PerhapsCreated);
                return Err(error.into());
            }
            Left::Nothing => creation.forget(m, vmid),
        }
        if !error.is(Class::Busy) {
            return Err(image::explained(creation, m, error).await);
        }
        op.pause(RETRY, "the creation").await?;
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
    let calm = creation.op.calm();
    match creation.op.unlocked(&calm, (&creation.node, vmid)).await {
        Ok(false) => return Left::Nothing,
        // It stays locked: what can be read of it is there all the same.
        Ok(true) | Err(pve::Error::Deadline { .. }) => {}
        Err(_) => return Left::Unknown,
    }
    match locate::by_id(&calm, vmid).await {
        Ok(Some(found)) => {
            let own = config::uuid(&found.settings);
            let ours = own.as_deref() == Some(uuid) || (own.is_none() && m.id.is_known());
            if ours { Left::Ours(Box::new(found)) } else { Left::Nothing }
        }
        Ok(None) => Left::Nothing,
        Err(_) => Left::Unknown,
    }
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

/// Between two tries of a creation that somebody is in the way of.
pub(super) const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = random_uuid();
        assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'4'), "{uuid}");
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uuid}");
    }
}
