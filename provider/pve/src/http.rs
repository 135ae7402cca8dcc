//! One request and its answer: encoding, headers, the envelope. No decisions about repeating.
//!
//! Of an answer no more is read than a Proxmox VE that is well would send: whoever answers may be anybody.
//!
//! Source: libpve-http-server-perl 6.0: form bodies, `{"data": …}`, the error text in `message` or the reason phrase.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls::{CertificateError, OtherError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Refused, causes};
use crate::ids::NodeName;
use crate::params::{Params, encode};
use crate::unsent::{NodeAway, OtherFingerprint};
use crate::upload::{self, Upload};

/// A request to make.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Below `/api2/json`, encoded.
    pub(crate) path: String,
    /// The node it is about, whose limit it counts against.
    pub(crate) node: Option<NodeName>,
    pub(crate) params: Params,
    /// A file to send in place of parameters.
    upload: Option<Upload>,
}

impl Call {
    pub(crate) fn new<S: AsRef<str>>(method: Method, segments: &[S]) -> Self {
        let encoded = segments.iter().map(|segment| encode(segment.as_ref()));
        let path = encoded.fold(String::new(), |path, segment| format!("{path}/{segment}"));
        let node = match segments {
            [first, node, ..] if first.as_ref() == "nodes" => node.as_ref().parse().ok(),
            _ => None,
        };
        Self { method, path, node, params: Params::new(), upload: None }
    }

    pub(crate) fn get<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::GET, segments)
    }

    pub(crate) fn post<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::POST, segments)
    }

    pub(crate) fn put<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::PUT, segments)
    }

    pub(crate) fn delete<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    pub(crate) fn params(mut self, params: Params) -> Self {
        self.params = params;
        self
    }

    pub(crate) fn upload(mut self, upload: Upload) -> Self {
        self.upload = Some(upload);
        self
    }

    /// Reads change nothing and may be repeated.
    pub(crate) fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// Whether it may be given up at any time: of an upload that is cut off, the server throws away what it has.
    pub(crate) fn may_be_cut_off(&self) -> bool {
        self.is_read() || self.upload.is_some()
    }

    /// Method and path for people.
    pub(crate) fn name(&self) -> String {
        let path = percent_encoding::percent_decode_str(&self.path).decode_utf8_lossy();
        format!("{} {path}", self.method)
    }

    /// The URL; parameters of calls without a body are part of it.
    pub(crate) fn url(&self, endpoint: &str) -> String {
        let query = if self.has_body() || self.params.is_empty() { String::new() } else { self.params.encoded() };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{endpoint}/api2/json{}{mark}{query}", self.path)
    }

    pub(crate) fn has_body(&self) -> bool {
        self.method == Method::POST || self.method == Method::PUT
    }

    /// Makes the call at one endpoint.
    pub(crate) async fn exchange(
        &self,
        http: &reqwest::Client,
        endpoint: &str,
        headers: HeaderMap,
    ) -> Result<Value, Error> {
        let request = http.request(self.method.clone(), self.url(endpoint)).headers(headers);
        let to = To { call: &self.name(), node: self.node.as_ref(), endpoint };
        let Some(upload) = &self.upload else {
            return answer(self.filled(request).timeout(PATIENCE), to).await;
        };
        let (form, sent) = upload.form().await?;
        match answer(request.multipart(form).timeout(upload::PATIENCE), to).await {
            // The server begins nothing before it has the whole file.
            Err(Error::Lost { call, endpoint, source }) if !sent.all() => {
                Err(Error::Connect { call, endpoint, source: Box::new(sent.cut_off(source)) })
            }
            answer => answer,
        }
    }

    fn filled(&self, request: RequestBuilder) -> RequestBuilder {
        if !self.has_body() {
            return request;
        }
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(self.params.encoded())
    }
}

/// What is sent where.
#[derive(Clone, Copy)]
struct To<'a> {
    call: &'a str,
    node: Option<&'a NodeName>,
    endpoint: &'a str,
}

/// Sends a request and takes its answer apart.
async fn answer(request: RequestBuilder, to: To<'_>) -> Result<Value, Error> {
    let response = request.send().await.map_err(|error| transport(error, to))?;
    let status = response.status();
    let reason = reason(&response);
    tracing::debug!(http_status = status.as_u16(), "answered");
    if status == StatusCode::OK {
        let body = body(response, DATA).await.map_err(|error| transport(error, to))?;
        return body.map_or_else(|| Err(too_long(to.call)), |body| read(to.call, &body));
    }
    // An error whose text is too long is told by its reason phrase.
    let body = body(response, TROUBLE).await.map_err(|error| transport(error, to))?;
    Err(refusal(to, (status.as_u16(), reason), &body.unwrap_or_default()))
}

/// The body, or nothing if it is longer than `most`: then the rest is not read, and the connection goes.
async fn body(mut response: Response, most: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn too_long(call: &str) -> Error {
    let source = serde::de::Error::custom(format_args!("it is longer than {} MiB", DATA >> 20));
    Error::Unreadable { call: call.to_owned(), source }
}

/// The typed value of an answer.
pub(crate) fn typed<T: DeserializeOwned>(call: &str, data: Value) -> Result<T, Error> {
    serde_json::from_value(data).map_err(|source| Error::Unreadable { call: call.to_owned(), source })
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    data: Value,
}

#[derive(Default, Deserialize)]
struct Trouble {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    errors: Option<BTreeMap<String, Value>>,
}

fn read(call: &str, body: &[u8]) -> Result<Value, Error> {
    let envelope: Result<Envelope, _> = serde_json::from_slice(body);
    envelope.map(|envelope| envelope.data).map_err(|source| Error::Unreadable { call: call.to_owned(), source })
}

fn refusal(to: To<'_>, (status, reason): (u16, String), body: &[u8]) -> Error {
    let trouble: Trouble = serde_json::from_slice(body).unwrap_or_default();
    let message = trouble.message.map_or(reason, |message| message.trim_end().to_owned());
    let (call, endpoint) = (to.call.to_owned(), to.endpoint.to_owned());
    // 595: the node was not reached by the one we talk to. 596 to 599: it was, and then something broke; 502 and 504 are the
    // words of a gateway in front for the same.
    match (status, to.node) {
        (595, Some(node)) => {
            let source = Box::new(NodeAway { node: node.clone(), said: message });
            return Error::Connect { call, endpoint, source };
        }
        (595, None) => return Error::Connect { call, endpoint, source: message.into() },
        (502 | 504 | 596..=599, _) => return Error::Lost { call, endpoint, source: message.into() },
        _ => {}
    }
    let errors = trouble.errors.unwrap_or_default().into_iter().map(|(parameter, problem)| {
        let problem = problem.as_str().map_or_else(|| problem.to_string(), str::to_owned);
        (parameter, problem.trim_end().to_owned())
    });
    Error::Refused(Box::new(Refused { call, endpoint, status, message, errors: errors.collect() }))
}

/// The reason phrase, which older servers put the error's text into.
fn reason(response: &Response) -> String {
    let own = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let text = own.map(|reason| String::from_utf8_lossy(reason.as_bytes()).trim().to_owned());
    text.unwrap_or_else(|| response.status().canonical_reason().unwrap_or_default().to_owned())
}

fn transport(error: reqwest::Error, to: To<'_>) -> Error {
    let (call, endpoint) = (to.call.to_owned(), to.endpoint.to_owned());
    let never_sent = error.is_connect() || error.is_builder();
    // The TLS library shows its own form of it, and as text for programmers.
    let source: Box<dyn StdError + Send + Sync> = match other_fingerprint(&error) {
        Some(other) => Box::new(other),
        None => Box::new(error.without_url()),
    };
    if never_sent { Error::Connect { call, endpoint, source } } else { Error::Lost { call, endpoint, source } }
}

fn other_fingerprint(error: &reqwest::Error) -> Option<OtherFingerprint> {
    let certificate = causes(error).find_map(|cause| match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => Some(why),
        _ => None,
    });
    certificate?.downcast_ref().copied()
}

/// Ten times what the list of a cluster's 10,000 guests takes.
const DATA: usize = 64 << 20;
/// What the server says about a mistake is a few lines.
const TROUBLE: usize = 64 << 10;
/// Longer than both of the server's own inactivity limits of 30 s.
const PATIENCE: Duration = Duration::from_secs(75);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_answer_is_answered() {
        let good: &[u8] = br#"{"data": [{"vmid": 100, "name": "a"}]}"#;
        total::bytes("envelope", &[good, b"{\"data\":null}"], |body| read("GET /x", body).ok());
        let wrong: &[u8] = br#"{"data":null,"message":"Parameter verification failed.\n","errors":{"scsi1":"still busy in guest?\n"}}"#;
        let node: NodeName = "pve1".parse().unwrap();
        total::bytes("refusal", &[wrong, b"{\"errors\":{\"a\":[1]}}"], |body| {
            [400_u16, 403, 500, 502, 595, 596].map(|status| {
                let to = To { call: "GET /x", node: (status == 595).then_some(&node), endpoint: "https://h:8006" };
                let error = refusal(to, (status, "no".to_owned()), body);
                (error.class(), error.to_string().len())
            })
        });
    }
}
