//! The snapshot that a new cluster begins with, fetched from a bucket of S3: before anything is begun, and looked at before anything is made of
//! it. However the creation ends, no copy of it stays: it holds all Secrets of a cluster.

use crate::chain::chain;
use crate::cluster::evidence::Attempt;
use crate::cluster::kube::{failed, failure};
use crate::cluster::status;
use crate::host::HostError;
use crate::host::etcd::Sum;
use crate::run::{Failure, Outcome, RunCx};
use crate::s3::Bucket;
use crate::state::State;
use aws_lc_rs::digest::{Context, SHA256};
use std::path::Path;
use std::time::Instant;
use zeroize::Zeroizing;

/// A snapshot in a bucket.
pub struct Object {
    /// `https://minio.example.org:9000`
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// The object's.
    pub key: String,
    /// What signatures name.
    pub region: String,
    /// The bucket stands in the path of a URL, and not before the host.
    pub path_style: bool,
    /// Of the access key.
    pub access_key_id: String,
    /// Of the access key. It is written nowhere.
    pub secret_access_key: Zeroizing<String>,
    /// PEM, besides the machine's own; empty for none.
    pub ca_certificate: String,
    /// SHA-256, hex, of the object or of the database in it; empty: whichever stands there.
    pub sha256: String,
}

/// Where it stands while a cluster is made of it: among the agent's own files, which are root's alone.
pub const FETCHED: &str = "/var/lib/groundwork/restore.db";

/// Makes a first control plane of the snapshot at [`FETCHED`], with the object there, if there is one to fetch.
///
/// # Errors
/// At `restore` when it cannot be fetched, or is no snapshot, or another one: nothing was begun then.
pub async fn with_object<J, F>(cx: RunCx, state: State, object: Option<Object>, init: J) -> Result<Outcome, Failure>
where
    J: FnOnce(RunCx, State) -> F,
    F: Future<Output = Result<Outcome, Failure>>,
{
    let Some(object) = object else { return init(cx, state).await };
    let done = match fetch_if_wanted(&cx, &state, &object).await {
        Ok(()) => init(cx.clone(), state).await,
        Err(failure) => Err(failure),
    };
    let gone = cx.host().remove(FETCHED).map_err(failed(STEP, &format!("remove {FETCHED}")));
    done.and_then(|outcome| gone.map(|()| outcome))
}

/// Not onto a machine that a cluster was made of already, by us or by others.
async fn fetch_if_wanted(cx: &RunCx, state: &State, object: &Object) -> Result<(), Failure> {
    let here = status::cluster_id(cx.host()).map_err(failed("look", "read the cluster's CA"))?;
    let last = Attempt::last(state).map_err(failed("look", "read the note of the last attempt"))?;
    let is_cut_off = last.is_some_and(|attempt| attempt.cluster_id.is_none());
    if here.is_empty() || is_cut_off { fetch(cx, object).await } else { Ok(()) }
}

async fn fetch(cx: &RunCx, object: &Object) -> Result<(), Failure> {
    let (since, what) = (Instant::now(), format!("the snapshot {}", object.key));
    cx.step_began(STEP, 1);
    let (mut whole, mut database) = (Context::new(&SHA256), Sum::new());
    let mut seen = |piece: &[u8]| {
        whole.update(piece);
        database.add(piece);
    };
    let size = object.open().get(&object.key, Path::new(FETCHED), &mut seen).await;
    let size = size.map_err(|why| failure(STEP, format!("{what} cannot be fetched from {why}")))?;
    let found = match cx.host().etcd().look(FETCHED) {
        Err(HostError::NoSnapshot { why, .. }) => Err(format!("it is no snapshot of etcd: {why}")),
        Err(error) => Err(chain(&error)),
        Ok(None) => Err("it is gone".to_owned()),
        Ok(Some(snapshot)) => Ok(snapshot),
    };
    let of = format!("{what} in {} of {}", object.bucket, object.endpoint);
    let found = found.map_err(|why| failure(STEP, format!("{of}: {why}")))?;
    if let Some(why) = database.fault() {
        return Err(failure(STEP, format!("{of}: {why}")));
    }
    is_meant(&object.sha256, &hex::encode(whole.finish()), &found.sha256)
        .map_err(|why| failure(STEP, format!("{of}: {why}")))?;
    let summary = format!("fetch {of}: revision {}, {size} bytes", found.revision);
    cx.change_made(STEP, &summary, "the cluster begins with it", since.elapsed());
    Ok(())
}

/// Whether it is the one that is asked for.
fn is_meant(wanted: &str, whole: &str, database: &str) -> Result<(), String> {
    if wanted.is_empty() || [whole, database].contains(&wanted) {
        return Ok(());
    }
    Err(format!("its SHA-256 is {whole}, that of the database in it {database}, and `sha256` asks for {wanted}"))
}

impl Object {
    fn open(&self) -> Bucket {
        Bucket {
            endpoint: self.endpoint.clone(),
            name: self.bucket.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            ca_certificate: self.ca_certificate.clone(),
        }
    }
}

const STEP: &str = "restore";

#[cfg(test)]
mod tests {
    use super::is_meant;

    #[test]
    fn a_sum_is_of_the_object_or_of_the_database_in_it() {
        for wanted in ["", "a", "b"] {
            assert_eq!(is_meant(wanted, "a", "b"), Ok(()));
        }
        let why = is_meant("c", "a", "b").unwrap_err();
        assert!(why.contains("SHA-256 is a") && why.contains("asks for c"), "{why}");
    }
}
