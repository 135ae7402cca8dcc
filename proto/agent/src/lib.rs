//! The contract between the provider and the node agent, as generated code.
//!
//! The contract itself, with the meaning of every message, is `agent/v1/agent.proto` and, for the specification of a machine,
//! `agent/v1/machine.proto`. The code made from them is committed in `src/gen`; `tests/fresh.rs` fails when the two differ and
//! rewrites the code when run with `UPDATE_EXPECT=1`.
//! By hand stand here the rules of values, which both ends check, and what keeps secrets out of logs: `Debug` of the messages that
//! carry one.

pub mod check;
pub mod fields;
pub mod form;
pub mod overlay;
pub mod path;
pub mod v1;

/// Bytes that one request of an operator may have: a specification carries files.
pub const LARGEST_REQUEST: usize = 32 << 20;
/// Bytes that one request of an observer may have, who is not to fill a machine's memory: decoded, nothing but short names take more
/// than a hundred times as much.
pub const LARGEST_LOOK: usize = 256 << 10;
