//! What both ends of the agent connection compute alike: enrolment proofs, roles, key pins.
//!
//! Nothing here touches the network, the disk or a clock; the transport brings the bytes and this crate says what they mean.
//! Start with [`Transcript`] (how two strangers prove that they know one secret), then [`Role`] and [`needs`] (who may call
//! what), then [`Pin`] and [`lineage`] (how a machine is recognised ever after, also by another key).

mod certificate;
mod chain;
mod enrolment;
mod lineage;
mod pin;
mod role;

pub use certificate::{Certificate, pem};
pub use chain::{Clock, NotTrusted, Usage, Verified, anchor_is_usable, key_of, verify};
pub use enrolment::{BadSecret, CHANNEL_BINDING, NONCE_LEN, PROOF_LEN, Secret, Transcript, nonce};
pub use lineage::{FOLLOWS, MOST_KEYS, apart, lineage};
pub use pin::{BadPin, Pin};
pub use role::{Need, Request, Role, needs};

/// TCP port of an agent, unless configured otherwise.
pub const PORT: u16 = 7443;

/// URI name in a machine's certificate that carries its SMBIOS UUID, lower case: `groundwork:machine:<uuid>`.
#[must_use]
pub fn machine_name(machine_uuid: &str) -> String {
    format!("groundwork:machine:{}", machine_uuid.to_ascii_lowercase())
}
