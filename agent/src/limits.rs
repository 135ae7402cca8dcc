//! How much of the agent a role may take, so that none can take it from another, nor from the machine.
//!
//! Operators are root on the machine: their limits keep accidents small. Observers and backups are not, so what all of them
//! together may take leaves room for operators.

use agent_proto::{LARGEST_LOOK, LARGEST_REQUEST};
use std::sync::Arc;
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

/// The limits of every role.
#[derive(Debug)]
pub struct ByRole {
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
