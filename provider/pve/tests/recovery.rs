//! What the client does when tickets, endpoints and time run out: what it repeats, where, and how it tells the end.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pve::{Auth, Class, Client, Config, CreateVm, Error, NodeName, Params, Source, Trust, Upload, Vmid};
use server::{Answer, Request, Server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use Answer::{Endless, HangsUp, Recorded, Says, Silent, Together};

const NO_QUORUM: Answer =
    Says(500, "cluster not ready", r#"{"data":null,"message":"cluster not ready - no quorum?\n"}"#);
const UNREACHABLE: &str = "http://127.0.0.1:9";

fn client(endpoints: &[&str], auth: Auth) -> Client {
    let endpoints = endpoints.iter().map(|url| (*url).to_owned()).collect();
    Client::new(Config { endpoints, auth, trust: Trust::System, per_node: 0 }).unwrap()
}

fn token(endpoints: &[&str]) -> Client {
    client(endpoints, Auth::Token("root@pam!lab=0b5e".to_owned()))
}

fn user(server: &Server, otp: Option<&str>) -> Client {
    let otp = otp.map(str::to_owned);
    client(&[&server.url], Auth::Password { username: "root@pam".into(), password: "secret".into(), otp })
}

fn node() -> NodeName {
    "pve1".parse().unwrap()
}

async fn create(client: &Client) -> Result<(), Error> {
    let new = CreateVm { vmid: Vmid::new(150).unwrap(), config: Params::new(), pool: None };
    client.qemu(&node()).create(&new).begin().await.map(|_| ())
}

async fn upload(client: &Client, bytes: usize) -> Result<(), Error> {
    let source = Source::Bytes(vec![7; bytes]);
    let wanted = Upload { content: "iso", file_name: "seed.iso".into(), source, checksum: None };
    client.storages(&node()).upload("local", &wanted).await.map(|_| ())
}

/// The answer to the login of that number, and to nothing else.
fn login(number: usize) -> Answer {
    let bodies = [
        r#"{"data":{"username":"root@pam","ticket":"T1","CSRFPreventionToken":"c"}}"#,
        r#"{"data":{"username":"root@pam","ticket":"T2","CSRFPreventionToken":"c"}}"#,
        r#"{"data":{"username":"root@pam","ticket":"T3","CSRFPreventionToken":"c"}}"#,
    ];
    Says(200, "OK", bodies[number - 1])
}

fn is_login(request: &Request) -> bool {
    request.line == "POST /access/ticket"
}

fn carries(request: &Request, ticket: &str) -> bool {
    request.head.to_lowercase().contains(&format!("pveauthcookie={ticket}").to_lowercase())
}

fn logins(server: &Server) -> Vec<String> {
    server.seen().into_iter().filter(is_login).map(|request| request.body).collect()
}

/// Lets the clock of tickets go on, and no timer of a connection meanwhile.
async fn later(minutes: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(minutes * 60)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_refused_ticket_is_replaced_for_all_calls_that_carried_it() {
    let all = Arc::new(Barrier::new(8));
    let mut given = 0;
    let server = Server::by(move |request| {
        if is_login(request) {
            given += 1;
            return login(given);
        }
        let refused = Together(Arc::clone(&all), Box::new(Recorded("unauthorised")));
        if carries(request, "T2") { Recorded("version") } else { refused }
    })
    .await;
    let client = user(&server, None);
    let mut calls = JoinSet::new();
    for client in std::iter::repeat_n(client, 8) {
        calls.spawn(async move { client.version().await.map_err(|error| error.to_string()) });
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().release, "9.1");
    }
    assert_eq!(logins(&server).len(), 2);
}

#[tokio::test]
async fn a_late_refusal_of_the_old_ticket_does_not_cost_the_new_one() {
    let (sent, late) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let held = Together(Arc::clone(&sent), Box::new(Together(Arc::clone(&late), Box::new(Recorded("unauthorised")))));
    let mut given = 0;
    let server = Server::by(move |request| match request.line.as_str() {
        "POST /access/ticket" => {
            given += 1;
            login(given)
        }
        "GET /nodes" if carries(request, "T1") => held.clone(),
        "GET /nodes" => Recorded("nodes"),
        _ if carries(request, "T1") => Recorded("unauthorised"),
        _ => Recorded("version"),
    })
    .await;
    let client = user(&server, None);
    let renewed_meanwhile = async {
        sent.wait().await;
        client.version().await.unwrap();
        late.wait().await;
    };
    let (nodes, ()) = tokio::join!(async { client.nodes().list().await }, renewed_meanwhile);
    nodes.unwrap();
    assert_eq!(logins(&server).len(), 2);
}

#[tokio::test]
async fn a_ticket_that_cannot_renew_itself_is_replaced_with_the_password_at_once() {
    let mut given = 0;
    let server = Server::by(move |request| match is_login(request) {
        true if request.body.ends_with("password=secret") => {
            given += 1;
            login(given)
        }
        true => Recorded("unauthorised"),
        false => Recorded("version"),
    })
    .await;
    let client = user(&server, None);
    client.version().await.unwrap();
    later(61).await;
    client.version().await.unwrap();
    client.version().await.unwrap();
    let user = |password: &str| format!("username=root%40pam&password={password}");
    assert_eq!(logins(&server), [user("secret"), user("T1"), user("secret")]);
}

#[tokio::test]
async fn a_ticket_is_used_on_when_only_its_renewal_fails() {
    let server = Server::by(|request| match is_login(request) {
        true if request.body.ends_with("password=secret") => login(1),
        true => HangsUp,
        false => Recorded("version"),
    })
    .await;
    let client = user(&server, None);
    client.version().await.unwrap();
    later(61).await;
    client.version().await.unwrap();
    client.version().await.unwrap();
    assert_eq!(logins(&server).len(), 2, "and it is not tried again at once");
}

#[tokio::test]
async fn a_one_time_code_is_sent_once() {
    let server = Server::by(|request| match is_login(request) {
        true if request.body.contains("tfa-challenge=") => login(1),
        true if request.body.ends_with("password=secret") => {
            Says(200, "OK", r#"{"data":{"username":"root@pam","ticket":"challenge","NeedTFA":1}}"#)
        }
        true => Recorded("unauthorised"),
        false => Recorded("version"),
    })
    .await;
    let client = user(&server, Some("123456"));
    client.version().await.unwrap();
    later(61).await;
    assert!(matches!(client.version().await, Err(Error::OneTimeCode { .. })));
    assert_eq!(logins(&server).iter().filter(|body| body.contains("123456")).count(), 1);
    let without = user(&server, None).version().await;
    assert!(matches!(without, Err(Error::OneTimeCode { .. })), "{without:?}");
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let server = Server::new([Recorded("unauthorised")]).await;
    let client = user(&server, None);
    for _ in 0..3 {
        assert!(client.version().await.unwrap_err().is(Class::Credentials));
    }
    assert_eq!(server.lines(), ["POST /access/ticket"]);
}

#[tokio::test]
async fn a_lost_login_leaves_the_call_behind_it_unsent() {
    let server = Server::new([HangsUp, login(1), Recorded("create")]).await;
    create(&user(&server, None)).await.unwrap();
    assert_eq!(server.lines(), ["POST /access/ticket", "POST /access/ticket", "POST /nodes/pve1/qemu"]);

    for answer in [HangsUp, Says(200, "OK", "<html>")] {
        let server = Server::new([answer]).await;
        let error = create(&user(&server, None)).await.unwrap_err();
        assert!(error.never_sent() && !error.outcome_unknown(), "{error}");
        assert!(error.to_string().starts_with("POST /nodes/pve1/qemu did not reach"), "{error}");
    }
}

#[tokio::test]
async fn a_read_goes_on_to_the_next_endpoint_when_one_is_sick() {
    for sick in
        [NO_QUORUM, HangsUp, Says(595, "No route to host", ""), Says(596, "Broken pipe", ""), Says(599, "x", "")]
    {
        let (sick, well) = (Server::new([sick]).await, Server::new([Recorded("version")]).await);
        let client = token(&[&sick.url, &well.url]);
        client.version().await.unwrap();
        client.version().await.unwrap();
        assert_eq!((sick.lines().len(), well.lines().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_write_goes_on_only_if_it_was_certainly_not_done() {
    let well = Server::new([Recorded("create")]).await;
    for sick in [NO_QUORUM, Says(595, "No route to host", "")] {
        let sick = Server::new([sick]).await;
        create(&token(&[&sick.url, &well.url])).await.unwrap();
    }
    for sick in [HangsUp, Says(596, "Broken pipe", ""), Says(599, "x", ""), Says(504, "x", "")] {
        let (sick, well) = (Server::new([sick]).await, Server::new([Recorded("version")]).await);
        let client = token(&[&sick.url, &well.url]);
        assert!(create(&client).await.unwrap_err().outcome_unknown());
        assert!(well.lines().is_empty());
        client.version().await.unwrap();
        assert_eq!(sick.lines().len(), 1, "the next call begins elsewhere");
    }
}

#[tokio::test]
async fn what_an_endpoint_said_is_told_rather_than_that_another_was_not_reached() {
    let sick = Server::new([NO_QUORUM]).await;
    for endpoints in [[sick.url.as_str(), UNREACHABLE], [UNREACHABLE, &sick.url]] {
        let client = token(&endpoints).within(Instant::now() + Duration::from_millis(250), &CancellationToken::new());
        assert!(create(&client).await.unwrap_err().is(Class::NoQuorum));
    }
}

#[tokio::test]
async fn an_upload_goes_the_ways_of_other_writes() {
    let sick = Server::new([NO_QUORUM]).await;
    for first in [&sick.url, UNREACHABLE] {
        let well = Server::new([Recorded("upload")]).await;
        upload(&token(&[first, &well.url]), 5).await.unwrap();
    }
    let server = Server::new([login(1), Recorded("unauthorised"), login(2), Recorded("upload")]).await;
    upload(&user(&server, None), 5).await.unwrap();
    assert!(carries(&server.seen()[3], "T2"));
}

#[tokio::test]
async fn an_upload_that_may_have_come_in_whole_is_not_sent_again() {
    let server = Server::new([HangsUp, Recorded("upload")]).await;
    assert!(upload(&token(&[&server.url]), 5).await.unwrap_err().outcome_unknown());
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn an_upload_that_broke_off_halfway_is_sent_again() {
    let breaking = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", breaking.local_addr().unwrap());
    let well = Server::new([Recorded("upload")]).await;
    let client = token(&[&url, &well.url]);
    let breaks = async {
        let (mut stream, _) = breaking.accept().await.unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap();
    };
    let (sent, ()) = tokio::join!(upload(&client, 32 << 20), breaks);
    sent.unwrap();
    assert_eq!(well.lines().len(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_told_with_how_far_it_came() {
    let breaking = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", breaking.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = breaking.accept().await.unwrap();
            stream.read_exact(&mut [0; 1000]).await.unwrap();
        }
    });
    let error = upload(&token(&[&url]), 32 << 20).await.unwrap_err();
    assert!(error.never_sent(), "nothing of it is kept: {error}");
    let said = error.to_string();
    assert!(said.contains(" broke off after ") && said.ends_with(" of 33554432 bytes"), "{said}");
}

const NO_ROUTE: Answer = Says(595, "No route to host", "");

#[tokio::test]
async fn a_node_that_is_away_is_named_and_not_asked_for_by_everybody() {
    let is_away = |request: &Request| request.line.contains("/nodes/pve2/");
    let server =
        Server::by(move |request| if is_away(request) { NO_ROUTE } else { Says(200, "OK", r#"{"data":[]}"#) }).await;
    let client = token(&[&server.url]);
    let away: NodeName = "pve2".parse().unwrap();
    for _ in 0..5 {
        let error = client.storages(&away).list().await.unwrap_err();
        assert!(error.never_sent() && error.node() == Some(&away), "{error:?}");
        let said = chain(&error).join(": ");
        let wanted = format!("GET /nodes/pve2/storage reached {}, which does not reach node pve2", server.url);
        assert!(said.starts_with(&wanted) && said.ends_with("No route to host"), "{said}");
        // The others are none the worse for it.
        client.storages(&node()).list().await.unwrap();
    }
    let asked = server.seen().into_iter().filter(is_away).count();
    assert_eq!(asked, 2, "once more because it was told at once, and then shared");
}

#[tokio::test]
async fn a_read_that_fails_for_no_known_reason_is_made_again() {
    let odd = || Says(500, "got timeout", r#"{"data":null,"message":"got timeout\n"}"#);
    let server = Server::new([odd(), odd(), Recorded("version")]).await;
    token(&[&server.url]).version().await.unwrap();
    let server = Server::new([odd()]).await;
    token(&[&server.url]).version().await.unwrap_err();
    assert_eq!(server.lines().len(), 3, "not for ever");
    // What is known will not change, and a write may have been done.
    let server = Server::new([Says(500, "x", r#"{"message":"storage 'x' does not exist\n"}"#)]).await;
    token(&[&server.url]).version().await.unwrap_err();
    let writes = Server::new([odd()]).await;
    create(&token(&[&writes.url])).await.unwrap_err();
    assert_eq!((server.lines().len(), writes.lines().len()), (1, 1));
}

#[tokio::test]
async fn nobody_waits_past_the_deadline_for_what_others_wait_for() {
    let server = Server::new([Silent]).await;
    let auth = Auth::Token("root@pam!lab=0b5e".to_owned());
    let config = Config { endpoints: vec![server.url.clone()], auth, trust: Trust::System, per_node: 1 };
    let client = Client::new(config).unwrap();
    let late = client.within(Instant::now() + Duration::from_millis(100), &CancellationToken::new());
    let guests = async |client: &Client| client.cluster().guests().await;
    let forever = async { tokio::join!(guests(&client), create(&client)) };
    let ends = async { tokio::join!(guests(&late), create(&late)) };
    tokio::select! {
        biased;
        _ = forever => panic!("it is never answered"),
        (guests, created) = ends => {
            assert!(matches!(guests, Err(Error::Deadline { .. })), "{guests:?}");
            assert!(matches!(created, Err(Error::Deadline { .. })), "{created:?}");
        }
    }
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let server = Server::new([Endless(200)]).await;
    let error = token(&[&server.url]).version().await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    assert!(format!("{error:?}").contains("longer than 64 MiB"), "{error:?}");
    // The answer to an upload, too.
    let server = Server::new([Endless(200)]).await;
    assert!(upload(&token(&[&server.url]), 10).await.unwrap_err().outcome_unknown());
}

#[tokio::test]
async fn the_end_of_a_long_log_is_read_page_by_page() {
    let server = Server::by(|request| {
        if request.line.contains("/status") {
            return Says(200, "OK", r#"{"data":{"status":"stopped","exitstatus":"clone failed"}}"#);
        }
        let start: usize = request.line.split("start=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
        assert!(request.line.ends_with("limit=500"), "{}", request.line);
        let lines: Vec<_> = (start..(start + 500).min(1_203))
            .map(|n| serde_json::json!({ "n": n, "t": format!("line {n}") }))
            .collect();
        Says(200, "OK", serde_json::json!({ "data": lines }).to_string().leak())
    });
    let server = server.await;
    let upid = "UPID:pve1:00006F6A:000B67B5:6B082CCA:qmclone:1900:root@pam!lab:".parse().unwrap();
    let Error::Task(failed) = token(&[&server.url]).wait(&upid).await.unwrap_err() else { panic!("a failed task") };
    assert_eq!((failed.log.len(), failed.log[0].as_str(), failed.log[11].as_str()), (12, "line 1191", "line 1202"));
    assert_eq!(server.lines().iter().filter(|line| line.contains("/log")).count(), 3);
}

#[tokio::test]
async fn a_call_without_a_worker_is_made_again() {
    let worker = Says(
        500,
        "got no worker upid - start worker failed",
        r#"{"data":null,"message":"got no worker upid - start worker failed\n"}"#,
    );
    let server = Server::new([worker.clone(), worker, Recorded("create")]).await;
    create(&token(&[&server.url])).await.unwrap();
    assert_eq!(server.lines(), vec!["POST /nodes/pve1/qemu"; 3]);
}

#[tokio::test]
async fn one_failure_to_reach_anybody_is_shared() {
    // Somebody who hangs up before any TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("https://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let client = token(&[&nobody]);
    let first = client.version().await.unwrap_err();
    let before = connections.load(Ordering::SeqCst);
    for _ in 0..20 {
        let error = client.version().await.unwrap_err();
        assert!(error.never_sent());
        assert_eq!(chain(&error), chain(&first), "the cause is told too");
    }
    assert_eq!(connections.load(Ordering::SeqCst), before, "nobody asked again");
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}
