//! The integration tests: one binary, one file per behaviour.
//!
//! `tidy` and `examples` need nothing; the others apply real configurations with the real `terraform` to the lab.
//! Tests whose names hold `qemu` boot virtual machines and take minutes under emulation.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test says what is wrong by panicking")]

mod bad_values;
mod behind;
mod changes;
mod clones;
mod examples;
mod harness;
mod images;
mod killed;
mod kubernetes;
mod life;
mod nodes;
mod ownership;
mod privileges;
mod qemu;
mod quickstart;
mod refusals;
mod secrets;
mod stopped;
mod tidy;
mod unmanaged;
