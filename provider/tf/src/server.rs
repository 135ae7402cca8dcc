//! Terraform's calls, one short function each: find the thing by name, decode, let `lifecycle` or `plan` do it, encode.
//!
//! Every call runs in a task of its own, so that a dropped request never stops a half-made change.
//! Calls that are not here answer UNIMPLEMENTED.

mod answer;
mod rpc;
mod things;
mod values;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tfplugin::v6;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use self::answer::{messages, path_message, point_at_source};
use self::rpc::Rpc;
use self::values::{decode, encode, problems_of, upgraded};
use crate::check;
use crate::cx::{Cx, Private};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ephemeral::AnyEphemeralResource;
use crate::generate;
use crate::lifecycle::Outcome;
use crate::model::load;
use crate::plan::{self, Planned};
use crate::resource::{AnyDataSource, AnyResource, Provider};
use crate::schema::Block;

/// A provider, answering calls.
pub(crate) struct Server<P: Provider> {
    inner: Arc<Inner<P>>,
}

struct Inner<P: Provider> {
    provider: P,
    resources: BTreeMap<String, AnyResource<P::Data>>,
    data_sources: BTreeMap<String, AnyDataSource<P::Data>>,
    ephemeral: BTreeMap<String, AnyEphemeralResource<P::Data>>,
    stop: CancellationToken,
    running: TaskTracker,
}

/// One provider block's use of the provider, from `ConfigureProvider` on.
pub(crate) struct Session<D>(Arc<Mutex<Configured<D>>>);

/// What `ConfigureProvider` sets. While debugging that happens again and again.
struct Configured<D> {
    data: Option<Arc<D>>,
    stop: CancellationToken,
}

/// One call: in whose name it is made, and what names it in the log. Derefs to what answers it.
struct Call<P: Provider> {
    inner: Arc<Inner<P>>,
    session: Session<P::Data>,
    rpc: &'static str,
    req_id: String,
}

impl<P: Provider> Clone for Server<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D> Clone for Session<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> Session<D> {
    fn configured(&self) -> MutexGuard<'_, Configured<D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Provider> Server<P> {
    pub(crate) fn new(provider: P) -> Self {
        let full = |name: &str| format!("{}_{name}", P::NAME);
        let resources = provider.resources().into_iter().map(|r| (full(r.name()), r)).collect();
        let data_sources = provider.data_sources().into_iter().map(|s| (full(s.name()), s)).collect();
        let ephemeral = provider.ephemeral_resources().into_iter().map(|e| (full(e.name()), e)).collect();
        let (stop, running) = (CancellationToken::new(), TaskTracker::new());
        Self { inner: Arc::new(Inner { provider, resources, data_sources, ephemeral, stop, running }) }
    }

    /// A session that is not configured yet.
    pub(crate) fn session(&self) -> Session<P::Data> {
        Session(Arc::new(Mutex::new(Configured { data: None, stop: self.inner.stop.child_token() })))
    }

    /// Asks every operation of every session to wind down.
    pub(crate) fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// Stops, and returns when no operation is running any more.
    pub(crate) async fn wind_down(&self) {
        self.stop();
        self.inner.running.close();
        self.inner.running.wait().await;
    }

    /// The session that came with the connection.
    fn session_of<Q>(&self, request: &Request<Q>) -> Session<P::Data> {
        request.extensions().get::<Session<P::Data>>().cloned().unwrap_or_else(|| self.session())
    }

    /// Runs a call in a task of its own, with its name in every log line.
    async fn run<Q, W>(
        &self,
        request: Request<Q>,
        work: impl FnOnce(Call<P>, Q) -> W,
    ) -> Result<Response<Q::Answer>, Status>
    where
        Q: Rpc,
        W: Future<Output = Result<Q::Answer, Diagnostics>> + Send + 'static,
    {
        let session = self.session_of(&request);
        let request = request.into_inner();
        let call =
            Call { inner: Arc::clone(&self.inner), session, rpc: Q::NAME, req_id: uuid::Uuid::new_v4().to_string() };
        let about = request.about();
        let span = tracing::info_span!(
            "rpc",
            tf_rpc = Q::NAME,
            tf_req_id = call.req_id,
            tf_resource_type = about.resource(),
            tf_data_source_type = about.data_source(),
            tf_ephemeral_resource_type = about.ephemeral()
        );
        let work = work(call, request);
        let timed = async move {
            let start = Instant::now();
            tracing::trace!("received request");
            let answer = work.await.unwrap_or_else(Q::failed);
            let elapsed = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(tf_req_duration_ms = elapsed, "served request");
            answer
        };
        let task = self.inner.running.spawn(timed.instrument(span));
        let bug = |_| Diagnostics::from(Diagnostic::bug(&format!("{} panicked outside of any operation", Q::NAME)));
        let mut answer = task.await.map_err(bug).unwrap_or_else(Q::failed);
        let reported = Q::diagnostics(&mut answer);
        if reported.iter().any(|diagnostic| diagnostic.attribute.is_some()) {
            point_at_source(reported, &self.inner.block_of(&about));
        }
        Ok(Response::new(answer))
    }
}

impl<P: Provider> Deref for Call<P> {
    type Target = Inner<P>;

    fn deref(&self) -> &Inner<P> {
        &self.inner
    }
}

impl<P: Provider> Call<P> {
    fn cx(&self, private: &[u8]) -> Result<Cx<P::Data>, Diagnostics> {
        let configured = self.session.configured();
        let data = configured.data.clone();
        let data = data.ok_or_else(|| Diagnostic::bug(&format!("{} came before ConfigureProvider", self.rpc)))?;
        Ok(Cx::new(data, configured.stop.clone()).with_private(private).with_req_id(&self.req_id))
    }

    fn configure(&self, data: P::Data) {
        *self.session.configured() = Configured { data: Some(Arc::new(data)), stop: self.inner.stop.child_token() };
    }
}

#[tonic::async_trait]
impl<P: Provider> v6::provider_server::Provider for Server<P> {
    async fn get_metadata(
        &self,
        request: Request<v6::get_metadata::Request>,
    ) -> Result<Response<v6::get_metadata::Response>, Status> {
        self.run(request, |call, _| async move { Ok(call.metadata()) }).await
    }

    async fn get_provider_schema(
        &self,
        request: Request<v6::get_provider_schema::Request>,
    ) -> Result<Response<v6::get_provider_schema::Response>, Status> {
        self.run(request, |call, _| async move { Ok(call.schemas()) }).await
    }

    async fn validate_provider_config(
        &self,
        request: Request<v6::validate_provider_config::Request>,
    ) -> Result<Response<v6::validate_provider_config::Response>, Status> {
        self.run(request, |call, request| async move {
            let block = Block::of::<P::Model>();
            let config = decode(request.config.as_ref(), &block)?;
            let rules = |config: &_| load(config).map_or_else(|problems| problems, |m| call.provider.validate(&m));
            let diagnostics = messages(problems_of(&block, &config, rules));
            Ok(v6::validate_provider_config::Response { diagnostics })
        })
        .await
    }

    async fn configure_provider(
        &self,
        request: Request<v6::configure_provider::Request>,
    ) -> Result<Response<v6::configure_provider::Response>, Status> {
        self.run(request, |call, request| async move {
            tracing::debug!(terraform_version = request.terraform_version, "configuring");
            let config = decode(request.config.as_ref(), &Block::of::<P::Model>())?;
            let data = call.provider.configure(load(&config)?).await?;
            let diagnostics = messages(call.provider.notices(&data));
            call.configure(data);
            Ok(v6::configure_provider::Response { diagnostics })
        })
        .await
    }

    async fn stop_provider(
        &self,
        request: Request<v6::stop_provider::Request>,
    ) -> Result<Response<v6::stop_provider::Response>, Status> {
        tracing::info!("stopping on request");
        self.session_of(&request).configured().stop.cancel();
        Ok(Response::new(v6::stop_provider::Response::default()))
    }

    async fn validate_resource_config(
        &self,
        request: Request<v6::validate_resource_config::Request>,
    ) -> Result<Response<v6::validate_resource_config::Response>, Status> {
        self.run(request, |call, request| async move {
            let resource = call.resource(&request.type_name)?;
            let block = resource.block();
            let config = decode(request.config.as_ref(), &block)?;
            let mut found = problems_of(&block, &config, |config| resource.0.validate(config));
            if !request.client_capabilities.is_some_and(|host| host.write_only_attributes_allowed) {
                found.extend(check::too_old_for_write_only(&block, &config));
            }
            Ok(v6::validate_resource_config::Response { diagnostics: messages(found) })
        })
        .await
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<v6::validate_data_resource_config::Request>,
    ) -> Result<Response<v6::validate_data_resource_config::Response>, Status> {
        self.run(request, |call, request| async move {
            let source = call.data_source(&request.type_name)?;
            let block = source.block();
            let config = decode(request.config.as_ref(), &block)?;
            let diagnostics = messages(problems_of(&block, &config, |config| source.0.validate(config)));
            Ok(v6::validate_data_resource_config::Response { diagnostics })
        })
        .await
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<v6::upgrade_resource_state::Request>,
    ) -> Result<Response<v6::upgrade_resource_state::Response>, Status> {
        self.run(request, |call, request| async move {
            let resource = call.resource(&request.type_name)?;
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
        self.run(request, |call, request| async move {
            let resource = call.resource(&request.type_name)?;
            let block = resource.block();
            let state = decode(request.current_state.as_ref(), &block)?;
            let cx = call.cx(&request.private)?;
            let (found, problems) = match resource.0.read(&cx, &state).await {
                Ok(found) => (found.unwrap_or_default(), Diagnostics::new()),
                Err(problems) => (state, problems),
            };
            Ok(v6::read_resource::Response {
                new_state: Some(encode(&found, &block)?),
                private: cx.private().write(),
                diagnostics: messages(cx.and_warnings(problems)),
                ..Default::default()
            })
        })
        .await
    }

    async fn plan_resource_change(
        &self,
        request: Request<v6::plan_resource_change::Request>,
    ) -> Result<Response<v6::plan_resource_change::Response>, Status> {
        self.run(request, |call, request| async move {
            let resource = call.resource(&request.type_name)?;
            let block = resource.block();
            let prior = decode(request.prior_state.as_ref(), &block)?;
            let private = Private::read(&request.prior_private);
            let Planned { value, replace, warnings, private } =
                if decode(request.proposed_new_state.as_ref(), &block)?.is_null() {
                    resource.0.plan_destroy(&prior, &private)?
                } else {
                    let config = decode(request.config.as_ref(), &block)?;
                    let prior = Some(&prior).filter(|prior| !prior.is_null());
                    resource.0.plan(plan::Request { block: &block, prior, config: &config, private: &private })?
                };
            Ok(v6::plan_resource_change::Response {
                planned_state: Some(encode(&value, &block)?),
                requires_replace: replace.iter().map(path_message).collect(),
                planned_private: private.write(),
                diagnostics: messages(warnings),
                ..Default::default()
            })
        })
        .await
    }

    async fn apply_resource_change(
        &self,
        request: Request<v6::apply_resource_change::Request>,
    ) -> Result<Response<v6::apply_resource_change::Response>, Status> {
        self.run(request, |call, request| async move {
            let resource = call.resource(&request.type_name)?;
            let block = resource.block();
            let prior = decode(request.prior_state.as_ref(), &block)?;
            let planned = decode(request.planned_state.as_ref(), &block)?;
            let config = decode(request.config.as_ref(), &block)?;
            let cx = call.cx(&request.planned_private)?;
            let Outcome { state, diagnostics } = match (prior.is_null(), planned.is_null()) {
                (_, true) => resource.0.delete(&cx, &prior).await,
                (true, false) => resource.0.create(&cx, &planned, &config).await,
                (false, false) => resource.0.update(&cx, &prior, [&planned, &config]).await,
            };
            Ok(v6::apply_resource_change::Response {
                new_state: Some(encode(&state.unwrap_or_default(), &block)?),
                private: cx.private().write(),
                diagnostics: messages(cx.and_warnings(diagnostics)),
                ..Default::default()
            })
        })
        .await
    }

    async fn import_resource_state(
        &self,
        request: Request<v6::import_resource_state::Request>,
    ) -> Result<Response<v6::import_resource_state::Response>, Status> {
        self.run(request, |call, request| async move {
            let resource = call.resource(&request.type_name)?;
            let cx = call.cx(&[])?;
            let state = resource.0.import(&cx, &request.id).await.map_err(|problems| cx.and_warnings(problems))?;
            let imported = v6::import_resource_state::ImportedResource {
                state: Some(encode(&state, &resource.block())?),
                type_name: request.type_name,
                private: cx.private().write(),
                identity: None,
            };
            Ok(v6::import_resource_state::Response {
                imported_resources: vec![imported],
                diagnostics: messages(cx.and_warnings(Diagnostics::new())),
                deferred: None,
            })
        })
        .await
    }

    async fn generate_resource_config(
        &self,
        request: Request<v6::generate_resource_config::Request>,
    ) -> Result<Response<v6::generate_resource_config::Response>, Status> {
        self.run(request, |call, request| async move {
            let block = call.resource(&request.type_name)?.block();
            let config = generate::configuration(&block, &decode(request.state.as_ref(), &block)?);
            Ok(v6::generate_resource_config::Response {
                config: Some(encode(&config, &block)?),
                diagnostics: Vec::new(),
            })
        })
        .await
    }

    async fn read_data_source(
        &self,
        request: Request<v6::read_data_source::Request>,
    ) -> Result<Response<v6::read_data_source::Response>, Status> {
        self.run(request, |call, request| async move {
            let source = call.data_source(&request.type_name)?;
            let block = source.block();
            let config = decode(request.config.as_ref(), &block)?;
            let cx = call.cx(&[])?;
            let found = source.0.read(&cx, &config).await.map_err(|problems| cx.and_warnings(problems))?;
            Ok(v6::read_data_source::Response {
                state: Some(encode(&found, &block)?),
                diagnostics: messages(cx.and_warnings(Diagnostics::new())),
                deferred: None,
            })
        })
        .await
    }

    async fn validate_ephemeral_resource_config(
        &self,
        request: Request<v6::validate_ephemeral_resource_config::Request>,
    ) -> Result<Response<v6::validate_ephemeral_resource_config::Response>, Status> {
        self.run(request, |call, request| async move {
            let ephemeral = call.ephemeral_resource(&request.type_name)?;
            let block = ephemeral.block();
            let config = decode(request.config.as_ref(), &block)?;
            let diagnostics = messages(problems_of(&block, &config, |config| ephemeral.0.validate(config)));
            Ok(v6::validate_ephemeral_resource_config::Response { diagnostics })
        })
        .await
    }

    async fn open_ephemeral_resource(
        &self,
        request: Request<v6::open_ephemeral_resource::Request>,
    ) -> Result<Response<v6::open_ephemeral_resource::Response>, Status> {
        self.run(request, |call, request| async move {
            let ephemeral = call.ephemeral_resource(&request.type_name)?;
            let block = ephemeral.block();
            let config = decode(request.config.as_ref(), &block)?;
            let cx = call.cx(&[])?;
            let (value, renew_at) =
                ephemeral.0.open(&cx, &config).await.map_err(|problems| cx.and_warnings(problems))?;
            Ok(v6::open_ephemeral_resource::Response {
                result: Some(encode(&value, &block)?),
                renew_at: renew_at.map(Into::into),
                private: Some(cx.private().write()),
                diagnostics: messages(cx.and_warnings(Diagnostics::new())),
                deferred: None,
            })
        })
        .await
    }

    async fn renew_ephemeral_resource(
        &self,
        request: Request<v6::renew_ephemeral_resource::Request>,
    ) -> Result<Response<v6::renew_ephemeral_resource::Response>, Status> {
        self.run(request, |call, request| async move {
            let ephemeral = call.ephemeral_resource(&request.type_name)?;
            let cx = call.cx(&request.private.unwrap_or_default())?;
            let renew_at = ephemeral.0.renew(&cx).await.map_err(|problems| cx.and_warnings(problems))?;
            Ok(v6::renew_ephemeral_resource::Response {
                renew_at: renew_at.map(Into::into),
                private: Some(cx.private().write()),
                diagnostics: messages(cx.and_warnings(Diagnostics::new())),
            })
        })
        .await
    }

    async fn close_ephemeral_resource(
        &self,
        request: Request<v6::close_ephemeral_resource::Request>,
    ) -> Result<Response<v6::close_ephemeral_resource::Response>, Status> {
        self.run(request, |call, request| async move {
            let ephemeral = call.ephemeral_resource(&request.type_name)?;
            let cx = call.cx(&request.private.unwrap_or_default())?;
            let closed = ephemeral.0.close(&cx).await;
            let diagnostics = messages(cx.and_warnings(closed.err().unwrap_or_default()));
            Ok(v6::close_ephemeral_resource::Response { diagnostics })
        })
        .await
    }
}
