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

    pub mod machine {
        include!("gen/groundwork.agent.v1.machine.rs");
    }
}

pub use generated::*;

impl machine::NodeSpec {
    /// Whether finding out what it needs runs a program of the user's: an `unless`. Then looking is not enough, it takes an operator.
    #[must_use]
    pub fn has_guards(&self) -> bool {
        self.command.values().any(|command| !command.unless.is_empty())
    }
}

/// Bytes that are text in JSON.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<prost::bytes::Bytes, D::Error> {
    Ok(<String as serde::Deserialize>::deserialize(from)?.into())
}

/// `Debug` for messages that hold a secret: the type's name, no field.
macro_rules! secret {
    ($($message:path),*) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}

secret!(
    JoinMaterialReply,
    ControlPlaneJoin,
    KubeconfigReply,
    ManifestApplyRequest,
    S3Object,
    machine::NodeSpec,
    machine::FileSpec,
    machine::CommandSpec
);

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
