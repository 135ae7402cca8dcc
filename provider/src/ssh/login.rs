//! Logging in, in the order of ssh: a private key, the keys of the SSH agent, a password, and a password to whoever asks.
//!
//! A server may want several of these one after the other; whatever it wants next is simply what comes next here.

use super::keys::{self, Key};
use super::{ANSWER, Error, Hop, Judge, Limits, in_words};
use russh::client::{Handle, KeyboardInteractiveAuthResponse as Asked};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};
use russh::{MethodKind, MethodSet, client::AuthResult};
use tf::Secret;

/// Logs in at `hop`, or says all that was tried.
pub(super) async fn login(
    handle: &mut Handle<Judge>,
    hop: &Hop,
    agent: Option<bool>,
    limits: &Limits,
) -> Result<(), Error> {
    let nothing_given = hop.private_key.is_none() && hop.password.is_none();
    let mut login = Login { handle, hop, limits, tried: Vec::new(), offered: MethodSet::empty() };
    if login.nothing().await? {
        return Ok(());
    }
    if login.offers(MethodKind::PublicKey) {
        if let Some(given) = &hop.private_key
            && login.key(given).await?
        {
            return Ok(());
        }
        if agent.unwrap_or(nothing_given) && login.agent(agent == Some(true)).await? {
            return Ok(());
        }
    } else if hop.private_key.is_some() {
        login.tried.push("the private key is of no use".to_owned());
    }
    if let Some(password) = &hop.password {
        if login.offers(MethodKind::Password) && login.password(password).await? {
            return Ok(());
        }
        if login.offers(MethodKind::KeyboardInteractive) && login.asked(password).await? {
            return Ok(());
        }
    }
    Err(login.refused())
}

struct Login<'a> {
    handle: &'a mut Handle<Judge>,
    hop: &'a Hop,
    limits: &'a Limits,
    tried: Vec<String>,
    offered: MethodSet,
}

impl Login<'_> {
    fn user(&self) -> String {
        self.hop.user.clone()
    }

    fn offers(&self, method: MethodKind) -> bool {
        self.offered.contains(&method)
    }

    fn refused(self) -> Error {
        Error::Refused {
            host: self.hop.place(),
            user: self.user(),
            tried: self.tried,
            offered: self.offered.iter().map(|method| <&str>::from(method).to_owned()).collect(),
            prefix: self.hop.prefix,
        }
    }

    fn lost(&self, error: &russh::Error) -> Error {
        // Servers hang up on who has tried too often.
        let why = match self.tried.as_slice() {
            [] => in_words(error),
            tried => format!("{}, after: {}", in_words(error), tried.join("; ")),
        };
        Error::Lost { host: self.hop.place(), during: "the login".to_owned(), why }
    }

    /// Whether that was all; notes what the server wants next, and what to say of this.
    fn judged(&mut self, result: AuthResult, what: &str) -> Result<bool, Error> {
        let AuthResult::Failure { remaining_methods, partial_success } = result else { return Ok(true) };
        self.next(remaining_methods, partial_success, what)?;
        Ok(false)
    }

    fn next(&mut self, methods: MethodSet, partial: bool, what: &str) -> Result<(), Error> {
        // So the library says that the connection has ended: a server always has something to offer.
        if methods.is_empty() {
            return Err(self.lost(&russh::Error::Disconnect));
        }
        self.offered = methods;
        if !what.is_empty() {
            self.tried.push(format!("{what} {}", if partial { "is good, and not enough" } else { "was refused" }));
        }
        Ok(())
    }

    /// Asks what the server wants; some let in whoever asks.
    async fn nothing(&mut self) -> Result<bool, Error> {
        let user = self.user();
        let answer = self.limits.bound("the login", ANSWER, self.handle.authenticate_none(user)).await?;
        let answer = answer.map_err(|error| self.lost(&error))?;
        self.judged(answer, "")
    }

    async fn key(&mut self, given: &Secret<String>) -> Result<bool, Error> {
        let passphrase = self.hop.private_key_passphrase.as_ref().map(|secret| secret.expose().as_str());
        let attribute = self.hop.attribute("private_key");
        let key = keys::read(given.expose(), passphrase).map_err(|why| Error::Unusable { attribute, why })?;
        let user = self.user();
        let answer = match key {
            Key::Plain(key) => {
                let key = PrivateKeyWithHashAlg::new(key, None);
                let answer =
                    self.limits.bound("the login", ANSWER, self.handle.authenticate_publickey(user, key)).await?;
                answer.map_err(|error| self.lost(&error))?
            }
            Key::Rsa(mut rsa, public) => {
                let hash = self.rsa_hash().await?;
                let signing = self.handle.authenticate_publickey_with(user, *public, hash, &mut rsa);
                let answer = self.limits.bound("the login", ANSWER, signing).await?;
                answer.map_err(|error| Error::Lost {
                    host: self.hop.place(),
                    during: "the login".to_owned(),
                    why: error.to_string(),
                })?
            }
        };
        self.judged(answer, "the private key")
    }

    /// What an RSA key is to sign with; never SHA-1.
    async fn rsa_hash(&self) -> Result<Option<HashAlg>, Error> {
        let best = self.limits.bound("the login", ANSWER, self.handle.best_supported_rsa_hash()).await?;
        let best = best.map_err(|error| self.lost(&error))?;
        Ok(best.flatten().or(Some(HashAlg::Sha512)))
    }

    /// Offers the keys of the SSH agent, one after the other. That there is none matters where it was asked for.
    #[cfg(unix)]
    async fn agent(&mut self, asked_for: bool) -> Result<bool, Error> {
        use russh::keys::agent::AgentIdentity;
        use russh::keys::agent::client::AgentClient;
        let unusable = |why: String| Error::Unusable { attribute: "agent".to_owned(), why };
        let mut agent = match self.limits.bound("the SSH agent", ANSWER, AgentClient::connect_env()).await? {
            Ok(agent) => agent,
            Err(error) if asked_for => return Err(unusable(error.to_string())),
            Err(error) => {
                self.tried.push(format!("there is no SSH agent ({error})"));
                return Ok(false);
            }
        };
        let all = self.limits.bound("the SSH agent", ANSWER, agent.request_identities()).await?;
        let all = all.map_err(|error| unusable(error.to_string()))?;
        if all.is_empty() {
            self.tried.push("the SSH agent has no key".to_owned());
        }
        for identity in all.into_iter().take(MOST_KEYS) {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let hash = if matches!(key.algorithm(), russh::keys::Algorithm::Rsa { .. }) {
                self.rsa_hash().await?
            } else {
                None
            };
            let user = self.user();
            let signing = self.handle.authenticate_publickey_with(user, key, hash, &mut agent);
            let what = format!("the SSH agent's key {comment:?}");
            match self.limits.bound("the login", ANSWER, signing).await? {
                Ok(answer) => {
                    if self.judged(answer, &what)? {
                        return Ok(true);
                    }
                }
                Err(error) => self.tried.push(format!("{what}: {error}")),
            }
        }
        Ok(false)
    }

    #[cfg(not(unix))]
    async fn agent(&mut self, asked_for: bool) -> Result<bool, Error> {
        const WHY: &str = "SSH agents are asked on Linux and macOS only; give `private_key`";
        if asked_for {
            return Err(Error::Unusable { attribute: "agent".to_owned(), why: WHY.to_owned() });
        }
        self.tried.push(WHY.to_owned());
        Ok(false)
    }

    async fn password(&mut self, password: &Secret<String>) -> Result<bool, Error> {
        let (user, password) = (self.user(), password.expose().clone());
        let answer = self.limits.bound("the login", ANSWER, self.handle.authenticate_password(user, password)).await?;
        let answer = answer.map_err(|error| self.lost(&error))?;
        self.judged(answer, "the password")
    }

    /// Gives the password to every question that hides its answer, for a few rounds.
    async fn asked(&mut self, password: &Secret<String>) -> Result<bool, Error> {
        let user = self.user();
        let start = self.handle.authenticate_keyboard_interactive_start(user, None);
        let mut answer = self.limits.bound("the login", ANSWER, start).await?.map_err(|error| self.lost(&error))?;
        for _ in 0..MOST_ROUNDS {
            let prompts = match answer {
                Asked::Success => return Ok(true),
                Asked::Failure { remaining_methods, partial_success } => {
                    self.next(remaining_methods, partial_success, "the password as the answer to its questions")?;
                    return Ok(false);
                }
                Asked::InfoRequest { prompts, .. } => prompts,
            };
            if let Some(open) = prompts.iter().find(|prompt| prompt.echo) {
                self.tried.push(format!("it asks {:?}, which nobody can answer here", plain::line(open.prompt.trim())));
                return Ok(false);
            }
            let answers = prompts.iter().map(|_| password.expose().clone()).collect();
            let respond = self.handle.authenticate_keyboard_interactive_respond(answers);
            answer = self.limits.bound("the login", ANSWER, respond).await?.map_err(|error| self.lost(&error))?;
        }
        self.tried.push("it asks again and again".to_owned());
        Ok(false)
    }
}

/// Servers hang up after six tries.
#[cfg(unix)]
const MOST_KEYS: usize = 5;
const MOST_ROUNDS: usize = 5;
