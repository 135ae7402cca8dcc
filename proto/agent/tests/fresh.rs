//! The committed code is what the contract compiles to. `UPDATE_EXPECT=1` rewrites it.

use std::path::Path;

/// Messages whose `Debug` is written by hand in `src/v1.rs`, because they carry a secret.
const SECRET: [&str; 6] = [
    "JoinMaterialReply",
    "ControlPlaneJoin",
    "KubeconfigReply",
    "machine.NodeSpec",
    "machine.FileSpec",
    "machine.CommandSpec",
];
/// What the specification of a machine consists of can be read from JSON, too: `groundwork-agent plan FILE`.
const MACHINE: &str = ".groundwork.agent.v1.machine";

#[test]
fn the_committed_code_is_made_from_the_contract() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(["agent/v1/agent.proto"], [here]).unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(SECRET.map(|name| format!(".groundwork.agent.v1.{name}")));
    config.btree_map(["."]);
    config.message_attribute(MACHINE, "#[derive(serde::Deserialize)] #[serde(deny_unknown_fields, default)]");
    config.field_attribute(format!("{MACHINE}.FileSpec.content"), "#[serde(deserialize_with = \"crate::v1::text\")]");
    tonic_prost_build::configure().out_dir(out.path()).compile_fds_with_config(files, config).unwrap();
    for package in ["groundwork.agent.v1.rs", "groundwork.agent.v1.machine.rs"] {
        let committed = here.join("src/gen").join(package);
        let fresh = std::fs::read_to_string(out.path().join(package)).unwrap();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            #[expect(clippy::disallowed_methods, reason = "a cut rewriting is seen by this very test")]
            std::fs::write(&committed, &fresh).unwrap();
        }
        let same = std::fs::read_to_string(&committed).is_ok_and(|committed| committed == fresh);
        assert!(same, "src/gen is stale: run UPDATE_EXPECT=1 cargo test -p agent_proto");
    }
}
