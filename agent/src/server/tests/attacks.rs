//! What a client, or somebody who only knocks, may take of the agent: counted, not timed.

use super::*;
use crate::limits;
use agent_proto::{LARGEST_LOOK, LARGEST_REQUEST};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use std::io::Write;
use std::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::advance;

/// A client that speaks HTTP/2 itself. Its connection is a task, which ends when the agent closes it.
async fn client(door: &Door, role: Role, connections: &mut JoinSet<()>) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(door.enter_as(role).await).await.unwrap();
    connections.spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

/// Begins a call and sends the beginning of its body.
async fn begin(client: &mut SendRequest<Bytes>, call: &str, body: &[u8]) -> (ResponseFuture, SendStream<Bytes>) {
    let path = format!("https://agent/groundwork.agent.v1.Agent/{call}");
    let request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    *client = client.clone().ready().await.unwrap();
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), false).unwrap();
    }
    (answer, stream)
}

/// How a call ended, and what was said to it.
async fn status(answer: ResponseFuture) -> (tonic::Code, String) {
    let (head, mut body) = answer.await.unwrap().into_parts();
    let read = |headers: &http::HeaderMap| tonic::Status::from_header_map(headers);
    let status = match read(&head.headers) {
        Some(status) => status,
        None => {
            drain(&mut body).await;
            read(&body.trailers().await.unwrap().unwrap()).unwrap()
        }
    };
    (status.code(), status.message().to_owned())
}

async fn drain(body: &mut RecvStream) {
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
}

/// The head of a message of this length.
fn head(length: usize) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    std::iter::once(0).chain(length).collect()
}

/// A whole and empty request.
async fn describes(client: &mut SendRequest<Bytes>) -> tonic::Code {
    let (answer, mut stream) = begin(client, "Describe", &head(0)).await;
    stream.send_data(Bytes::new(), true).unwrap();
    status(answer).await.0
}

#[tokio::test]
async fn a_connection_has_so_many_calls() {
    let (door, mut connections) = (Door::enrolled().await, JoinSet::new());
    let mut client = client(&door, Role::Observer, &mut connections).await;
    assert_eq!(describes(&mut client).await, tonic::Code::Ok);
    assert_eq!(client.current_max_send_streams(), usize::try_from(STREAMS).unwrap());
}

#[tokio::test]
async fn observers_take_no_seat_of_an_operator() {
    let (door, mut theirs, mut ours) = (Door::enrolled().await, JoinSet::new(), JoinSet::new());
    let seats = limits::connections(Role::Observer);
    let mut clients = Vec::new();
    for _ in 0..3 * seats {
        clients.push(client(&door, Role::Observer, &mut theirs).await);
    }
    for _ in 0..2 * seats {
        theirs.join_next().await.unwrap().unwrap();
    }
    let mut operator = client(&door, Role::Operator, &mut ours).await;
    assert_eq!(describes(&mut operator).await, tonic::Code::Ok);
    assert_eq!(describes(clients.last_mut().unwrap()).await, tonic::Code::Ok);
    assert!(theirs.try_join_next().is_none() && theirs.len() == seats, "{} are left", theirs.len());
}

#[tokio::test]
async fn a_connection_in_use_is_not_taken_away() {
    let (door, mut connections) = (Door::enrolled().await, JoinSet::new());
    let mut first = client(&door, Role::Observer, &mut connections).await;
    let (answer, mut stream) = begin(&mut first, "Describe", &head(0)).await;
    let mut others = Vec::new();
    for _ in 0..limits::connections(Role::Observer) {
        others.push(client(&door, Role::Observer, &mut connections).await);
    }
    connections.join_next().await.unwrap().unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(status(answer).await.0, tonic::Code::Ok);
}

#[tokio::test]
async fn a_client_that_stops_after_the_handshake_is_sent_away() {
    let door = Door::enrolled().await;
    let (mut client, began) = (door.enter_as(Role::Observer).await, Instant::now());
    pause();
    // The agent's settings, and no more.
    drop(client.read_to_end(&mut Vec::new()).await);
    assert!(began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
}

/// RFC 9113 (3.4) lets either side begin.
#[tokio::test]
async fn a_client_may_wait_for_the_agents_first_words() {
    let door = Door::enrolled().await;
    let mut client = door.enter_as(Role::Observer).await;
    assert_ne!(client.read(&mut [0; 64]).await.unwrap(), 0, "the agent's settings");
}

#[tokio::test]
async fn a_request_that_does_not_come_is_given_up() {
    let (door, mut connections) = (Door::enrolled().await, JoinSet::new());
    let mut client = client(&door, Role::Observer, &mut connections).await;
    let mut answers = Vec::new();
    for body in [&[][..], &[0, 0], &head(1_000)] {
        answers.push(begin(&mut client, "Plan", body).await);
    }
    assert_eq!(describes(&mut client).await, tonic::Code::Ok, "what was sent before has arrived");
    pause();
    advance(Duration::from_secs(21)).await;
    for (answer, _stream) in answers {
        assert_eq!(status(answer).await.0, tonic::Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_before_it_comes() {
    let (door, mut connections) = (Door::enrolled().await, JoinSet::new());
    for (role, largest) in [(Role::Observer, LARGEST_LOOK), (Role::Operator, LARGEST_REQUEST)] {
        let mut client = client(&door, role, &mut connections).await;
        let (answer, _stream) = begin(&mut client, "Plan", &head(largest + 1)).await;
        let (code, message) = status(answer).await;
        assert_eq!(code, tonic::Code::OutOfRange);
        assert!(message.contains(&format!("may send {} KiB at most", largest >> 10)), "{message}");
    }
    let mut client = client(&door, Role::Observer, &mut connections).await;
    let (answer, _stream) = begin(&mut client, "Describe", &[head(0), head(0)].concat()).await;
    assert_eq!(status(answer).await, (tonic::Code::InvalidArgument, "a request is one message".to_owned()));
}

#[tokio::test]
async fn observers_leave_room_for_an_operators_request() {
    let (door, mut connections) = (Door::enrolled().await, JoinSet::new());
    // Three that stall: there is room for two.
    let mut stalled = JoinSet::new();
    for _ in 0..3 {
        let mut client = client(&door, Role::Observer, &mut connections).await;
        let (answer, stream) = begin(&mut client, "Plan", &head(LARGEST_LOOK)).await;
        stalled.spawn(async move { (status(answer).await.0, client, stream) });
    }
    let (code, mut third, _) = stalled.join_next().await.unwrap().unwrap();
    assert_eq!(code, tonic::Code::ResourceExhausted);
    let mut operator = client(&door, Role::Operator, &mut connections).await;
    assert_eq!(describes(&mut operator).await, tonic::Code::Ok);
    // Room comes back with those who go.
    stalled.shutdown().await;
    loop {
        let body = [head(LARGEST_LOOK), vec![0; LARGEST_LOOK]].concat();
        let (answer, mut stream) = begin(&mut third, "Plan", &body).await;
        drop(stream.send_data(Bytes::new(), true));
        if status(answer).await.0 != tonic::Code::ResourceExhausted {
            break;
        }
    }
}

#[tokio::test]
async fn only_a_call_that_is_a_stream_may_send_several_messages() {
    let (door, mut connections) = (Door::enrolled().await, JoinSet::new());
    let mut client = client(&door, Role::Admin, &mut connections).await;
    // The stream is judged by what it says, and not by how many messages say it.
    for (call, why) in [("Update", "a part of an update is empty"), ("Reboot", "a request is one message")] {
        let (answer, _stream) = begin(&mut client, call, &[head(0), head(0)].concat()).await;
        assert_eq!(status(answer).await, (tonic::Code::InvalidArgument, why.to_owned()));
    }
}

/// What is logged, by this thread.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<u8>>>);

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Journal {
    /// Lines are kept until the answer is dropped.
    fn begin(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        // With a single dispatcher, whoever meets a line first asks the one of its own thread whether to write it. Other tests have none.
        let second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let journal = self.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        (tracing::subscriber::set_default(lines.with_writer(move || journal.clone()).finish()), second)
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

#[tokio::test]
async fn a_stranger_writes_one_short_line_a_minute() {
    let (door, journal, strangers) = (Door::enrolled().await, Journal::default(), authority());
    let _logs = journal.begin();
    let knock = async || {
        let mut params = CertificateParams::default();
        params.extended_key_usages =
            (0..4_000).map(|arc| ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 99_999, arc])).collect();
        // TLS 1.3 clients learn of a refusal when they read.
        let mut stream = door.present(params, &strangers).await.unwrap();
        stream.read(&mut [0]).await.unwrap_err();
    };
    for _ in 0..5 {
        knock().await;
    }
    let why = "the certificate was not issued by the expected CA";
    let line = |times| format!(" WARN clients' certificates were refused why={why:?} times={times}\n");
    assert_eq!(journal.take(), line(1));
    pause();
    advance(Duration::from_secs(61)).await;
    resume();
    knock().await;
    assert_eq!(journal.take(), line(5));
}

#[tokio::test]
async fn a_client_that_may_not_writes_no_words_of_its_own() {
    let (door, journal, mut connections) = (Door::enrolled().await, Journal::default(), JoinSet::new());
    let _logs = journal.begin();
    let mut client = client(&door, Role::Observer, &mut connections).await;
    for call in ["x".repeat(4_000), "Apply".to_owned()] {
        let (answer, _stream) = begin(&mut client, &call, &[]).await;
        assert_eq!(status(answer).await.0, tonic::Code::PermissionDenied);
    }
    assert_eq!(journal.take(), " WARN denied role=\"observer\" call=\"an unknown call\" times=1\n");
}
