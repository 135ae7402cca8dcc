//! The state of a machine as `groundwork_machine` wants it, and its form on the wire.

use agent_proto::v1 as wire;

/// What a machine is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineSpec {}

impl MachineSpec {
    pub(super) fn to_wire(&self) -> wire::NodeSpec {
        wire::NodeSpec {}
    }
}
