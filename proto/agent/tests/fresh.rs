//! The committed code is what the contract compiles to. `UPDATE_EXPECT=1` rewrites it.

use std::path::Path;

/// Messages whose `Debug` is written by hand in `src/v1.rs`, because they carry a secret.
const SECRET: [&str; 6] =
    ["JoinMaterialReply", "ControlPlaneJoin", "KubeconfigReply", "NodeSpec", "FileSpec", "CommandSpec"];

#[test]
fn the_committed_code_is_made_from_the_contract() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(["agent/v1/agent.proto"], [here]).unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(SECRET.map(|name| format!(".groundwork.agent.v1.{name}")));
    config.btree_map(["."]);
    tonic_prost_build::configure().out_dir(out.path()).compile_fds_with_config(files, config).unwrap();

    let fresh = out.path().join("groundwork.agent.v1.rs");
    let committed = here.join("src/gen/groundwork.agent.v1.rs");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::copy(&fresh, &committed).unwrap();
        return;
    }
    let same = std::fs::read_to_string(&fresh).unwrap() == std::fs::read_to_string(&committed).unwrap();
    assert!(same, "src/gen is stale: run UPDATE_EXPECT=1 cargo test -p agent_proto");
}
