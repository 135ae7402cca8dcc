//! The node agent: converges a machine's operating system and runs its Kubernetes operations.

pub mod about;
pub mod clock;
pub mod clone;
pub mod cluster;
pub mod config;
pub mod enrol;
pub mod facts;
pub mod first_boot;
pub mod gate;
pub mod host;
pub mod identity;
pub mod life;
pub mod log;
pub mod notify;
pub mod reboot;
pub mod records;
pub mod run;
pub mod seal;
pub mod server;
pub mod spec;
pub mod state;
pub mod step;
pub mod steps;
pub mod tls;
pub mod update;
