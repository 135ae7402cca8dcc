//! The real Terraform, and a provider that uses everything this crate offers (`tests/memory`).
//!
//! Without `terraform` these tests say so and pass; with GROUNDWORK_REQUIRE_TERRAFORM=1 they fail.

mod blocks;
mod ends;
mod ephemeral;
mod failures;
mod folder;
mod life;
mod logs;
mod values;
