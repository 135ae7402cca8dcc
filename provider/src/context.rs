//! What every resource works with: the Proxmox client and the way to the agents.
//!
//! Neither connects before it is needed: planning and validating do without both.

use std::sync::OnceLock;
use std::time::Duration;

use tf::Diagnostic;
use tokio::time::Instant;

use crate::agents::{Agents, Until};
use crate::explain;
use crate::numbers::Numbers;
use crate::turns::Turns;

/// Made once per provider process, from the provider block.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) agents: Agents,
    pub(crate) numbers: Numbers,
    /// One machine of a cluster goes at a time.
    pub(crate) turns: Turns,
    proxmox: Proxmox,
    client: OnceLock<Result<pve::Client, pve::ConfigError>>,
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
        Self { agents, numbers: Numbers::default(), turns: Turns::default(), proxmox, client: OnceLock::new() }
    }

    /// Whether whoever answers is taken for Proxmox VE.
    pub(crate) fn believes_anybody(&self) -> bool {
        matches!(&self.proxmox, Proxmox::Config(config) if config.trust == pve::Trust::Nobody)
    }

    /// The client of the Proxmox VE cluster, the same for the whole process; a diagnostic if the provider block names none.
    pub(crate) fn pve(&self) -> Result<&pve::Client, Diagnostic> {
        let config = match &self.proxmox {
            Proxmox::NoEndpoint => return Err(explain::no_endpoint()),
            Proxmox::NoCredentials => return Err(explain::no_credentials()),
            Proxmox::Unknown => return Err(explain::unknown_proxmox()),
            Proxmox::Config(config) => config,
        };
        let client = self.client.get_or_init(|| pve::Client::new((**config).clone()));
        client.as_ref().map_err(explain::bad_proxmox_settings)
    }
}

/// The surroundings of one call.
pub(crate) type Cx = tf::Cx<Data>;

/// The limits of a look at an agent that begins now, in an operation that has none of its own.
pub(crate) fn looking(cx: &Cx) -> Until {
    Until::new(Instant::now() + LOOK, &cx.stop)
}

/// An agent that is well tells what is missing within a second; one on a slow machine within some.
const LOOK: Duration = Duration::from_secs(120);
