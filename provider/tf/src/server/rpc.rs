//! The table of calls: how each is named in the log, what it is about, and how it reports a failure.

use tfplugin::v6;

use super::answer::messages;
use crate::diagnostic::Diagnostics;

/// What a call is about: the provider block, or a type of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Provider,
    Resource(String),
    DataSource(String),
    Ephemeral(String),
}

/// The request of a call.
pub(super) trait Rpc: Send + 'static {
    type Answer: Send + 'static;

    const NAME: &'static str;

    /// What it is about.
    fn about(&self) -> About {
        About::Provider
    }

    /// What an answer reports.
    fn diagnostics(answer: &mut Self::Answer) -> &mut [v6::Diagnostic];

    /// An answer that reports problems and nothing else.
    fn failed(problems: Diagnostics) -> Self::Answer;
}

impl About {
    pub(super) fn resource(&self) -> Option<&str> {
        if let Self::Resource(name) = self { Some(name) } else { None }
    }

    pub(super) fn data_source(&self) -> Option<&str> {
        if let Self::DataSource(name) = self { Some(name) } else { None }
    }

    pub(super) fn ephemeral(&self) -> Option<&str> {
        if let Self::Ephemeral(name) = self { Some(name) } else { None }
    }
}

macro_rules! rpcs {
    ($($about:ident: $($module:ident = $name:literal),*;)*) => {$($(
        impl Rpc for v6::$module::Request {
            type Answer = v6::$module::Response;

            const NAME: &'static str = $name;

            rpcs!(@ $about);

            fn diagnostics(answer: &mut Self::Answer) -> &mut [v6::Diagnostic] {
                &mut answer.diagnostics
            }

            fn failed(problems: Diagnostics) -> Self::Answer {
                let mut answer = Self::Answer::default();
                answer.diagnostics.extend(messages(problems));
                answer
            }
        }
    )*)*};
    (@ Provider) => {};
    (@ $about:ident) => {
        fn about(&self) -> About {
            About::$about(self.type_name.clone())
        }
    };
}

rpcs! {
    Provider:
        configure_provider = "ConfigureProvider",
        get_metadata = "GetMetadata",
        get_provider_schema = "GetProviderSchema",
        validate_provider_config = "ValidateProviderConfig";
    Resource:
        apply_resource_change = "ApplyResourceChange",
        generate_resource_config = "GenerateResourceConfig",
        import_resource_state = "ImportResourceState",
        plan_resource_change = "PlanResourceChange",
        read_resource = "ReadResource",
        upgrade_resource_state = "UpgradeResourceState",
        validate_resource_config = "ValidateResourceConfig";
    DataSource:
        read_data_source = "ReadDataSource",
        validate_data_resource_config = "ValidateDataResourceConfig";
    Ephemeral:
        close_ephemeral_resource = "CloseEphemeralResource",
        open_ephemeral_resource = "OpenEphemeralResource",
        renew_ephemeral_resource = "RenewEphemeralResource",
        validate_ephemeral_resource_config = "ValidateEphemeralResourceConfig";
}
