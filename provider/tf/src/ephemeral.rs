//! What lives for one run only: [`EphemeralResource`], whose values Terraform hands on and stores nowhere.
//!
//! Terraform opens one in every plan and again in every apply, as soon as its configuration is known, and closes it when nobody needs it
//! any more. Its values may go into provider blocks, write-only attributes and other ephemeral places.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cx::Cx;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::lifecycle::{Work, completed, fresh, guarded};
use crate::model::{Model, load};
use crate::schema::Block;
use crate::value::Value;

/// A thing that Terraform opens, uses and closes within one run.
///
/// What is kept between the calls is in [`Cx::private`], which stays in Terraform's memory here.
pub trait EphemeralResource: Send + Sync + 'static {
    /// The provider's data.
    type Data: Send + Sync + 'static;
    /// Its attributes.
    type Model: Model;

    /// The type's name without the provider's: `kubeconfig`.
    const NAME: &'static str;
    /// What it is, for the reference page (Markdown).
    const DOC: &'static str;

    /// Fills what is computed from what is configured; says when [`EphemeralResource::renew`] is to be called, if at all.
    ///
    /// # Errors
    /// It then counts as not opened, and nobody closes it: leave nothing behind.
    fn open(&self, cx: &Cx<Self::Data>, m: &mut Self::Model) -> impl Future<Output = Opened> + Send;

    /// Makes what was opened live longer; its values stay as they are. Says when it is to be called again, if at all.
    ///
    /// # Errors
    /// Terraform reports them and goes on with what it has.
    fn renew(&self, _cx: &Cx<Self::Data>) -> impl Future<Output = Opened> + Send {
        ready(Ok(None))
    }

    /// Ends what was opened. Also called after a stop, and given a little time then.
    ///
    /// # Errors
    /// If something was left behind.
    fn close(&self, _cx: &Cx<Self::Data>) -> impl Future<Output = Result<(), Diagnostics>> + Send {
        ready(Ok(()))
    }

    /// Rules across attributes, beside the checks of rows. Unknown means "ask again later". No I/O.
    fn validate(&self, _m: &Self::Model) -> Diagnostics {
        Diagnostics::new()
    }
}

/// When to renew what was opened; `None`: never.
pub type Opened = Result<Option<SystemTime>, Diagnostics>;

/// How long closing may take.
const CLOSING: Duration = Duration::from_secs(30);

/// An ephemeral resource of whatever model, driven through values.
pub(crate) trait EphemeralObject<D>: Send + Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static str;
    fn block(&self) -> Block;
    /// A generic test; see [`crate::testing::rows_match_fields`].
    fn rows_match_fields(&self);
    fn validate(&self, config: &Value) -> Diagnostics;
    fn open<'a>(
        &'a self,
        cx: &'a Cx<D>,
        config: &'a Value,
    ) -> Work<'a, Result<(Value, Option<SystemTime>), Diagnostics>>;
    fn renew<'a>(&'a self, cx: &'a Cx<D>) -> Work<'a, Opened>;
    fn close<'a>(&'a self, cx: &'a Cx<D>) -> Work<'a, Result<(), Diagnostics>>;
}

/// An ephemeral resource of whatever model.
pub struct AnyEphemeralResource<D>(pub(crate) Arc<dyn EphemeralObject<D>>);

/// Wraps an ephemeral resource for the list of a provider.
pub fn ephemeral_resource<E: EphemeralResource>(ephemeral: E) -> AnyEphemeralResource<E::Data> {
    AnyEphemeralResource(Arc::new(Wrapped(ephemeral)))
}

impl<D> AnyEphemeralResource<D> {
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

impl<D> fmt::Debug for AnyEphemeralResource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyEphemeralResource").field(&self.name()).finish()
    }
}

struct Wrapped<T>(T);

impl<E: EphemeralResource> EphemeralObject<E::Data> for Wrapped<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn doc(&self) -> &'static str {
        E::DOC
    }

    fn block(&self) -> Block {
        Block::of::<E::Model>()
    }

    fn rows_match_fields(&self) {
        crate::testing::rows_match_fields::<E::Model>();
    }

    fn validate(&self, config: &Value) -> Diagnostics {
        load(config).map_or_else(|problems| problems, |model| self.0.validate(&model))
    }

    fn open<'a>(
        &'a self,
        cx: &'a Cx<E::Data>,
        config: &'a Value,
    ) -> Work<'a, Result<(Value, Option<SystemTime>), Diagnostics>> {
        Box::pin(async move {
            // Terraform waits until it knows everything, and answers with unknown values until then.
            if !config.is_wholly_known() {
                return Err(Diagnostic::bug(&format!("{} was opened with unknown values", E::NAME)).into());
            }
            let block = Block::of::<E::Model>();
            let planned = fresh(&block, config)?;
            let mut model = load(&planned)?;
            let renew_at = guarded(self.0.open(cx, &mut model)).await?;
            Ok((completed(&block, &planned, &model), renew_at))
        })
    }

    fn renew<'a>(&'a self, cx: &'a Cx<E::Data>) -> Work<'a, Opened> {
        Box::pin(guarded(self.0.renew(cx)))
    }

    fn close<'a>(&'a self, cx: &'a Cx<E::Data>) -> Work<'a, Result<(), Diagnostics>> {
        Box::pin(async move {
            // Stopped or not: what was opened is open.
            let calm = cx.after_stop();
            let closing = guarded(self.0.close(&calm));
            let too_slow = |_| Err(too_slow(E::NAME).into());
            tokio::time::timeout(CLOSING, closing).await.unwrap_or_else(too_slow)
        })
    }
}

fn too_slow(name: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot close {name}"))
        .happened(format!("There was no answer for {} s.", CLOSING.as_secs()))
        .holds("What it gave out counts until its own end.")
}
