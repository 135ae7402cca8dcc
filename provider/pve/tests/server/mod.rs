//! An in-process HTTP server that answers with recorded answers of Proxmox VE 9.1.8, in the order or by the rule a test gives.
//!
//! `fixtures/pve-9.1.8.jsonl` holds one answer a line: name, method, path, status, reason phrase, body.

#![expect(clippy::unwrap_used, reason = "a test that cannot listen or read has failed")]
#![expect(clippy::disallowed_methods, reason = "a server ends with the runtime of its test")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A recorded answer.
    Recorded(&'static str),
    /// Status, reason phrase, body.
    Says(u16, &'static str, &'static str),
    /// Takes the request and closes the connection.
    HangsUp,
    /// Takes the request and never answers.
    Silent,
    /// Status of an answer that never ends.
    Endless(u16),
    /// Answers so when that many wait for it.
    Together(Arc<Barrier>, Box<Self>),
}

type Rule = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `POST /api2/json/nodes`
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers requests one after another; the last answer is repeated for ever.
    pub(crate) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers = answers.into_iter().collect::<VecDeque<_>>();
        Self::by(move |_| if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }).await
    }

    /// Answers every request as the rule says.
    pub(crate) async fn by(rule: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(rule)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&rule), Arc::clone(&requests)));
            }
        });
        Self { url, seen }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Methods and paths of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|request| request.line).collect()
    }
}

async fn serve(mut stream: TcpStream, rule: Arc<Mutex<Rule>>, seen: Arc<Mutex<Vec<Request>>>) {
    while let Some(request) = read(&mut stream).await {
        let mut answer = (rule.lock().unwrap())(&request);
        seen.lock().unwrap().push(request);
        while let Answer::Together(all, then) = answer {
            all.wait().await;
            answer = *then;
        }
        let (status, reason, body) = match answer {
            Answer::HangsUp => return,
            Answer::Silent => std::future::pending().await,
            Answer::Endless(status) => return endless(stream, status).await,
            Answer::Says(status, reason, body) => (status, reason.to_owned(), body.to_owned()),
            Answer::Recorded(name) => recorded(name),
            Answer::Together(..) => unreachable!("it was waited for"),
        };
        let close = if status >= 400 { "Connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: {}\r\n{close}\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        if status >= 400 {
            return;
        }
    }
}

/// A body of MiB after MiB, until the client has enough.
async fn endless(mut stream: TcpStream, status: u16) {
    let head = format!("HTTP/1.1 {status} It goes on\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [&b"100000\r\n"[..], &[b' '; 1 << 20], b"\r\n"].concat();
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        sent = stream.write_all(&chunk).await;
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = bytes[end..].to_vec();
    while body.len() < length.unwrap_or(0) {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&chunk[..count]),
        }
    }
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").replace("/api2/json", "");
    Some(Request { line, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Status, reason phrase and body of a recorded answer.
fn recorded(name: &str) -> (u16, String, String) {
    let all = include_str!("../fixtures/pve-9.1.8.jsonl");
    let rows = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let row = rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no recording {name}"));
    let body = if row["body"].is_null() { String::new() } else { row["body"].to_string() };
    (u16::try_from(row["status"].as_u64().unwrap()).unwrap(), row["reason"].as_str().unwrap().to_owned(), body)
}
