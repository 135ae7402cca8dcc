//! The committed code is what the protocol files compile to. `UPDATE_EXPECT=1` rewrites it.

use std::path::Path;

const GENERATED: [&str; 3] = ["tfplugin6.rs", "plugin.rs", "grpc.health.v1.rs"];

#[test]
fn the_committed_code_is_made_from_the_protocol_files() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(["tfplugin6.proto", "plugin.proto", "health.proto"], [here.join("proto")]).unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds_with_config(files, config)
        .unwrap();
    for name in GENERATED {
        let (fresh, committed) = (out.path().join(name), here.join("src/gen").join(name));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::copy(&fresh, &committed).unwrap();
        }
        let same = std::fs::read_to_string(fresh).unwrap() == std::fs::read_to_string(committed).unwrap_or_default();
        assert!(same, "{name} is stale: run UPDATE_EXPECT=1 cargo test -p tfplugin");
    }
}
