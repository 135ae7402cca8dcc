//! The table of calls: how each is named in the log, what it is about, and how it reports a failure.

use tfplugin::v6;

use super::answer::messages;
use crate::diagnostic::Diagnostics;

/// The request of a call.
pub(super) trait Rpc: Send + 'static {
    type Answer: Send + 'static;

    const NAME: &'static str;

    /// The type of resource it is about.
    fn resource(&self) -> Option<&str> {
        None
    }

    /// The type of data source it is about.
    fn data_source(&self) -> Option<&str> {
        None
    }

    /// What an answer reports.
    fn diagnostics(answer: &mut Self::Answer) -> &mut [v6::Diagnostic];

    /// An answer that reports problems and nothing else.
    fn failed(problems: Diagnostics) -> Self::Answer;
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
    (@ provider) => {};
    (@ $about:ident) => {
        fn $about(&self) -> Option<&str> {
            Some(&self.type_name)
        }
    };
}

rpcs! {
    provider:
        configure_provider = "ConfigureProvider",
        get_metadata = "GetMetadata",
        get_provider_schema = "GetProviderSchema",
        validate_provider_config = "ValidateProviderConfig";
    resource:
        apply_resource_change = "ApplyResourceChange",
        generate_resource_config = "GenerateResourceConfig",
        import_resource_state = "ImportResourceState",
        plan_resource_change = "PlanResourceChange",
        read_resource = "ReadResource",
        upgrade_resource_state = "UpgradeResourceState",
        validate_resource_config = "ValidateResourceConfig";
    data_source:
        read_data_source = "ReadDataSource",
        validate_data_resource_config = "ValidateDataResourceConfig";
}
