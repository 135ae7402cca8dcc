//! `…/qemu/{vmid}/agent`: what QEMU's guest agent tells of the guest, and does in it.
//!
//! The node speaks with it for us, one command after the other, a fifth of a second each. Text passes through the server a byte a letter
//! (Latin-1), so files go as Base64, and what a program has printed is put together again here.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Vm;
use super::settings::Settings;
use crate::error::Error;
use crate::params::Params;
use crate::quirks::Net;

/// A network interface inside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AgentInterface {
    /// The guest's own name for it.
    pub name: String,
    /// Its hardware address.
    #[serde(default, rename = "hardware-address")]
    pub mac: Option<String>,
    #[serde(default, rename = "ip-addresses")]
    addresses: Vec<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Address {
    #[serde(rename = "ip-address")]
    address: String,
}

impl AgentInterface {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter_map(|address| address.address.parse().ok())
    }
}

/// A command that the guest agent knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AgentCommand {
    /// `guest-exec`
    pub name: String,
    /// Whether the guest's administrator lets it be used.
    #[serde(deserialize_with = "crate::quirks::flag")]
    pub enabled: bool,
}

/// The guest's operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AgentOs {
    /// `debian`, `mswindows` …
    #[serde(default)]
    pub id: String,
    /// For people.
    #[serde(default, rename = "pretty-name")]
    pub name: String,
}

/// How a program in the guest ended. The guest agent tells it once, and forgets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentExit {
    /// Its exit code; without one a signal ended it.
    pub code: Option<i64>,
    /// What it printed.
    pub stdout: String,
    /// What it printed as errors.
    pub stderr: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
pub(crate) struct Info {
    #[serde(default)]
    supported_commands: Vec<AgentCommand>,
}

#[derive(Deserialize)]
struct Started {
    #[serde(deserialize_with = "crate::quirks::int")]
    pid: i64,
}

#[derive(Deserialize)]
pub(crate) struct Process {
    #[serde(deserialize_with = "crate::quirks::flag")]
    exited: bool,
    #[serde(default)]
    exitcode: Option<i64>,
    #[serde(default, rename = "out-data")]
    stdout: String,
    #[serde(default, rename = "err-data")]
    stderr: String,
}

impl Process {
    /// How it ended; `None` while it runs.
    pub(crate) fn end(self) -> Option<AgentExit> {
        let Self { exited, exitcode, stdout, stderr } = self;
        exited.then(|| AgentExit { code: exitcode, stdout: printed(&stdout), stderr: printed(&stderr) })
    }
}

impl Vm<'_> {
    /// The interfaces inside the guest.
    ///
    /// # Errors
    /// [`crate::Class::NoAgent`] while the guest agent does not answer.
    pub async fn agent_interfaces(&self) -> Result<Vec<AgentInterface>, Error> {
        let answer: Answer<_> = self.client.call(self.get(&["agent", "network-get-interfaces"])).await?;
        Ok(answer.result)
    }

    /// The addresses that the guest agent sees at this moment on the VM's own cards, IPv4 first: that is what most networks route.
    ///
    /// # Errors
    /// As [`Self::agent_interfaces`].
    pub async fn agent_addresses(&self, settings: &Settings) -> Result<Vec<IpAddr>, Error> {
        let cards = settings.keys().filter(|key| is_card(key)).filter_map(|key| settings.current(key));
        let macs: Vec<String> = cards.filter_map(|card| Net::parse(card).mac().map(str::to_lowercase)).collect();
        let said = self.agent_interfaces().await?;
        let is_own = |mac: &String| macs.contains(&mac.to_lowercase());
        let own = said.iter().filter(|card| card.mac.as_ref().is_some_and(is_own));
        let mut all: Vec<IpAddr> = own.flat_map(AgentInterface::addresses).filter(is_reached).collect();
        all.sort_by_key(IpAddr::is_ipv6);
        Ok(all)
    }

    /// The commands that the guest agent knows.
    ///
    /// # Errors
    /// [`crate::Class::NoAgent`] while it does not answer, [`crate::Class::NotRunning`] while the VM is off.
    pub async fn agent_commands(&self) -> Result<Vec<AgentCommand>, Error> {
        let answer: Answer<Info> = self.client.call(self.get(&["agent", "info"])).await?;
        Ok(answer.result.supported_commands)
    }

    /// The guest's operating system.
    ///
    /// # Errors
    /// As [`Self::agent_commands`].
    pub async fn agent_os(&self) -> Result<AgentOs, Error> {
        let answer: Answer<_> = self.client.call(self.get(&["agent", "get-osinfo"])).await?;
        Ok(answer.result)
    }

    /// Starts a program in the guest as the guest agent's account, which is root, with this text as its input; its number there. Of
    /// the text only ASCII letters arrive as they are.
    ///
    /// # Errors
    /// [`crate::Class::AgentForbids`] where the guest's administrator has switched that off. A program that is not there takes five
    /// seconds, and no answer comes (9.1.8).
    pub async fn agent_exec(&self, program: &str, input: &str) -> Result<i64, Error> {
        let params = Params::new().with("command", program).with("input-data", input);
        let started: Started = self.client.call(self.post(&["agent", "exec"]).params(params)).await?;
        Ok(started.pid)
    }

    /// How a program that was started has ended; `None` while it runs. Its end is told once.
    ///
    /// # Errors
    /// [`crate::Class::NoProcess`] if its end was told before.
    pub async fn agent_exec_status(&self, pid: i64) -> Result<Option<AgentExit>, Error> {
        let params = Params::new().with("pid", pid);
        let process: Process = self.client.call(self.get(&["agent", "exec-status"]).params(params)).await?;
        Ok(process.end())
    }

    /// Writes a file in the guest, of at most [`AGENT_FILE_MOST`] bytes, in place of one that is there. Everybody may read and write it
    /// there unless its folder is closed.
    ///
    /// # Errors
    /// [`crate::Class::InGuest`] with the guest's words, such as those of a full disk.
    pub async fn agent_file_write(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let params = Params::new().with("file", path).with("content", STANDARD.encode(content)).flag("encode", false);
        self.client.call::<IgnoredAny>(self.post(&["agent", "file-write"]).params(params)).await.map(drop)
    }
}

fn is_card(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether anybody outside reaches such an address.
fn is_reached(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// The text of bytes that came as letters of the same numbers.
fn printed(text: &str) -> String {
    let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
    bytes.map_or_else(|| text.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes of a file for one call: the server takes 60 KiB of Base64. Source: the API's schema, 8.2 and 9.1.
pub const AGENT_FILE_MOST: usize = 61_440 / 4 * 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_printed_is_put_together_again() {
        assert_eq!(printed("\u{c3}\u{a4}\n"), "ä\n");
        assert_eq!(printed("plain"), "plain");
        assert_eq!(printed("→"), "→", "a server that decodes it itself");
        assert_eq!(printed("\u{ff}"), "\u{fffd}");
    }

    #[test]
    fn cards_are_told_from_other_options() {
        assert!(is_card("net0") && is_card("net12") && !is_card("net") && !is_card("netx") && !is_card("nets0"));
    }
}
