//! Version 1 of the contract: `groundwork.agent.v1`.
//!
//! Messages that carry a secret print their name and nothing else.

#[allow(
    missing_docs,
    rustdoc::invalid_html_tags,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::missing_errors_doc,
    clippy::wildcard_imports,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "generated"
)]
mod generated {
    include!("gen/groundwork.agent.v1.rs");
}

pub use generated::*;

/// `Debug` for messages that hold a secret: the type's name, no field.
macro_rules! secret {
    ($($message:ident),*) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}

secret!(JoinMaterialReply, ControlPlaneJoin, KubeconfigReply, NodeSpec, FileSpec, CommandSpec);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_prints_no_field() {
        let material = JoinMaterialReply { token: "abcdef.0123456789abcdef".into(), ..Default::default() };
        assert_eq!(format!("{material:?}"), "JoinMaterialReply { .. }");
        let join = ClusterJoinRequest { material: Some(material), ..Default::default() };
        assert!(!format!("{join:?}").contains("abcdef"), "{join:?}");
    }
}
