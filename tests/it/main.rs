//! The integration tests: one binary, one file per behaviour.
//!
//! `tidy` and `examples` need nothing; the others apply real configurations with the real `terraform` to the lab.
//! Tests whose names hold `qemu` boot virtual machines and take minutes under emulation.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test says what is wrong by panicking")]

mod addons;
mod bad_values;
mod behind;
mod changes;
mod clones;
mod configuration;
mod creation;
mod crowd;
mod cuts;
mod demo;
mod empty_root;
mod examples;
mod first_boot;
mod generated;
mod guest;
mod ha;
mod harness;
mod hotplug;
mod images;
mod k3s;
mod keys;
mod killed;
mod kubeconfig;
mod kubernetes;
mod life;
mod links;
mod manifests;
mod misspelt;
mod mixed;
mod nodes;
mod ownership;
mod pipeline;
mod pools;
mod power;
mod privileges;
mod qemu;
mod quickstart;
mod raspberry;
mod refusals;
mod registry;
mod replacements;
mod routed;
mod secrets;
mod settings;
mod snapshots;
mod ssh;
mod stopped;
mod taken_over;
mod templates;
mod tidy;
mod unmanaged;
mod updates;
mod upgrade;
