//! Snapshots away from the machine: those of the timer go to a bucket of S3 too, for a disk that is lost takes what stands on it with it.
//!
//! After each one, whatever of the newest is not there yet is sent: one that did not get there goes with the next.

use super::schedule::{Schedule, by_age, is_ours, name_in};
use crate::host::Host;
use crate::s3::Bucket;
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use zeroize::Zeroizing;

/// Where they go. The secret key is kept by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `https://minio.example.org:9000`
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// What the keys of all objects begin with; without a `/` at its end, and empty for none.
    pub prefix: String,
    /// What signatures name.
    pub region: String,
    /// The bucket stands in the path of a URL, and not before the host.
    pub path_style: bool,
    /// Of the access key.
    pub access_key_id: String,
    /// Tells one secret key from the next.
    pub secret_version: i64,
    /// PEM, besides the machine's own; empty for none.
    pub ca_certificate: String,
    /// How many stay of each control plane.
    pub keep: u32,
}

/// Sends what the bucket has not, and lets the oldest there go; the snapshot at `taken` was taken last. Tells what it did; `None` where nothing
/// is to go anywhere.
///
/// # Errors
/// When the bucket does not take one, or does not tell what it has. What was taken stands on the machine.
pub async fn send_snapshots(
    host: &dyn Host,
    state: &State,
    (directory, taken): (&str, &str),
) -> Result<Option<String>, String> {
    let timer = host.text(super::schedule::TIMER_FILE).map_err(|error| crate::chain::chain(&error))?;
    let Some(target) = timer.and_then(|timer| Schedule::read(&timer)).and_then(|schedule| schedule.s3) else {
        return Ok(None);
    };
    let bucket = target.open(state)?;
    let own = target.own(host)?;
    let there = bucket.list(&own).await?;
    let there: Vec<&str> = there.iter().filter_map(|key| key.strip_prefix(&own)).filter(|name| is_ours(name)).collect();
    let here = host.list(directory).map_err(|error| crate::chain::chain(&error))?;
    let keep = usize::try_from(target.keep).unwrap_or(usize::MAX);
    let (missing, spare) = differences(&here, &there, (keep, name_in(taken)));
    for name in &missing {
        bucket.put(&format!("{own}{name}"), &Path::new(directory).join(name)).await?;
    }
    for name in &spare {
        bucket.delete(&format!("{own}{name}")).await?;
    }
    Ok(Some(format!("{}/{}/{own}: {} sent, {} deleted", target.endpoint, target.bucket, missing.len(), spare.len())))
}

impl Target {
    fn open(&self, state: &State) -> Result<Bucket, String> {
        let secret = state.read(SECRET).map_err(|error| crate::chain::chain(&error))?;
        Ok(Bucket {
            endpoint: self.endpoint.clone(),
            name: self.bucket.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            access_key_id: self.access_key_id.clone(),
            secret_access_key: Zeroizing::new(secret.ok_or("this machine has no secret key for it any more")?),
            ca_certificate: self.ca_certificate.clone(),
        })
    }

    /// What the keys of this machine's objects begin with.
    fn own(&self, host: &dyn Host) -> Result<String, String> {
        let name = host.text(HOSTNAME).map_err(|error| crate::chain::chain(&error))?.unwrap_or_default();
        let name = name.trim();
        Ok(if self.prefix.is_empty() { format!("{name}/") } else { format!("{}/{name}/", self.prefix) })
    }
}

/// The newest of all stay there: which of them are not there yet, and what is there besides.
fn differences<'a>(
    here: &'a [String],
    there: &[&'a str],
    (keep, taken): (usize, &str),
) -> (Vec<&'a str>, Vec<&'a str>) {
    let own = here.iter().map(String::as_str).filter(|name| is_ours(name));
    let newest: BTreeSet<&str> = by_age(own.chain(there.iter().copied()), taken).into_iter().rev().take(keep).collect();
    let missing = newest.iter().filter(|name| !there.contains(name)).copied().collect();
    (missing, there.iter().filter(|name| !newest.contains(*name)).copied().collect())
}

/// The secret key, among the agent's own files.
pub(super) const SECRET: &str = "cluster/snapshots-s3-secret";
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn name(day: u8) -> String {
        format!("etcd-202611{day:02}030000Z.db")
    }

    #[test]
    fn what_is_missing_goes_and_the_oldest_leaves() {
        let [a, b, c, d] = [1, 2, 3, 4].map(name);
        let here = [a.clone(), b.clone(), c.clone(), "etcd-before-upgrade.db".to_owned()];
        assert_eq!(differences(&here, &[], (2, &c)), (vec![b.as_str(), &c], vec![]));
        assert_eq!(differences(&here, &[&a, &b], (2, &c)), (vec![c.as_str()], vec![a.as_str()]));
        assert_eq!(differences(&here, &[&a, &b, &c], (3, &c)), (vec![], vec![]));
        // Of a machine whose disk is new.
        assert_eq!(differences(from_ref(&d), &[&a, &b, &c], (3, &d)), (vec![d.as_str()], vec![a.as_str()]));
        // Taken after the clock was set back: those of before are the older ones.
        assert_eq!(differences(from_ref(&a), &[&b, &c], (2, &a)), (vec![a.as_str()], vec![b.as_str()]));
    }
}
