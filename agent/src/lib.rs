//! The node agent: converges a machine's operating system and runs its Kubernetes operations.

pub mod clock;
pub mod config;
pub mod enrol;
pub mod gate;
pub mod identity;
pub mod records;
pub mod server;
pub mod state;
pub mod tls;
