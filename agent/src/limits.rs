//! How much of the agent a role may take, so that none can take it from another, nor from the machine.
//!
//! Operators are root on the machine: their limits keep accidents small. Observers and backups are not, so what all of them
//! together may take leaves room for operators.

use crate::update::LARGEST;
use agent_proto::{LARGEST_LOOK, LARGEST_REQUEST};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use trust::Role;

/// What the clients of some roles share.
#[derive(Debug)]
pub struct Limits {
    /// Bytes of one request.
    pub request: usize,
    /// Bytes of all requests that are not answered yet.
    pub bodies: Arc<Semaphore>,
    /// Calls at work at one time; others wait.
    pub calls: Arc<Semaphore>,
}

/// What the requests that are streams share, whoever sends them.
#[derive(Debug)]
pub struct Stream {
    /// Bytes of one of them.
    pub largest: usize,
    /// For one of them to come, its waiting for a place included.
    pub time: Duration,
    /// Those that come in at one time; others wait.
    pub place: Arc<Semaphore>,
}

/// The limits of every role.
#[derive(Debug)]
pub struct ByRole {
    /// Those of streams.
    pub stream: Stream,
    operators: Limits,
    observers: Limits,
}

impl Default for ByRole {
    fn default() -> Self {
        let limits = |request, bodies, calls| Limits {
            request,
            bodies: Arc::new(Semaphore::new(bodies)),
            calls: Arc::new(Semaphore::new(calls)),
        };
        Self {
            // A program, and what the messages around its pieces take.
            stream: Stream { largest: LARGEST + (1 << 20), time: STREAM, place: Arc::new(Semaphore::new(1)) },
            // A specification, a record beside it, and small calls. For observers all that is made of their requests has to fit
            // into the unit's `MemoryMax` beside an operator's.
            operators: limits(LARGEST_REQUEST, LARGEST_REQUEST + (16 << 20), 16),
            observers: limits(LARGEST_LOOK, 2 * LARGEST_LOOK, 4),
        }
    }
}

impl ByRole {
    /// Those of a role.
    #[must_use]
    pub fn of(&self, role: Role) -> &Limits {
        match role {
            Role::Operator | Role::Admin => &self.operators,
            Role::Observer | Role::Backup => &self.observers,
        }
    }
}

/// Connections that clients of a role may have.
#[must_use]
pub fn connections(role: Role) -> usize {
    match role {
        Role::Operator => 32,
        Role::Observer | Role::Admin => 16,
        Role::Backup => 4,
    }
}

/// Calls at one time on one connection.
pub const STREAMS: u32 = 16;
/// A program at 64 KiB in a second, which is the least that messages come at, too.
const STREAM: Duration = Duration::from_secs(600);
