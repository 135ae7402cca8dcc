//! What every resource works with: the Proxmox client and the way to the agents.

use crate::agents::Agents;

/// Made once per provider process, from the provider block.
#[derive(Debug, Default)]
pub struct Data {
    pub(crate) agents: Agents,
}

/// The surroundings of one call.
pub(crate) type Cx = tf::Cx<Data>;
