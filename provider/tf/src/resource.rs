//! What a provider implements: [`Resource`], [`DataSource`], [`Provider`]; beside them stands [`EphemeralResource`](crate::EphemeralResource).
//!
//! Only what is different from thing to thing stands here. Reading back after a change, settling unknown values, tainting,
//! stripping write-only values and everything about messages is done once, in `lifecycle` and `server`.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::cx::{Cx, Private};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ephemeral::AnyEphemeralResource;
use crate::lifecycle::{DataSourceObject, ResourceObject};
use crate::model::Model;
use crate::path::Path;
use crate::schema::Block;

/// Whether an object is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is, and the model says how it is.
    Here,
    /// It certainly is not. Never the answer to a failed request.
    Gone,
}

/// A thing Terraform creates, reads, updates and deletes.
///
/// The model arrives as the plan (in `create` and `update`, with write-only values from the configuration) or as the state,
/// and is filled in place: what is known at a failure is saved. The attribute `id` says whether the object may exist.
pub trait Resource: Send + Sync + 'static {
    /// The provider's data.
    type Data: Send + Sync + 'static;
    /// Its attributes.
    type Model: Model;

    /// The type's name without the provider's: `vm`.
    const NAME: &'static str;
    /// What it is, for the reference page (Markdown).
    const DOC: &'static str;
    /// The version of the stored form; see [`Resource::upgrade`].
    const VERSION: i64 = 0;

    /// Makes the object. Set the id as soon as it may exist: for a call that returns a task, before waiting for the task.
    ///
    /// # Errors
    /// With the id set, the object is recorded as tainted; without, nothing is recorded.
    fn create(&self, cx: &Cx<Self::Data>, m: &mut Self::Model) -> impl Future<Output = Result<(), Diagnostics>> + Send;

    /// Fills the model with what is really there. Keeps the spelling of values that mean the same.
    ///
    /// # Errors
    /// If the truth cannot be found out; the state stays as it was.
    fn read(
        &self,
        cx: &Cx<Self::Data>,
        m: &mut Self::Model,
    ) -> impl Future<Output = Result<Presence, Diagnostics>> + Send;

    /// Changes the object from `prior` to the plan in `m`.
    ///
    /// # Errors
    /// The framework then reads what is really there and records it.
    fn update(
        &self,
        cx: &Cx<Self::Data>,
        prior: &Self::Model,
        m: &mut Self::Model,
    ) -> impl Future<Output = Result<(), Diagnostics>> + Send;

    /// Removes the object; content when nothing is left.
    ///
    /// # Errors
    /// The state keeps the object.
    fn delete(&self, cx: &Cx<Self::Data>, m: &Self::Model) -> impl Future<Output = Result<(), Diagnostics>> + Send;

    /// Rules across attributes, beside the checks of rows. Unknown means "ask again later". No I/O.
    fn validate(&self, _m: &Self::Model) -> Diagnostics {
        Diagnostics::new()
    }

    /// Adjusts a plan: `m` has defaults and unknown marks already. No I/O, no clock, nothing random: it is called again
    /// just before the apply and must say the same. May set what is computed, or put back the prior value of what the
    /// configuration gives; nothing else.
    fn plan(&self, _prior: Option<&Self::Model>, _config: &Self::Model, _m: &mut Self::Model, _notes: &mut PlanNotes) {}

    /// Looks at a plan to destroy: may warn, or refuse with an error. No I/O.
    fn plan_destroy(&self, _prior: &Self::Model, _notes: &mut PlanNotes) {}

    /// Makes a model from the id the user gave, with enough in it for [`Resource::read`] to complete.
    ///
    /// # Errors
    /// If the id has another form: say which one it must have.
    fn import(&self, _cx: &Cx<Self::Data>, id: &str) -> impl Future<Output = Result<Self::Model, Diagnostics>> + Send {
        let refusal = Diagnostic::error(format!("Cannot import {} {id}", Self::NAME))
            .happened("Objects of this type cannot be imported.")
            .holds("Nothing was recorded in the state.")
            .next("Remove the import, and let Terraform create the object.");
        ready(Err(refusal.into()))
    }

    /// Turns a stored object of an older version into the current form. No I/O.
    ///
    /// # Errors
    /// For versions nobody knows.
    fn upgrade(&self, version: i64, _stored: Json) -> Result<Json, Diagnostics> {
        let refusal = Diagnostic::error(format!("Cannot read the stored {}", Self::NAME))
            .happened(format!(
                "The state holds version {version} of its form; this provider knows version {}.",
                Self::VERSION
            ))
            .holds("Nothing was changed.")
            .next("Use the provider version that wrote the state, or remove the object from the state and import it.");
        Err(refusal.into())
    }
}

/// A thing Terraform only looks at.
pub trait DataSource: Send + Sync + 'static {
    /// The provider's data.
    type Data: Send + Sync + 'static;
    /// Its attributes.
    type Model: Model;

    /// The type's name without the provider's: `version`.
    const NAME: &'static str;
    /// What it is, for the reference page (Markdown).
    const DOC: &'static str;

    /// Fills what is computed from what is configured.
    ///
    /// # Errors
    /// Also if what was asked for does not exist.
    fn read(&self, cx: &Cx<Self::Data>, m: &mut Self::Model) -> impl Future<Output = Result<(), Diagnostics>> + Send;

    /// Rules across attributes, beside the checks of rows. Unknown means "ask again later". No I/O.
    fn validate(&self, _m: &Self::Model) -> Diagnostics {
        Diagnostics::new()
    }
}

/// The provider block, and the list of everything the provider offers.
pub trait Provider: Send + Sync + 'static {
    /// What resources work with, made from the configuration.
    type Data: Send + Sync + 'static;
    /// The provider block's attributes.
    type Model: Model;

    /// The provider's local name, the prefix of its types: `groundwork`.
    const NAME: &'static str;
    /// Its full address: `registry.terraform.io/acme/groundwork`.
    const ADDRESS: &'static str;
    /// What it is, for the reference page (Markdown).
    const DOC: &'static str;
    /// Crates whose log lines are shown at every level, beside this one; of all others only warnings and errors are.
    const LOGGED: &'static [&'static str] = &[];

    /// All resources, each wrapped by [`resource`].
    fn resources(&self) -> Vec<AnyResource<Self::Data>>;

    /// All data sources, each wrapped by [`data_source`].
    fn data_sources(&self) -> Vec<AnyDataSource<Self::Data>>;

    /// All ephemeral resources, each wrapped by [`ephemeral_resource`](crate::ephemeral_resource).
    fn ephemeral_resources(&self) -> Vec<AnyEphemeralResource<Self::Data>>;

    /// Rules across attributes, beside the checks of rows. Unknown means "ask again later". No I/O.
    fn validate(&self, _m: &Self::Model) -> Diagnostics {
        Diagnostics::new()
    }

    /// Makes the data from the configuration, which may hold unknown values while planning. Connect later, when needed.
    ///
    /// # Errors
    /// For a configuration that can never work.
    fn configure(&self, m: Self::Model) -> impl Future<Output = Result<Self::Data, Diagnostics>> + Send;

    /// What a user should know of a configuration that works. Terraform says it at every plan and apply.
    fn notices(&self, _data: &Self::Data) -> Diagnostics {
        Diagnostics::new()
    }
}

/// A resource of whatever model.
pub struct AnyResource<D>(pub(crate) Arc<dyn ResourceObject<D>>);

/// A data source of whatever model.
pub struct AnyDataSource<D>(pub(crate) Arc<dyn DataSourceObject<D>>);

/// Wraps a resource for the list of a provider.
pub fn resource<R: Resource>(resource: R) -> AnyResource<R::Data> {
    AnyResource(crate::lifecycle::wrap_resource(resource))
}

/// Wraps a data source for the list of a provider.
pub fn data_source<S: DataSource>(source: S) -> AnyDataSource<S::Data> {
    AnyDataSource(crate::lifecycle::wrap_data_source(source))
}

impl<D> AnyResource<D> {
    /// The type's name without the provider's.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its attributes.
    #[must_use]
    pub fn block(&self) -> Block {
        self.0.block()
    }

    /// A generic test; see [`crate::testing::rows_match_fields`].
    pub fn rows_match_fields(&self) {
        self.0.rows_match_fields();
    }
}

impl<D> AnyDataSource<D> {
    /// The type's name without the provider's.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its attributes.
    #[must_use]
    pub fn block(&self) -> Block {
        self.0.block()
    }

    /// A generic test; see [`crate::testing::rows_match_fields`].
    pub fn rows_match_fields(&self) {
        self.0.rows_match_fields();
    }
}

impl<D> fmt::Debug for AnyResource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyResource").field(&self.name()).finish()
    }
}

impl<D> fmt::Debug for AnyDataSource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyDataSource").field(&self.name()).finish()
    }
}

/// What planning adds to the planned values.
#[derive(Debug, Default)]
pub struct PlanNotes {
    pub(crate) replace: Vec<Path>,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) changed: bool,
    pub(crate) private: Private,
}

impl PlanNotes {
    /// Demands a new object because of the attribute at `path`, which must differ from the prior state.
    pub fn replace(&mut self, path: impl Into<Path>) {
        self.replace.push(path.into());
    }

    /// Shows a warning in the plan.
    pub fn warn(&mut self, warning: Diagnostic) {
        self.diagnostics.push(warning);
    }

    /// Stops the plan.
    pub fn error(&mut self, error: Diagnostic) {
        self.diagnostics.push(error);
    }

    /// Notes for a plan in which something changes, or nothing; for tests of resources.
    #[must_use]
    pub fn new(changed: bool) -> Self {
        Self { changed, ..Self::default() }
    }

    /// What the resource stored beside the state. What is set here comes with the apply, if there is one.
    #[must_use]
    pub const fn private(&self) -> &Private {
        &self.private
    }

    /// The attributes that demand a new object.
    #[must_use]
    pub fn replacing(&self) -> &[Path] {
        &self.replace
    }

    /// Warnings and errors so far.
    #[must_use]
    pub const fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }

    /// True if the object is created or something in it changes, as far as rows can tell. Lists of effects and the like
    /// should keep their prior value when this is false, or every plan would be a change.
    #[must_use]
    pub const fn changed(&self) -> bool {
        self.changed
    }
}
