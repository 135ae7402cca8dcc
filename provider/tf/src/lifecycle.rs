//! Drives resources and data sources of any model through values: what `server` calls, and what calls the author's code.
//!
//! Here is done once for all: reading back after a change, settling unknown values, keeping what exists after a failure,
//! stripping write-only values, and turning a panic into a diagnostic.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value as Json;

use crate::check;
use crate::cx::{Cx, Private};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::model::{Model, dump, load};
use crate::path::Path;
use crate::plan::{self, Planned, Request};
use crate::promise;
use crate::resource::{DataSource, PlanNotes, Presence, Resource};
use crate::schema::Block;
use crate::value::Value;

/// How long reading back may take after a change.
const READ_BACK: Duration = Duration::from_secs(120);

/// How long it may take after a change that failed.
const LAST_LOOK: Duration = Duration::from_secs(30);

/// A future of whatever type.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a change leaves: the object to record, if any, and what there is to say.
pub(crate) struct Outcome {
    pub(crate) state: Option<Value>,
    pub(crate) diagnostics: Diagnostics,
}

/// A resource of whatever model.
pub(crate) trait ResourceObject<D>: Send + Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static str;
    fn version(&self) -> i64;
    fn block(&self) -> Block;
    /// A generic test; see [`crate::testing::rows_match_fields`].
    fn rows_match_fields(&self);
    fn plan(&self, request: Request<'_>) -> Result<Planned, Diagnostics>;
    fn validate(&self, config: &Value) -> Diagnostics;
    fn plan_destroy(&self, prior: &Value, private: &Private) -> Result<Planned, Diagnostics>;
    fn upgrade(&self, version: i64, stored: Json) -> Result<Json, Diagnostics>;
    fn import<'a>(&'a self, cx: &'a Cx<D>, id: &'a str) -> Work<'a, Result<Value, Diagnostics>>;
    fn read<'a>(&'a self, cx: &'a Cx<D>, state: &'a Value) -> Work<'a, Result<Option<Value>, Diagnostics>>;
    fn create<'a>(&'a self, cx: &'a Cx<D>, planned: &'a Value, config: &'a Value) -> Work<'a, Outcome>;
    /// `wanted` is the plan, and the configuration for its write-only values.
    fn update<'a>(&'a self, cx: &'a Cx<D>, prior: &'a Value, wanted: [&'a Value; 2]) -> Work<'a, Outcome>;
    fn delete<'a>(&'a self, cx: &'a Cx<D>, prior: &'a Value) -> Work<'a, Outcome>;
}

/// A data source of whatever model.
pub(crate) trait DataSourceObject<D>: Send + Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static str;
    fn block(&self) -> Block;
    /// A generic test; see [`crate::testing::rows_match_fields`].
    fn rows_match_fields(&self);
    fn validate(&self, config: &Value) -> Diagnostics;
    fn read<'a>(&'a self, cx: &'a Cx<D>, config: &'a Value) -> Work<'a, Result<Value, Diagnostics>>;
}

struct Wrapped<T>(T);

pub(crate) fn wrap_resource<R: Resource>(resource: R) -> Arc<dyn ResourceObject<R::Data>> {
    Arc::new(Wrapped(resource))
}

pub(crate) fn wrap_data_source<S: DataSource>(source: S) -> Arc<dyn DataSourceObject<S::Data>> {
    Arc::new(Wrapped(source))
}

impl<R: Resource> ResourceObject<R::Data> for Wrapped<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn doc(&self) -> &'static str {
        R::DOC
    }

    fn version(&self) -> i64 {
        R::VERSION
    }

    fn block(&self) -> Block {
        Block::of::<R::Model>()
    }

    fn rows_match_fields(&self) {
        crate::testing::rows_match_fields::<R::Model>();
    }

    fn plan(&self, request: Request<'_>) -> Result<Planned, Diagnostics> {
        let Request { prior, config, private, .. } = request;
        let configured: R::Model = load(config)?;
        let before = prior.map(load::<R::Model>).transpose()?;
        let placeholders = if prior.is_none() { check::placeholders(request.block, config) } else { Vec::new() };
        let mut planned = plan::change(request, |planned, notes| {
            for at in &placeholders {
                notes.warn(check::placeholder(Diagnostic::warning(format!("Cannot make this {}", R::NAME)), at));
            }
            let mut model: R::Model = load(&planned)?;
            let untouched = dump(&model);
            self.0.plan(before.as_ref(), &configured, &mut model, notes);
            Ok(plan::adopt(&planned, &untouched, dump(&model)))
        })?;
        if !placeholders.is_empty() {
            // What the resource notes for a creation is of no use to one that must fail; what is known of the object before stays with it.
            planned.private = private.copy();
            planned.private.set(PLACEHOLDERS, &true);
        }
        Ok(planned)
    }

    fn validate(&self, config: &Value) -> Diagnostics {
        load(config).map_or_else(|problems| problems, |model| self.0.validate(&model))
    }

    fn plan_destroy(&self, prior: &Value, private: &Private) -> Result<Planned, Diagnostics> {
        let mut notes = PlanNotes { private: private.copy(), ..PlanNotes::new(true) };
        self.0.plan_destroy(&load(prior)?, &mut notes);
        Planned::new(Value::Null, notes)
    }

    fn upgrade(&self, version: i64, stored: Json) -> Result<Json, Diagnostics> {
        self.0.upgrade(version, stored)
    }

    fn import<'a>(&'a self, cx: &'a Cx<R::Data>, id: &'a str) -> Work<'a, Result<Value, Diagnostics>> {
        Box::pin(async move {
            let model = guarded(self.0.import(cx, id)).await?;
            Ok(promise::outgoing(&Block::of::<R::Model>(), &dump(&model)))
        })
    }

    fn read<'a>(&'a self, cx: &'a Cx<R::Data>, state: &'a Value) -> Work<'a, Result<Option<Value>, Diagnostics>> {
        Box::pin(self.look(cx, state))
    }

    fn create<'a>(&'a self, cx: &'a Cx<R::Data>, planned: &'a Value, config: &'a Value) -> Work<'a, Outcome> {
        Box::pin(async move {
            let block = Block::of::<R::Model>();
            let placeholders = check::placeholders(&block, planned);
            if !placeholders.is_empty() {
                let refusal = |at| check::placeholder(Diagnostic::error(format!("Cannot make this {}", R::NAME)), at);
                return Outcome { state: None, diagnostics: placeholders.iter().map(refusal).collect() };
            }
            let mut model = match load(&promise::with_write_only(&block, planned, config)) {
                Ok(model) => model,
                Err(diagnostics) => return Outcome { state: None, diagnostics },
            };
            match guarded(self.0.create(cx, &mut model)).await {
                Ok(()) if cx.is_filled() => {
                    let state = recorded(&block, planned, &dump(&model));
                    Outcome { state: Some(state), diagnostics: Diagnostics::new() }
                }
                Ok(()) => self.read_back(cx, &block, planned, model).await,
                // Without an id nothing exists; with one, what is known is recorded and the object counts as tainted.
                Err(diagnostics) => {
                    let state = recorded(&block, planned, &dump(&model));
                    let exists = !state.attribute("id").is_null();
                    Outcome { state: exists.then_some(state), diagnostics }
                }
            }
        })
    }

    fn update<'a>(
        &'a self,
        cx: &'a Cx<R::Data>,
        prior: &'a Value,
        [planned, config]: [&'a Value; 2],
    ) -> Work<'a, Outcome> {
        Box::pin(async move {
            let block = Block::of::<R::Model>();
            let loaded = load(prior).and_then(|p| Ok((p, load(&promise::with_write_only(&block, planned, config))?)));
            let (before, mut model): (R::Model, R::Model) = match loaded {
                Ok(models) => models,
                Err(diagnostics) => return Outcome { state: Some(prior.clone()), diagnostics },
            };
            match guarded(self.0.update(cx, &before, &mut model)).await {
                Ok(()) => self.read_back(cx, &block, planned, model).await,
                Err(diagnostics) => Outcome { state: Some(self.last_look(cx, prior).await), diagnostics },
            }
        })
    }

    fn delete<'a>(&'a self, cx: &'a Cx<R::Data>, prior: &'a Value) -> Work<'a, Outcome> {
        Box::pin(async move {
            // A replacement destroys first, with the private values of the new object's plan.
            if cx.private().get::<bool>(PLACEHOLDERS).is_some() {
                // It stays, and a later destruction is its own affair.
                cx.private().remove(PLACEHOLDERS);
                return Outcome { state: Some(prior.clone()), diagnostics: irreplaceable(R::NAME).into() };
            }
            let gone = async { guarded(self.0.delete(cx, &load(prior)?)).await };
            match gone.await {
                Ok(()) => Outcome { state: None, diagnostics: Diagnostics::new() },
                Err(diagnostics) => Outcome { state: Some(prior.clone()), diagnostics },
            }
        })
    }
}

/// What goes without a word from which the next could be made stays.
fn irreplaceable(name: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot replace this {name}"))
        .happened("The configuration of the new one has placeholders of an import, so that it could not be made.")
        .holds("Nothing was destroyed.")
        .next("Write what it is to be made from in their place, as the plan's warnings say, and apply again.")
}

/// Set by a plan of a creation that must fail.
const PLACEHOLDERS: &str = "tf.placeholders";

impl<R: Resource> Wrapped<R> {
    async fn look(&self, cx: &Cx<R::Data>, state: &Value) -> Result<Option<Value>, Diagnostics> {
        let mut model: R::Model = load(state)?;
        let before = dump(&model);
        Ok(match guarded(self.0.read(cx, &mut model)).await? {
            Presence::Here => {
                let found = plan::adopt(state, &before, dump(&model));
                Some(promise::outgoing(&Block::of::<R::Model>(), &found))
            }
            Presence::Gone => None,
        })
    }

    /// Reads what a change has made, and completes the plan with it.
    async fn read_back(&self, cx: &Cx<R::Data>, block: &Block, planned: &Value, mut model: R::Model) -> Outcome {
        let known = dump(&model);
        let mut diagnostics = Diagnostics::new();
        // The change is made, stopped or not; what came of it is worth a last look.
        let calm = cx.after_stop();
        let looking = guarded(self.0.read(if cx.stop.is_cancelled() { &calm } else { cx }, &mut model));
        let too_slow = |_| Err(too_slow(R::NAME).into());
        let found = match tokio::time::timeout(READ_BACK, looking).await.unwrap_or_else(too_slow) {
            Ok(Presence::Here) => dump(&model),
            Ok(Presence::Gone) => {
                diagnostics.push(vanished(R::NAME, &known));
                known
            }
            // The change itself succeeded: an error would taint a good object.
            Err(problems) => {
                diagnostics.push(unread(R::NAME, &known, &problems));
                known
            }
        };
        Outcome { state: Some(recorded(block, planned, &found)), diagnostics }
    }

    /// What is really there after a failed change, or the prior state if nobody can say. Not stopped by a stop.
    async fn last_look(&self, cx: &Cx<R::Data>, prior: &Value) -> Value {
        let calm = cx.after_stop();
        match tokio::time::timeout(LAST_LOOK, self.look(&calm, prior)).await {
            Ok(Ok(Some(state))) => state,
            Ok(Ok(None) | Err(_)) | Err(_) => prior.clone(),
        }
    }
}

impl<S: DataSource> DataSourceObject<S::Data> for Wrapped<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn doc(&self) -> &'static str {
        S::DOC
    }

    fn block(&self) -> Block {
        Block::of::<S::Model>()
    }

    fn rows_match_fields(&self) {
        crate::testing::rows_match_fields::<S::Model>();
    }

    fn validate(&self, config: &Value) -> Diagnostics {
        load(config).map_or_else(|problems| problems, |model| self.0.validate(&model))
    }

    fn read<'a>(&'a self, cx: &'a Cx<S::Data>, config: &'a Value) -> Work<'a, Result<Value, Diagnostics>> {
        Box::pin(async move {
            let block = Block::of::<S::Model>();
            let planned = fresh(&block, config)?;
            let mut model = load(&planned)?;
            guarded(self.0.read(cx, &mut model)).await?;
            Ok(completed(&block, &planned, &model))
        })
    }
}

/// What is only looked at, as configured: defaults are there, and what is computed is unknown.
pub(crate) fn fresh(block: &Block, config: &Value) -> Result<Value, Diagnostics> {
    let request = Request { block, prior: None, config, private: &Private::default() };
    Ok(plan::change(request, |value, _| Ok(value))?.value)
}

/// It, completed by what the model holds now.
pub(crate) fn completed<M: Model>(block: &Block, planned: &Value, model: &M) -> Value {
    recorded(block, planned, &dump(model))
}

/// The plan completed by what was found. A value that the other side spells differently shows as drift next time.
fn recorded(block: &Block, planned: &Value, found: &Value) -> Value {
    let (state, differ) = promise::complete(block, planned, found);
    if !differ.is_empty() {
        let paths: Vec<String> = differ.iter().map(Path::to_string).collect();
        tracing::debug!(attributes = paths.join(", "), "read back differs from the plan");
    }
    state
}

/// Runs an author's code; a panic becomes a diagnostic, and what the model holds by then is kept.
pub(crate) async fn guarded<T>(work: impl Future<Output = Result<T, Diagnostics>>) -> Result<T, Diagnostics> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Diagnostic::bug(&format!("an operation panicked: {text}")).into())
    })
}

fn vanished(name: &str, known: &Value) -> Diagnostic {
    let id = known.attribute("id").text().unwrap_or_default();
    Diagnostic::error(format!("Cannot find {name} {id} after its change"))
        .happened("The change succeeded, and right afterwards the object was gone.")
        .holds("The state records the object as planned; the next plan finds out whether it exists.")
        .next("Look for whatever else changes or deletes it, and apply again.")
}

fn too_slow(name: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot read {name}"))
        .happened(format!("There was no answer for {} s.", READ_BACK.as_secs()))
}

fn unread(name: &str, known: &Value, problems: &Diagnostics) -> Diagnostic {
    let id = known.attribute("id").text().unwrap_or_default();
    let reasons: Vec<String> =
        problems.iter().map(|problem| format!("{}. {}", problem.summary(), problem.detail())).collect();
    Diagnostic::warning(format!("Cannot read {name} {id} after its change"))
        .happened(format!("The change succeeded; reading the result failed. {}", reasons.join(" ")))
        .holds("The state records the object as planned. Values that only the other side knows are null.")
        .next("Run `terraform apply -refresh-only` when it answers again.")
}
