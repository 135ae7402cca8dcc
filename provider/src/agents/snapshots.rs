//! Snapshots of etcd and certificates of control planes, as agents tell and are told of them.

use super::Error;
use super::call::Agent;
use agent_proto::v1 as wire;

/// A snapshot of etcd on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Of the file, in bytes.
    pub(crate) size: u64,
    /// SHA-256 of the database in it, hex.
    pub(crate) sha256: String,
    pub(crate) revision: u64,
    /// RFC 3339
    pub(crate) taken: String,
}

/// When a timer takes snapshots, and how many stay where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SnapshotSchedule {
    /// As `OnCalendar=` of systemd has it.
    pub(crate) schedule: String,
    pub(crate) keep: u32,
    pub(crate) directory: String,
    /// A bucket that they go to too; as the contract has it.
    pub(crate) s3: Option<wire::S3Target>,
}

/// A schedule as it stands on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scheduled {
    pub(crate) schedule: SnapshotSchedule,
    /// The timer waits for its next time.
    pub(crate) active: bool,
    /// Why the last one was not taken; empty if it was.
    pub(crate) failure: String,
}

/// A certificate that kubeadm or the kubelet keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeCertificate {
    /// As kubeadm calls it; `kubelet` for the kubelet's own.
    pub(crate) name: String,
    /// Seconds since 1970 until which it counts.
    pub(crate) ends: u64,
    /// The same moment, RFC 3339.
    pub(crate) until: String,
    pub(crate) authority: bool,
}

impl Snapshot {
    fn of(wire: wire::EtcdSnapshot) -> Self {
        let wire::EtcdSnapshot { size, sha256, revision, taken } = wire;
        Self { size, sha256: plain::line(&sha256).into_owned(), revision, taken: plain::line(&taken).into_owned() }
    }
}

impl SnapshotSchedule {
    pub(super) fn to_wire(&self) -> wire::EtcdSnapshots {
        let Self { schedule, keep, directory, s3 } = self.clone();
        wire::EtcdSnapshots { schedule, keep, directory, s3, ..Default::default() }
    }
}

impl Scheduled {
    pub(super) fn of(wire: wire::EtcdSnapshots) -> Self {
        let wire::EtcdSnapshots { schedule, keep, directory, active, failure, s3 } = wire;
        Self { schedule: SnapshotSchedule { schedule, keep, directory, s3 }, active, failure }
    }
}

impl NodeCertificate {
    pub(super) fn of(wire: wire::NodeCertificate) -> Self {
        let wire::NodeCertificate { name, ends, authority, until } = wire;
        Self { name, ends, until, authority }
    }
}

impl Agent {
    /// Gives the snapshot that was taken for a path its name.
    pub(crate) async fn keep_snapshot(&mut self, path: &str) -> Result<Snapshot, Error> {
        let request = wire::EtcdSnapshotKeepRequest { path: path.to_owned() };
        let said = self.0.ask(KEEP, |mut client| async move { client.etcd_snapshot_keep(request).await }).await?;
        said.snapshot.map(Snapshot::of).ok_or_else(|| self.0.odd(KEEP, "it gave no snapshot"))
    }

    /// The snapshot that stands at a path.
    pub(crate) async fn snapshot(&mut self, path: &str) -> Result<Option<Snapshot>, Error> {
        let request = wire::EtcdSnapshotStatusRequest { path: path.to_owned() };
        let said = self
            .0
            .ask("EtcdSnapshotStatus", |mut client| async move { client.etcd_snapshot_status(request).await })
            .await?;
        Ok(said.snapshot.map(Snapshot::of))
    }

    /// Removes the snapshot with this sum.
    pub(crate) async fn remove_snapshot(&mut self, path: &str, sha256: &str) -> Result<(), Error> {
        let request = wire::EtcdSnapshotRemoveRequest { path: path.to_owned(), sha256: sha256.to_owned() };
        let ask = |mut client: super::line::Client| async move { client.etcd_snapshot_remove(request).await };
        self.0.ask("EtcdSnapshotRemove", ask).await.map(drop)
    }
}

const KEEP: &str = "EtcdSnapshotKeep";
