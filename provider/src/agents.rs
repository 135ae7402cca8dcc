//! Agents, seen from the provider: what a seed carries, enrolment, connections, calls.
//!
//! Start with [`Agents`], of which a provider process has one. Resources speak to agents through it and see neither gRPC nor a
//! protocol message; what an error means for a user is said in `crate::explain`.

mod call;
mod configuration;
mod credential;
mod dial;
mod enrol;
mod error;
mod first_boot;
mod install;
mod job;
mod keys;
mod leftovers;
mod line;
mod manifests;
mod pki;
mod program;
mod restart;
mod rotate;
mod run;
mod snapshots;
#[cfg(test)]
mod tests;
mod until;
mod update;

pub(crate) use call::{
    Agent, ClusterFound, ClusterStatus, EtcdMember, Foreign, JoinMaterial, Joiner, Kubeconfig, Node, Recovery, Standing,
};
pub(crate) use configuration::{Configure, Differences};
pub(crate) use credential::{Access, Credential, Refusal};
pub(crate) use error::{Error, RunFailure};
pub(crate) use first_boot::FirstBoot;
pub(crate) use install::{PendingEnrolment, SeedFor};
pub(crate) use job::{Bgp, ControlPlaneJoin, Init, Job, Join, K3s, KubeVip, Kubeadm, NodeSettings, Peer, Upgrade};
pub(crate) use leftovers::{Leftovers, LoadBalancer};
pub(crate) use manifests::{Applied, Manifest, Removal};
pub(crate) use pki::{Authority, Ending, Given, Issued, init, intermediate, issue, show};
pub(crate) use restart::again;
pub(crate) use rotate::{Goal, endpoints, renew, rotate};
pub(crate) use run::Report;
pub(crate) use snapshots::{NodeCertificate, Scheduled, Snapshot, SnapshotSchedule};
pub(crate) use until::Until;
pub(crate) use update::Updates;

/// The only messages that a resource speaks: what a machine is to be, where snapshots go and come from. Their rules and forms are the agent's own.
pub(crate) use agent_proto::{check, form, overlay, path::Part, v1::S3Object, v1::S3Target, v1::machine};

use crate::seed::AgentPart;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trust::Role;

/// Access to agents, with the CA of the provider block.
#[derive(Debug, Clone, Default)]
pub(crate) enum Agents {
    /// The provider block names no CA.
    #[default]
    NoAuthority,
    /// It names one that is known only after the apply of something else.
    Unknown,
    /// With this CA.
    Authority(Arc<Authority>),
}

/// Where an agent is and how it is recognised. Both parts stand in the state; neither is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host:port`
    pub(crate) address: String,
    /// `sha256:<hex>` of its first public key, or of one that followed.
    pub(crate) fingerprint: String,
}

/// How long to wait for something, and what ends the wait early.
pub(crate) struct Wait<'a> {
    pub(crate) deadline: Instant,
    pub(crate) stop: &'a CancellationToken,
    /// Called with one line now and then.
    pub(crate) progress: &'a (dyn Fn(&str) + Send + Sync),
}

impl Agents {
    /// With the CA of the provider block; without one, every use is [`Error::NoAuthority`].
    pub(crate) fn new(authority: Option<Authority>) -> Self {
        authority.map_or(Self::NoAuthority, |authority| Self::Authority(Arc::new(authority)))
    }

    /// Whether a seed can be made at all, to be asked before there is a VM for it.
    pub(crate) fn can_install(&self) -> Result<(), Error> {
        self.authority()?.can_enrol()?;
        install::has_binary()
    }

    /// The agent's part of a new seed, with a fresh secret, and the enrolment it leads to.
    pub(crate) fn seed(&self, wanted: &SeedFor<'_>) -> Result<(AgentPart, PendingEnrolment), Error> {
        install::seed(self.authority()?, wanted)
    }

    /// Whom an agent believes that has the CAs of `pem`, if none of ours is among them.
    pub(crate) fn compare_authorities(&self, pem: &str) -> Result<Option<String>, Error> {
        Ok(install::strangers(self.authority()?, pem))
    }

    /// Waits for the machine that was given `pending`'s seed to boot, and enrols it at the first of its addresses where it answers.
    /// On [`Error::NotProven`] a new seed is needed; on [`Error::Deadline`] and [`Error::Stopped`] it may be repeated.
    pub(crate) async fn enrol(
        &self,
        addresses: &[String],
        pending: &PendingEnrolment,
        wait: &Wait<'_>,
    ) -> Result<Endpoint, Error> {
        enrol::enrol(self.authority()?, addresses, pending, wait).await
    }

    /// The endpoint of an enrolled agent of which only address and SMBIOS UUID are known: for imports, and for a creation
    /// that was cut off. [`Error::NotEnrolled`] if it was not enrolled by this CA.
    pub(crate) async fn identify(&self, address: &str, machine_uuid: &str, until: &Until) -> Result<Endpoint, Error> {
        enrol::identify(self.authority()?, address, machine_uuid, until).await
    }

    /// The latest key that the machine known by this fingerprint was seen with, if it is another.
    pub(crate) fn latest_key(&self, fingerprint: &str) -> Option<String> {
        self.authority().ok()?.keys.latest(fingerprint)
    }

    /// Takes in that the machine known by this fingerprint was once seen with this key.
    pub(crate) fn recall_key(&self, fingerprint: &str, key: &str) {
        if let Ok(authority) = self.authority() {
            authority.keys.recall(fingerprint, key);
        }
    }

    /// The CA's certificate, DER, which tells one owner of agents from another; empty without a CA.
    pub(crate) fn ca(&self) -> &[u8] {
        let first = self.authority().ok().and_then(|authority| authority.anchors().first());
        first.map(AsRef::as_ref).unwrap_or_default()
    }

    /// The role, or the highest below it that this provider may show an agent.
    pub(crate) fn at_most(&self, role: Role) -> Role {
        self.authority().map_or(role, |authority| authority.highest().at_most(role))
    }

    /// Certificates that come near their end.
    pub(crate) fn endings(&self) -> Vec<Ending> {
        self.authority().map(Authority::endings).unwrap_or_default()
    }

    fn authority(&self) -> Result<&Authority, Error> {
        match self {
            Self::NoAuthority => Err(Error::NoAuthority),
            Self::Unknown => Err(Error::UnknownAuthority),
            Self::Authority(authority) => Ok(authority),
        }
    }
}

impl Wait<'_> {
    /// The limits alone.
    pub(crate) fn until(&self) -> Until {
        Until::new(self.deadline, self.stop)
    }

    /// Sleeps for `pause` and gives back why it had to; fails as [`Self::pause`].
    async fn pause_after(&self, pause: Duration, what: &str, last: Error) -> Result<Error, Error> {
        let wake = Instant::now() + pause;
        if wake > self.deadline {
            return Err(Error::Deadline { what: what.to_owned(), last: Some(Box::new(last)) });
        }
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = self.stop.cancelled() => Err(Error::Stopped),
            () = tokio::time::sleep_until(wake) => Ok(last),
        }
    }

    /// Sleeps for `pause`; fails when the deadline has passed or Terraform wants to stop.
    async fn pause(&self, pause: Duration, what: &str, last: Error) -> Result<(), Error> {
        self.pause_after(pause, what, last).await.map(drop)
    }
}
