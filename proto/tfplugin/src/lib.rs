//! HashiCorp's plugin messages, as generated code: `tfplugin6`, the services of go-plugin, and gRPC's health check.
//!
//! The protocol files are in `proto/`, written from field tables in our own words. The code made from them is committed in
//! `src/gen`; `tests/bootstrap.rs` fails when the two differ and rewrites the code when run with `UPDATE_EXPECT=1`.
//! Calls that a provider leaves out answer UNIMPLEMENTED by themselves.

macro_rules! generated {
    ($(#[$doc:meta] $name:ident = $file:literal),*) => {$(
        #[$doc]
        #[allow(
            missing_docs,
            unreachable_pub,
            unused_qualifications,
            unused_variables,
            clippy::all,
            clippy::missing_errors_doc,
            clippy::wildcard_imports,
            clippy::too_many_lines,
            clippy::allow_attributes,
            reason = "generated"
        )]
        pub mod $name {
            include!(concat!("gen/", $file));
        }
    )*};
}

generated!(
    /// Terraform's provider protocol, version 6.
    v6 = "tfplugin6.rs",
    /// The services of go-plugin.
    plugin = "plugin.rs",
    /// gRPC's health check.
    health = "grpc.health.v1.rs"
);
