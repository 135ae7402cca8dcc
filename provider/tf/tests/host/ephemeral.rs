//! What is opened, renewed and closed, by a host that is strict: everything it is promised, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use tfplugin::v6::provider_client::ProviderClient;
use tfplugin::v6::{
    DynamicValue, close_ephemeral_resource as close, configure_provider, get_metadata, get_provider_schema,
    open_ephemeral_resource as open, renew_ephemeral_resource as renew, stop_provider,
    validate_ephemeral_resource_config as validate,
};
use tonic::transport::Channel;

use crate::host::{Identity, Provider};

const LEASE: &str = "memory_lease";

/// A configured provider, and its folder.
struct Scene {
    client: ProviderClient<Channel>,
    folder: tempfile::TempDir,
    _provider: Provider,
}

fn json(text: &str) -> Option<DynamicValue> {
    Some(DynamicValue { json: text.as_bytes().to_vec(), msgpack: Vec::new() })
}

fn config(name: &str, behave: &str) -> Option<DynamicValue> {
    json(&format!(r#"{{"name": "{name}", "length": 12, "code": null, "behave": {behave}}}"#))
}

impl Scene {
    async fn new() -> Self {
        let (identity, folder) = (Identity::new(), tempfile::tempdir().unwrap());
        let provider = Provider::start(crate::memory(), Some(&identity), &HashMap::new());
        let mut client = ProviderClient::new(provider.connect(Some(&identity)).await.unwrap());
        let config = json(&format!(r#"{{"dir": {:?}}}"#, folder.path()));
        let request = configure_provider::Request { config, ..Default::default() };
        let answer = client.configure_provider(request).await.unwrap().into_inner();
        assert!(answer.diagnostics.is_empty(), "{:?}", answer.diagnostics);
        Self { client, folder, _provider: provider }
    }

    async fn open(&mut self, config: Option<DynamicValue>) -> open::Response {
        let request = open::Request { type_name: LEASE.to_owned(), config, client_capabilities: None };
        self.client.open_ephemeral_resource(request).await.unwrap().into_inner()
    }

    async fn renew(&mut self, private: Option<Vec<u8>>) -> renew::Response {
        let request = renew::Request { type_name: LEASE.to_owned(), private };
        self.client.renew_ephemeral_resource(request).await.unwrap().into_inner()
    }

    async fn close(&mut self, private: Option<Vec<u8>>) -> close::Response {
        let request = close::Request { type_name: LEASE.to_owned(), private };
        self.client.close_ephemeral_resource(request).await.unwrap().into_inner()
    }

    fn story(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("leases")).unwrap_or_default()
    }
}

#[tokio::test]
async fn what_is_opened_repeats_its_configuration_and_fills_the_rest() {
    let mut scene = Scene::new().await;
    let names = scene.client.get_metadata(get_metadata::Request {}).await.unwrap().into_inner();
    assert_eq!(names.ephemeral_resources[0].type_name, LEASE);
    let schema = scene.client.get_provider_schema(get_provider_schema::Request {}).await.unwrap().into_inner();
    let block = schema.ephemeral_resource_schemas[LEASE].block.clone().unwrap();
    let code = block.attributes.iter().find(|attribute| attribute.name == "code").unwrap();
    assert!(code.sensitive && code.computed && !code.optional, "{code:?}");

    let opened = scene.open(config("mine", "null")).await;
    assert!(opened.diagnostics.is_empty() && opened.renew_at.is_none() && opened.deferred.is_none());
    let result = String::from_utf8_lossy(&opened.result.unwrap().msgpack).into_owned();
    // A small number is one byte behind its name.
    for part in ["length\u{c}", "mine", "code-mine-xx"] {
        assert!(result.contains(part), "{part:?} in {result:?}");
    }
    assert!(scene.close(opened.private).await.diagnostics.is_empty());
    assert_eq!(scene.story(), "open mine\nclose mine\n");
}

#[tokio::test]
async fn a_renewal_goes_on_with_what_the_last_one_left() {
    let mut scene = Scene::new().await;
    let opened = scene.open(config("mine", "\"renew\"")).await;
    assert!(opened.renew_at.is_some());
    let once = scene.renew(opened.private.clone()).await;
    let twice = scene.renew(once.private).await;
    assert!(twice.renew_at.is_some() && twice.diagnostics.is_empty());
    // A host may close with what the opening left.
    scene.close(opened.private).await;
    assert_eq!(scene.story(), "open mine\nrenew mine 1\nrenew mine 2\nclose mine\n");
}

#[tokio::test]
async fn a_stop_ends_an_opening_and_what_is_open_is_closed_all_the_same() {
    let mut scene = Scene::new().await;
    let opened = scene.open(config("mine", "null")).await;
    let mut other = scene.client.clone();
    let waiting = scene.open(config("late", "\"wait for the stop\""));
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        other.stop_provider(stop_provider::Request {}).await.unwrap()
    };
    let (waited, _) = tokio::join!(waiting, stop);
    assert!(waited.diagnostics[0].detail.contains("Stopped on request."), "{:?}", waited.diagnostics);
    assert!(waited.result.is_none());
    let closed = scene.close(opened.private).await;
    assert!(closed.diagnostics.is_empty(), "{:?}", closed.diagnostics);
    assert_eq!(scene.story(), "open mine\nclose mine\n");
}

#[tokio::test]
async fn what_a_host_must_not_do_is_answered_and_nothing_is_opened() {
    let mut scene = Scene::new().await;
    // An unknown name: msgpack's extension 0.
    let msgpack = b"\x84\xa6behave\xc0\xa4code\xc0\xa6length\xc0\xa4name\xd4\x00\x00".to_vec();
    let unknown = Some(DynamicValue { msgpack, json: Vec::new() });
    let request = validate::Request { type_name: LEASE.to_owned(), config: unknown.clone() };
    let valid = scene.client.validate_ephemeral_resource_config(request).await.unwrap().into_inner();
    assert!(valid.diagnostics.is_empty(), "asked again when it is known: {:?}", valid.diagnostics);
    let opened = scene.open(unknown).await;
    assert!(opened.diagnostics[0].detail.contains("Lease was opened with unknown values"), "{:?}", opened.diagnostics);
    let request = open::Request { type_name: "memory_key".to_owned(), ..Default::default() };
    let other = scene.client.open_ephemeral_resource(request).await.unwrap().into_inner();
    assert!(other.diagnostics[0].detail.contains("the ephemeral resource memory_key"), "{:?}", other.diagnostics);
    assert_eq!(scene.story(), "");
}
