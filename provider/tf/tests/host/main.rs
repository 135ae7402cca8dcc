//! What a host sees of a provider: the handshake, who is let in, large messages, and the end.

mod ephemeral;
mod host;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::{Identity, Provider};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tfplugin::health::{HealthCheckRequest, health_client::HealthClient};
use tfplugin::plugin::{
    Empty, grpc_broker_client::GrpcBrokerClient, grpc_controller_client::GrpcControllerClient,
    grpc_stdio_client::GrpcStdioClient,
};
use tfplugin::v6::provider_client::ProviderClient;
use tfplugin::v6::{
    DynamicValue, generate_resource_config, get_metadata, get_provider_schema, move_resource_state,
    validate_resource_config,
};
use tonic::Code;

fn memory() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_terraform-provider-memory"))
}

fn start(identity: &Identity) -> Provider {
    Provider::start(memory(), Some(identity), &HashMap::new())
}

#[tokio::test]
async fn the_host_is_let_in_and_nobody_else() {
    let (host, other) = (Identity::new(), Identity::new());
    let provider = start(&host);
    let reached = &provider;
    let schema = |identity| async move {
        let channel = reached.connect(identity).await.map_err(|error| error.to_string())?;
        let answer = ProviderClient::new(channel).get_provider_schema(get_provider_schema::Request {}).await;
        answer.map(|answer| answer.into_inner()).map_err(|error| error.to_string())
    };
    assert!(schema(Some(&host)).await.unwrap().resource_schemas.contains_key("memory_thing"));
    assert!(schema(Some(&other)).await.is_err(), "another certificate");
    assert!(schema(None).await.is_err(), "no certificate");
    assert!(schema(Some(&host)).await.is_ok(), "still serving");
}

#[tokio::test]
async fn the_socket_is_private_and_gone_at_the_end() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Identity::new();
    let mut provider = start(&host);
    assert_eq!(
        (&*provider.line[0], &*provider.line[1], &*provider.line[2], &*provider.line[4]),
        ("1", "6", "unix", "grpc")
    );
    let socket = Path::new(&provider.line[3]).to_owned();
    let folder = socket.parent().unwrap();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let channel = provider.connect(Some(&host)).await.unwrap();
    let mut stdio = GrpcStdioClient::new(channel.clone()).stream_stdio(()).await.unwrap().into_inner();
    let silence = futures_util::stream::pending();
    let mut broker = GrpcBrokerClient::new(channel.clone()).start_stream(silence).await.unwrap().into_inner();
    let start = Instant::now();
    GrpcControllerClient::new(channel).shutdown(Empty {}).await.unwrap();
    assert!(stdio.message().await.unwrap().is_none() && broker.message().await.unwrap().is_none());
    assert!(provider.process.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(!folder.exists());
}

#[tokio::test]
async fn without_a_client_certificate_connections_are_plain() {
    let provider = Provider::start(memory(), None, &HashMap::from([("PLUGIN_MULTIPLEX_GRPC", "true".to_owned())]));
    assert_eq!(provider.line[5..], ["", "false"]);
    let channel = provider.connect(None).await.unwrap();
    let names = ProviderClient::new(channel.clone()).get_metadata(get_metadata::Request {}).await.unwrap().into_inner();
    assert_eq!(names.resources[0].type_name, "memory_thing");
    let health = HealthCheckRequest { service: "plugin".to_owned() };
    assert_eq!(HealthClient::new(channel).check(health).await.unwrap().into_inner().status, 1);
}

#[tokio::test]
async fn configuration_for_an_imported_object_is_free_of_placeholders() {
    let host = Identity::new();
    let provider = start(&host);
    let mut client = ProviderClient::new(provider.connect(Some(&host)).await.unwrap());
    let schema = client.get_provider_schema(get_provider_schema::Request {}).await.unwrap().into_inner();
    assert!(schema.server_capabilities.unwrap().generate_resource_config);
    let json = br#"{"id": "id-old", "name": "old", "image": "(imported)"}"#.to_vec();
    let state = Some(DynamicValue { json, msgpack: vec![] });
    let request = generate_resource_config::Request { type_name: "memory_thing".into(), state };
    let answer = client.generate_resource_config(request).await.unwrap().into_inner();
    let config = String::from_utf8_lossy(&answer.config.unwrap().msgpack).into_owned();
    assert!(answer.diagnostics.is_empty(), "{:?}", answer.diagnostics);
    assert!(config.contains("old") && !config.contains("id-old") && !config.contains("(imported)"), "{config:?}");
}

#[tokio::test]
async fn large_messages_pass_and_unknown_calls_are_declined() {
    let host = Identity::new();
    let provider = start(&host);
    let mut client = ProviderClient::new(provider.connect(Some(&host)).await.unwrap());
    let config = Some(DynamicValue { msgpack: vec![0xc1; 20 << 20], json: vec![] });
    let request = validate_resource_config::Request { type_name: "memory_thing".into(), config, ..Default::default() };
    let answer = client.validate_resource_config(request).await.unwrap().into_inner();
    assert!(answer.diagnostics[0].detail.contains("does not fit the schema"), "{:?}", answer.diagnostics);
    let moved = client.move_resource_state(move_resource_state::Request::default()).await.unwrap_err();
    assert_eq!(moved.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_socket_can_be_elsewhere_and_falls_back_to_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    let group = nix::unistd::getgid().to_string();
    let more = HashMap::from([("PLUGIN_UNIX_SOCKET_DIR", path.clone()), ("PLUGIN_UNIX_SOCKET_GROUP", group)]);
    let provider = Provider::start(memory(), None, &more);
    assert!(provider.line[3].starts_with(&path), "{:?}", provider.line);
    assert!(provider.connect(None).await.is_ok());
    let long = format!("/tmp/{}", "long".repeat(30));
    let provider = Provider::start(memory(), None, &HashMap::from([("PLUGIN_UNIX_SOCKET_DIR", long)]));
    assert_eq!(provider.line[2], "tcp");
    assert!(provider.line[3].starts_with("127.0.0.1:"));
}

#[test]
fn ctrl_c_is_ignored_and_a_dead_host_noticed() {
    let mut provider = start(&Identity::new());
    let pid = Pid::from_raw(provider.process.id().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(provider.process.try_wait().unwrap().is_none());
    drop(provider.stdout.take());
    assert!(provider.process.wait().unwrap().success());
}

#[test]
fn a_person_who_starts_it_is_told_what_it_is() {
    #[expect(clippy::disallowed_methods, reason = "a test starts what it tests")]
    let output = Command::new(memory()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("This is the provider memory (registry.terraform.io/test/memory)."), "{text}");
}
