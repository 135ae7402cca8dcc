//! What every resource works with: the Proxmox client and the way to the agents.
//!
//! Neither connects before it is needed: planning and validating do without both.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pve::{Client, NodeName, Size, Vmid, VolumeId};
use tf::Diagnostic;
use tokio::time::Instant;

use crate::agents::{Agents, Until};
use crate::explain;
use crate::lately::Lately;
use crate::numbers::Numbers;
use crate::turns::Turns;

/// Made once per provider process, from the provider block.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) agents: Agents,
    pub(crate) numbers: Numbers,
    /// How large images are when they are unpacked, by node.
    sizes: Lately<(NodeName, VolumeId), Size>,
    /// Which VMs of a node run.
    power: Lately<NodeName, Arc<BTreeMap<Vmid, bool>>>,
    /// One machine of a cluster goes at a time.
    pub(crate) turns: Turns,
    proxmox: Proxmox,
    client: OnceLock<Result<Client, pve::ConfigError>>,
}

/// What the provider block and the environment say about Proxmox VE.
#[derive(Debug, Default)]
pub(crate) enum Proxmox {
    /// Not where it is.
    #[default]
    NoEndpoint,
    /// Where it is, and not who we are there.
    NoCredentials,
    /// Something that is known only after the apply of something else.
    Unknown,
    /// Where and how.
    Config(Box<pve::Config>),
}

impl Data {
    pub(crate) fn new(proxmox: Proxmox, agents: Agents) -> Self {
        Self { agents, proxmox, ..Self::default() }
    }

    /// Whether whoever answers is taken for Proxmox VE.
    pub(crate) fn believes_anybody(&self) -> bool {
        matches!(&self.proxmox, Proxmox::Config(config) if config.trust == pve::Trust::Nobody)
    }

    /// The client of the Proxmox VE cluster, the same for the whole process; a diagnostic if the provider block names none.
    pub(crate) fn pve(&self) -> Result<&Client, Diagnostic> {
        let config = match &self.proxmox {
            Proxmox::NoEndpoint => return Err(explain::no_endpoint()),
            Proxmox::NoCredentials => return Err(explain::no_credentials()),
            Proxmox::Unknown => return Err(explain::unknown_proxmox()),
            Proxmox::Config(config) => config,
        };
        let client = self.client.get_or_init(|| Client::new((**config).clone()));
        client.as_ref().map_err(explain::bad_proxmox_settings)
    }
}

impl Data {
    /// The size of a disk that is made of this image on a node.
    pub(crate) async fn size(&self, client: &Client, node: &NodeName, image: &VolumeId) -> Result<Size, pve::Error> {
        let ask = client.storages(node);
        self.sizes.told((node.clone(), image.clone()), IMAGE, ask.size(image)).await
    }

    /// Whether a VM runs, as its node says; `None` if it is not there.
    pub(crate) async fn runs(&self, client: &Client, node: &NodeName, vmid: Vmid) -> Result<Option<bool>, pve::Error> {
        let ask = async { client.qemu(node).running().await.map(Arc::new) };
        Ok(self.power.told(node.clone(), POWER, ask).await?.get(&vmid).copied())
    }
}

/// As long as an image of that name is surely the same.
const IMAGE: Duration = Duration::from_secs(60);
/// Short beside the ten seconds that the cluster's own list may be old.
const POWER: Duration = Duration::from_secs(2);

/// The surroundings of one call.
pub(crate) type Cx = tf::Cx<Data>;

/// The limits of a look at an agent that begins now, in an operation that has none of its own.
pub(crate) fn looking(cx: &Cx) -> Until {
    Until::new(Instant::now() + LOOK, &cx.stop)
}

/// An agent that is well tells what is missing within a second; one on a slow machine within some.
const LOOK: Duration = Duration::from_secs(120);
