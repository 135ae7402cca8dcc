//! Who we are: an API token, or a user whose ticket is renewed before it expires.
//!
//! Source: `POST /access/ticket`, Proxmox VE 8 and 9. A ticket lives two hours; a still valid one is its own password.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::params::Params;

/// Credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// `user@realm!tokenid=uuid`
    Token(String),
    /// A user with a password, for what tokens may not do.
    Password {
        /// `user@realm`
        username: String,
        /// The password.
        password: String,
        /// The current one-time code, if the user has a second factor.
        otp: Option<String>,
    },
}

/// Names who it is, never how that is proven.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => write!(f, "Token({})", token.split('=').next().unwrap_or_default()),
            Self::Password { username, .. } => write!(f, "Password({username})"),
        }
    }
}

/// The headers that say who we are, made once and renewed when needed.
pub(crate) struct Session {
    auth: Auth,
    ticket: Mutex<Option<Ticket>>,
}

/// What a login gives.
#[derive(Clone)]
pub(crate) struct Ticket {
    username: String,
    ticket: String,
    csrf: String,
    since: Instant,
}

/// How to go on with a request.
pub(crate) enum Next {
    /// With these headers.
    Send(HeaderMap),
    /// After a login with these parameters.
    LogIn(Params),
}

/// The answer to a login.
#[derive(Deserialize)]
pub(crate) struct Login {
    username: String,
    ticket: String,
    #[serde(rename = "CSRFPreventionToken")]
    csrf: Option<String>,
    #[serde(default, rename = "NeedTFA", deserialize_with = "crate::quirks::flag")]
    need_tfa: bool,
}

impl Session {
    pub(crate) fn new(auth: Auth) -> Self {
        Self { auth, ticket: Mutex::new(None) }
    }

    /// Headers for a request now.
    pub(crate) async fn next(&self) -> Next {
        let Auth::Password { username, password, otp: _ } = &self.auth else {
            return Next::Send(self.token_headers());
        };
        match &*self.ticket.lock().await {
            Some(ticket) if ticket.since.elapsed() < RENEW => Next::Send(ticket.headers()),
            // Renewing with the ticket needs no second factor again.
            Some(ticket) if ticket.since.elapsed() < EXPIRY => Next::LogIn(login(username, &ticket.ticket)),
            _ => Next::LogIn(login(username, password)),
        }
    }

    /// Takes the answer to a login; the parameters of the second step if a second factor is asked for.
    pub(crate) async fn logged_in(&self, answer: Login) -> Option<Params> {
        if let (true, Auth::Password { otp: Some(otp), .. }) = (answer.need_tfa, &self.auth) {
            let params = login(&answer.username, &format!("totp:{otp}"));
            return Some(params.with("tfa-challenge", &answer.ticket));
        }
        let Login { username, ticket, csrf, need_tfa: _ } = answer;
        let ticket = Ticket { username, ticket, csrf: csrf.unwrap_or_default(), since: Instant::now() };
        tracing::debug!(user = ticket.username, "logged in");
        *self.ticket.lock().await = Some(ticket);
        None
    }

    /// Forgets a ticket that was not accepted; false if there is nothing to forget, so that a new login would not help.
    pub(crate) async fn forget(&self) -> bool {
        self.ticket.lock().await.take().is_some()
    }

    fn token_headers(&self) -> HeaderMap {
        match &self.auth {
            Auth::Token(token) => headers([(AUTHORIZATION, format!("PVEAPIToken={token}"))]),
            Auth::Password { .. } => HeaderMap::new(),
        }
    }
}

impl Ticket {
    fn headers(&self) -> HeaderMap {
        let cookie = format!("PVEAuthCookie={}", utf8_percent_encode(&self.ticket, UNSAFE_IN_COOKIES));
        headers([(COOKIE, cookie), (HeaderName::from_static("csrfpreventiontoken"), self.csrf.clone())])
    }
}

fn login(username: &str, password: &str) -> Params {
    Params::new().with("username", username).with("password", password)
}

fn headers<const N: usize>(pairs: [(HeaderName, String); N]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        // `Config` has checked that credentials are printable.
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// The server decodes the cookie; nothing else than this needs to be encoded.
const UNSAFE_IN_COOKIES: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';').add(b'\\');
const RENEW: Duration = Duration::from_secs(60 * 60);
const EXPIRY: Duration = Duration::from_secs(115 * 60);
