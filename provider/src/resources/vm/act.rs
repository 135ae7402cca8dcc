//! What an apply does to a VM. Each operation is a file, with its steps in order: `create` (which ends in `finish`), `update`, `remove`,
//! and `replace`, which looks before a destruction that makes room. They share an [`operation::Operation`]: it knows where the VM is
//! and what holds now. What goes wrong rises as an [`error::Error`] and is told once, where the operation began.

mod blame;
mod claims;
mod clone;
pub(super) mod create;
mod creation;
mod earlier;
mod error;
mod finish;
mod first_boot;
mod holds;
mod image;
mod new;
mod operation;
mod probe;
pub(super) mod remove;
pub(super) mod replace;
mod rivals;
mod seeding;
pub(super) mod update;
mod watch;
mod write;
