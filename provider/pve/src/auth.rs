//! Who we are: an API token, or a user whose ticket is renewed before it expires.
//!
//! Source: `POST /access/ticket`, Proxmox VE 8 and 9. A ticket lives two hours; a still valid one is its own password. A one-time
//! code is good for one login, and realms lock accounts after some wrong passwords: neither is sent twice.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Error, Refused};
use crate::http::{Call, typed};
use crate::params::Params;
use crate::wording::Class;

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

/// Gives requests their credentials, and logs in for them when that is needed.
pub(crate) enum Session {
    Token(String),
    User(User),
}

pub(crate) struct User {
    name: String,
    password: String,
    /// Held during a login: all others wait for that one.
    state: Mutex<State>,
}

struct State {
    ticket: Option<Ticket>,
    /// The one-time code until it is used.
    otp: Option<String>,
    /// The answer to a password or code that is wrong.
    denied: Option<Box<Refused>>,
}

/// What a login gives.
struct Ticket {
    ticket: String,
    csrf: String,
    renewal: Instant,
    expiry: Instant,
}

/// What one request carries.
pub(crate) struct Credentials {
    pub(crate) headers: HeaderMap,
    ticket: Option<String>,
}

/// Where to log in.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) http: &'a reqwest::Client,
    pub(crate) endpoint: &'a str,
}

/// The answer to a login.
#[derive(Deserialize)]
struct Login {
    username: String,
    ticket: String,
    #[serde(rename = "CSRFPreventionToken")]
    csrf: Option<String>,
    #[serde(default, rename = "NeedTFA", deserialize_with = "crate::quirks::flag")]
    need_tfa: bool,
}

impl Session {
    pub(crate) fn new(auth: Auth) -> Self {
        match auth {
            Auth::Token(token) => Self::Token(token),
            Auth::Password { username, password, otp } => {
                let state = State { ticket: None, otp, denied: None };
                Self::User(User { name: username, password, state: Mutex::new(state) })
            }
        }
    }

    /// Credentials for a request now; others than those that were just refused.
    pub(crate) async fn credentials(
        &self,
        door: Door<'_>,
        refused: Option<&Credentials>,
    ) -> Result<Credentials, Error> {
        match self {
            Self::Token(token) => Ok(by_token(token)),
            Self::User(user) => user.credentials(door, refused).await,
        }
    }
}

impl Credentials {
    /// Whether there may be others when these are refused.
    pub(crate) const fn are_renewable(&self) -> bool {
        self.ticket.is_some()
    }
}

impl User {
    async fn credentials(&self, door: Door<'_>, refused: Option<&Credentials>) -> Result<Credentials, Error> {
        let mut state = self.state.lock().await;
        state.forget(refused);
        state.renew(door, &self.name).await;
        if let Some(ticket) = &state.ticket {
            return Ok(ticket.credentials());
        }
        let ticket = self.log_in(&mut state, door).await?;
        Ok(state.ticket.insert(ticket).credentials())
    }

    /// Logs in, unless it is known that the password is wrong.
    async fn log_in(&self, state: &mut State, door: Door<'_>) -> Result<Ticket, Error> {
        if let Some(refused) = &state.denied {
            return Err(Error::Refused(refused.clone()));
        }
        let answer = self.prove(state, door).await;
        if let Err(Error::Refused(refused)) = &answer
            && refused.status == 401
        {
            state.denied = Some(refused.clone());
        }
        answer.map(Ticket::new)
    }

    /// Sends the password, and the one-time code if it is asked for.
    async fn prove(&self, state: &mut State, door: Door<'_>) -> Result<Login, Error> {
        let answer = door.log_in(login(&self.name, &self.password)).await?;
        if !answer.need_tfa {
            return Ok(answer);
        }
        let code = state.otp.take().ok_or_else(|| Error::OneTimeCode { user: self.name.clone() })?;
        let second = login(&answer.username, &format!("totp:{code}")).with("tfa-challenge", &answer.ticket);
        door.log_in(second).await
    }
}

impl State {
    /// Forgets a ticket that has expired, or was refused; one that came after the refused is kept.
    fn forget(&mut self, refused: Option<&Credentials>) {
        let refused = refused.and_then(|credentials| credentials.ticket.as_deref());
        let now = Instant::now();
        self.ticket.take_if(|own| own.expiry <= now || refused == Some(own.ticket.as_str()));
    }

    /// Renews a ticket in its second half by itself, which needs no password and no code. If it is not accepted, it is
    /// forgotten; if only the renewal failed, it is good for as long as it lives.
    async fn renew(&mut self, door: Door<'_>, user: &str) {
        let Some(ticket) = self.ticket.as_mut().filter(|ticket| ticket.renewal <= Instant::now()) else { return };
        match door.log_in(login(user, &ticket.ticket)).await {
            Ok(answer) if !answer.need_tfa => *ticket = Ticket::new(answer),
            Err(error) if !error.is(Class::Credentials) => {
                tracing::debug!(error = %error, "cannot renew the ticket");
                ticket.renewal = Instant::now() + RENEW_AGAIN;
            }
            Ok(_) | Err(_) => self.ticket = None,
        }
    }
}

impl Ticket {
    fn new(login: Login) -> Self {
        tracing::debug!(user = login.username, "logged in");
        let now = Instant::now();
        let (renewal, expiry) = (now + RENEW, now + EXPIRY);
        Self { ticket: login.ticket, csrf: login.csrf.unwrap_or_default(), renewal, expiry }
    }

    fn credentials(&self) -> Credentials {
        let cookie = format!("PVEAuthCookie={}", utf8_percent_encode(&self.ticket, UNSAFE_IN_COOKIES));
        let csrf = (HeaderName::from_static("csrfpreventiontoken"), self.csrf.clone());
        Credentials { headers: headers([(COOKIE, cookie), csrf]), ticket: Some(self.ticket.clone()) }
    }
}

impl Door<'_> {
    async fn log_in(self, params: Params) -> Result<Login, Error> {
        let call = Call::post(&["access", "ticket"]).params(params);
        typed(&call.name(), call.exchange(self.http, self.endpoint, HeaderMap::new()).await?)
    }
}

fn by_token(token: &str) -> Credentials {
    Credentials { headers: headers([(AUTHORIZATION, format!("PVEAPIToken={token}"))]), ticket: None }
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
const RENEW_AGAIN: Duration = Duration::from_secs(60);
const EXPIRY: Duration = Duration::from_secs(115 * 60);
