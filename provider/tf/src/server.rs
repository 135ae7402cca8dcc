//! Terraform's calls, one short function each: find the thing by name, decode, let `lifecycle` or `plan` do it, encode.
//!
//! Every call runs in a task of its own, so that a dropped request never stops a half-made change.
//! Calls that are not here answer UNIMPLEMENTED.

mod answer;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tfplugin::v6;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use self::answer::{messages, metadata, path_message};
use crate::check;
use crate::cx::{Cx, Private};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::lifecycle::Outcome;
use crate::model::load;
use crate::path::Path;
use crate::plan;
use crate::promise;
use crate::resource::{AnyDataSource, AnyResource, Provider};
use crate::schema::Block;
use crate::value::{Type, Value};
use crate::wire;

/// A provider, answering calls.
pub(crate) struct Server<P: Provider> {
    inner: Arc<Inner<P>>,
}

struct Inner<P: Provider> {
    provider: P,
    resources: BTreeMap<String, AnyResource<P::Data>>,
    data_sources: BTreeMap<String, AnyDataSource<P::Data>>,
    configured: Mutex<Configured<P::Data>>,
    running: TaskTracker,
}

/// What `ConfigureProvider` sets. While debugging one process is configured again and again.
struct Configured<D> {
    data: Option<Arc<D>>,
    stop: CancellationToken,
}

/// What names a call in the log.
struct Call {
    rpc: &'static str,
    req_id: String,
}

impl<P: Provider> Clone for Server<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: Provider> Server<P> {
    pub(crate) fn new(provider: P) -> Self {
        let full = |name: &str| format!("{}_{name}", P::NAME);
        let resources = provider.resources().into_iter().map(|r| (full(r.name()), r)).collect();
        let data_sources = provider.data_sources().into_iter().map(|s| (full(s.name()), s)).collect();
        let configured = Mutex::new(Configured { data: None, stop: CancellationToken::new() });
        Self { inner: Arc::new(Inner { provider, resources, data_sources, configured, running: TaskTracker::new() }) }
    }

    /// Asks every running operation to wind down.
    pub(crate) fn stop(&self) {
        self.inner.configured().stop.cancel();
    }

    /// Stops, and returns when no operation is running any more.
    pub(crate) async fn wind_down(&self) {
        self.stop();
        self.inner.running.close();
        self.inner.running.wait().await;
    }

    /// Runs a call in a task of its own, with its name in every log line.
    async fn run<T, W>(
        &self,
        rpc: &'static str,
        thing: &str,
        work: impl FnOnce(Arc<Inner<P>>, Call) -> W,
    ) -> Result<Response<T>, Status>
    where
        T: answer::Answer,
        W: Future<Output = Result<T, Diagnostics>> + Send + 'static,
    {
        let req_id = uuid::Uuid::new_v4().to_string();
        let call = Call { rpc, req_id: req_id.clone() };
        let (resource, source) = if rpc.contains("Data") { (None, Some(thing)) } else { (Some(thing), None) };
        let span = tracing::info_span!(
            "rpc",
            tf_rpc = rpc,
            tf_req_id = req_id,
            tf_resource_type = resource,
            tf_data_source_type = source
        );
        let work = work(Arc::clone(&self.inner), call);
        let timed = async move {
            let start = Instant::now();
            tracing::trace!("received request");
            let answer = work.await.unwrap_or_else(T::failed);
            let elapsed = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(tf_req_duration_ms = elapsed, "served request");
            answer
        };
        let task = self.inner.running.spawn(timed.instrument(span));
        let bug = |_| Diagnostics::from(Diagnostic::bug(&format!("{rpc} panicked outside of any operation")));
        Ok(Response::new(task.await.map_err(bug).unwrap_or_else(T::failed)))
    }
}

impl<P: Provider> Inner<P> {
    fn configured(&self) -> MutexGuard<'_, Configured<P::Data>> {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resource(&self, name: &str) -> Result<&AnyResource<P::Data>, Diagnostics> {
        self.resources.get(name).ok_or_else(|| unknown_thing("resource", name))
    }

    fn data_source(&self, name: &str) -> Result<&AnyDataSource<P::Data>, Diagnostics> {
        self.data_sources.get(name).ok_or_else(|| unknown_thing("data source", name))
    }

    fn cx(&self, call: &Call, private: &[u8]) -> Result<Cx<P::Data>, Diagnostics> {
        let configured = self.configured();
        let data = configured.data.clone();
        let data = data.ok_or_else(|| Diagnostic::bug(&format!("{} came before ConfigureProvider", call.rpc)))?;
        Ok(Cx::new(data, configured.stop.clone()).with_private(private).with_req_id(&call.req_id))
    }
}

#[tonic::async_trait]
impl<P: Provider> v6::provider_server::Provider for Server<P> {
    async fn get_metadata(
        &self,
        _: Request<v6::get_metadata::Request>,
    ) -> Result<Response<v6::get_metadata::Response>, Status> {
        self.run(
            "GetMetadata",
            "",
            |this, _| async move { Ok(metadata(this.resources.keys(), this.data_sources.keys())) },
        )
        .await
    }

    async fn get_provider_schema(
        &self,
        _: Request<v6::get_provider_schema::Request>,
    ) -> Result<Response<v6::get_provider_schema::Response>, Status> {
        self.run("GetProviderSchema", "", |this, _| async move { Ok(this.schemas()) }).await
    }

    async fn validate_provider_config(
        &self,
        request: Request<v6::validate_provider_config::Request>,
    ) -> Result<Response<v6::validate_provider_config::Response>, Status> {
        let request = request.into_inner();
        self.run("ValidateProviderConfig", "", |this, _| async move {
            let block = Block::of::<P::Model>();
            let config = decode(request.config.as_ref(), &block)?;
            let mut found = check::configured(&block, &config);
            if !found.has_errors() {
                found.extend(this.provider.validate(&load(&config)?));
            }
            Ok(v6::validate_provider_config::Response { diagnostics: messages(found) })
        })
        .await
    }

    async fn configure_provider(
        &self,
        request: Request<v6::configure_provider::Request>,
    ) -> Result<Response<v6::configure_provider::Response>, Status> {
        let request = request.into_inner();
        self.run("ConfigureProvider", "", |this, _| async move {
            tracing::debug!(terraform_version = request.terraform_version, "configuring");
            let config = decode(request.config.as_ref(), &Block::of::<P::Model>())?;
            let data = this.provider.configure(load(&config)?).await?;
            *this.configured() = Configured { data: Some(Arc::new(data)), stop: CancellationToken::new() };
            Ok(v6::configure_provider::Response::default())
        })
        .await
    }

    async fn stop_provider(
        &self,
        _: Request<v6::stop_provider::Request>,
    ) -> Result<Response<v6::stop_provider::Response>, Status> {
        tracing::info!("stopping on request");
        self.stop();
        Ok(Response::new(v6::stop_provider::Response::default()))
    }

    async fn validate_resource_config(
        &self,
        request: Request<v6::validate_resource_config::Request>,
    ) -> Result<Response<v6::validate_resource_config::Response>, Status> {
        let request = request.into_inner();
        self.run("ValidateResourceConfig", &request.type_name.clone(), |this, _| async move {
            let resource = this.resource(&request.type_name)?;
            let block = resource.block();
            let config = decode(request.config.as_ref(), &block)?;
            let mut found = check::configured(&block, &config);
            if !request.client_capabilities.is_some_and(|host| host.write_only_attributes_allowed) {
                found.extend(too_old_for_write_only(&block, &config));
            }
            if !found.has_errors() {
                found.extend(resource.0.validate(&config));
            }
            Ok(v6::validate_resource_config::Response { diagnostics: messages(found) })
        })
        .await
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<v6::validate_data_resource_config::Request>,
    ) -> Result<Response<v6::validate_data_resource_config::Response>, Status> {
        let request = request.into_inner();
        self.run("ValidateDataResourceConfig", &request.type_name.clone(), |this, _| async move {
            let source = this.data_source(&request.type_name)?;
            let block = source.block();
            let config = decode(request.config.as_ref(), &block)?;
            let mut found = check::configured(&block, &config);
            if !found.has_errors() {
                found.extend(source.0.validate(&config));
            }
            Ok(v6::validate_data_resource_config::Response { diagnostics: messages(found) })
        })
        .await
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<v6::upgrade_resource_state::Request>,
    ) -> Result<Response<v6::upgrade_resource_state::Response>, Status> {
        let request = request.into_inner();
        self.run("UpgradeResourceState", &request.type_name.clone(), |this, _| async move {
            let resource = this.resource(&request.type_name)?;
            let stored = request.raw_state.map(|raw| raw.json).unwrap_or_default();
            let state = upgraded(resource, request.version, &stored)?;
            Ok(v6::upgrade_resource_state::Response {
                upgraded_state: Some(encode(&state, &resource.block())?),
                diagnostics: Vec::new(),
            })
        })
        .await
    }

    async fn read_resource(
        &self,
        request: Request<v6::read_resource::Request>,
    ) -> Result<Response<v6::read_resource::Response>, Status> {
        let request = request.into_inner();
        self.run("ReadResource", &request.type_name.clone(), |this, call| async move {
            let resource = this.resource(&request.type_name)?;
            let block = resource.block();
            let state = decode(request.current_state.as_ref(), &block)?;
            let cx = this.cx(&call, &request.private)?;
            let (found, mut problems) = match resource.0.read(&cx, &state).await {
                Ok(found) => (found.unwrap_or_default(), Diagnostics::new()),
                Err(problems) => (state, problems),
            };
            problems.extend(cx.take_warnings());
            Ok(v6::read_resource::Response {
                new_state: Some(encode(&found, &block)?),
                private: cx.private().write(),
                diagnostics: messages(problems),
                ..Default::default()
            })
        })
        .await
    }

    async fn plan_resource_change(
        &self,
        request: Request<v6::plan_resource_change::Request>,
    ) -> Result<Response<v6::plan_resource_change::Response>, Status> {
        let request = request.into_inner();
        self.run("PlanResourceChange", &request.type_name.clone(), |this, _| async move {
            let resource = this.resource(&request.type_name)?;
            let block = resource.block();
            let own = block.own_type();
            let prior = decode(request.prior_state.as_ref(), &block)?;
            let private = Private::read(&request.prior_private);
            let answer =
                v6::plan_resource_change::Response { planned_private: request.prior_private, ..Default::default() };
            if decode(request.proposed_new_state.as_ref(), &block)?.is_null() {
                let planned_state = Some(encode_as(&Value::Null, &own)?);
                let diagnostics = messages(resource.0.plan_destroy(&prior));
                return Ok(v6::plan_resource_change::Response { planned_state, diagnostics, ..answer });
            }
            let config = decode(request.config.as_ref(), &block)?;
            let prior = Some(&prior).filter(|prior| !prior.is_null());
            let planned =
                resource.0.plan(plan::Request { block: &block, prior, config: &config, private: &private })?;
            Ok(v6::plan_resource_change::Response {
                planned_state: Some(encode_as(&planned.value, &own)?),
                requires_replace: planned.replace.iter().map(path_message).collect(),
                planned_private: private.write(),
                diagnostics: messages(planned.warnings),
                ..answer
            })
        })
        .await
    }

    async fn apply_resource_change(
        &self,
        request: Request<v6::apply_resource_change::Request>,
    ) -> Result<Response<v6::apply_resource_change::Response>, Status> {
        let request = request.into_inner();
        self.run("ApplyResourceChange", &request.type_name.clone(), |this, call| async move {
            let resource = this.resource(&request.type_name)?;
            let block = resource.block();
            let prior = decode(request.prior_state.as_ref(), &block)?;
            let planned = decode(request.planned_state.as_ref(), &block)?;
            let config = decode(request.config.as_ref(), &block)?;
            let cx = this.cx(&call, &request.planned_private)?;
            let Outcome { state, mut diagnostics } = match (prior.is_null(), planned.is_null()) {
                (_, true) => resource.0.delete(&cx, &prior).await,
                (true, false) => resource.0.create(&cx, &planned, &config).await,
                (false, false) => resource.0.update(&cx, &prior, [&planned, &config]).await,
            };
            diagnostics.extend(cx.take_warnings());
            Ok(v6::apply_resource_change::Response {
                new_state: Some(encode(&state.unwrap_or_default(), &block)?),
                private: cx.private().write(),
                diagnostics: messages(diagnostics),
                ..Default::default()
            })
        })
        .await
    }

    async fn import_resource_state(
        &self,
        request: Request<v6::import_resource_state::Request>,
    ) -> Result<Response<v6::import_resource_state::Response>, Status> {
        let request = request.into_inner();
        self.run("ImportResourceState", &request.type_name.clone(), |this, call| async move {
            let resource = this.resource(&request.type_name)?;
            let cx = this.cx(&call, &[])?;
            let state = resource.0.import(&cx, &request.id).await?;
            let imported = v6::import_resource_state::ImportedResource {
                type_name: request.type_name.clone(),
                state: Some(encode(&state, &resource.block())?),
                private: cx.private().write(),
                identity: None,
            };
            Ok(v6::import_resource_state::Response {
                imported_resources: vec![imported],
                diagnostics: messages(cx.take_warnings()),
                deferred: None,
            })
        })
        .await
    }

    async fn read_data_source(
        &self,
        request: Request<v6::read_data_source::Request>,
    ) -> Result<Response<v6::read_data_source::Response>, Status> {
        let request = request.into_inner();
        self.run("ReadDataSource", &request.type_name.clone(), |this, call| async move {
            let source = this.data_source(&request.type_name)?;
            let block = source.block();
            let config = decode(request.config.as_ref(), &block)?;
            let cx = this.cx(&call, &[])?;
            let found = source.0.read(&cx, &config).await?;
            Ok(v6::read_data_source::Response {
                state: Some(encode(&found, &block)?),
                diagnostics: messages(cx.take_warnings()),
                deferred: None,
            })
        })
        .await
    }
}

impl<P: Provider> Inner<P> {
    fn schemas(&self) -> v6::get_provider_schema::Response {
        let resource = |(name, resource): (&String, &AnyResource<P::Data>)| {
            (name.clone(), resource.block().message(resource.0.version(), resource.0.doc()))
        };
        let data_source = |(name, source): (&String, &AnyDataSource<P::Data>)| {
            (name.clone(), source.block().message(0, source.0.doc()))
        };
        v6::get_provider_schema::Response {
            provider: Some(Block::of::<P::Model>().message(0, P::DOC)),
            resource_schemas: self.resources.iter().map(resource).collect(),
            data_source_schemas: self.data_sources.iter().map(data_source).collect(),
            server_capabilities: Some(answer::CAPABILITIES),
            ..Default::default()
        }
    }
}

/// Stored state in the current form.
fn upgraded<D>(resource: &AnyResource<D>, version: i64, stored: &[u8]) -> Result<Value, Diagnostics> {
    let block = resource.block();
    let unreadable = |what: &str| {
        Diagnostic::error(format!("Cannot read the stored {}", resource.name()))
            .happened(format!("The state holds an object that {what}."))
            .holds("Nothing was changed.")
            .next("Restore the state from a backup, or remove the object from it and import it again.")
    };
    if stored.is_empty() {
        return Err(unreadable("was written by Terraform 0.11 or older").into());
    }
    let current = if version < resource.0.version() {
        let json = serde_json::from_slice(stored).map_err(|_| unreadable("is not JSON"))?;
        resource.0.upgrade(version, json)?.to_string().into_bytes()
    } else {
        stored.to_vec()
    };
    let state = wire::decode_json(&current, &block.own_type())
        .map_err(|error| unreadable(&format!("does not fit: {error}")))?;
    Ok(promise::outgoing(&block, &state))
}

/// Terraform before 1.11 would store write-only values.
fn too_old_for_write_only(block: &Block, config: &Value) -> Diagnostics {
    let refusal = |path: Path| {
        Diagnostic::error(format!("Cannot keep {path} out of the state"))
            .happened("This Terraform does not know write-only attributes and would store the value.")
            .next(format!("Use Terraform 1.11 or later, or remove `{path}`."))
            .at(path)
    };
    check::write_only_in(block, config, &Path::root()).into_iter().map(refusal).collect()
}

fn unknown_thing(kind: &str, name: &str) -> Diagnostics {
    Diagnostic::bug(&format!("Terraform asked for the {kind} {name}, which the schema does not have")).into()
}

fn decode(message: Option<&v6::DynamicValue>, block: &Block) -> Result<Value, Diagnostics> {
    let unreadable = |error| Diagnostic::bug(&format!("a value from Terraform does not fit the schema: {error}"));
    Ok(wire::decode(message, &block.own_type()).map_err(unreadable)?)
}

fn encode(value: &Value, block: &Block) -> Result<v6::DynamicValue, Diagnostics> {
    encode_as(value, &block.own_type())
}

fn encode_as(value: &Value, own: &Type) -> Result<v6::DynamicValue, Diagnostics> {
    let unwritable = |error| Diagnostic::bug(&format!("a value for Terraform does not fit the schema: {error}"));
    Ok(wire::encode(value, own).map_err(unwritable)?)
}
