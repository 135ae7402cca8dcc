//! A program as it is sent: announced with its version, size and digest, then piece by piece.

use crate::host::{Command, Host};
use aws_lc_rs::digest::{SHA256, digest as hash};
use std::time::Duration;

/// A program that arrived whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// What it says of itself.
    pub version: String,
    /// Its digest, hex.
    pub sha256: String,
    /// The file.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({}, {}, {} bytes)", self.version, self.sha256, self.content.len())
    }
}

/// A program that is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Announced as nothing, or as more than any agent.
    #[error("a program of {0} bytes: an agent has 1 to {LARGEST}")]
    Size(u64),
    /// More or less came than was announced.
    #[error("{came} bytes came where {announced} were announced")]
    Length {
        /// So many came.
        came: u64,
        /// So many should have.
        announced: u64,
    },
    /// Something was changed on the way.
    #[error("its SHA-256 is {found}, and {announced} was announced")]
    Digest {
        /// What it has.
        found: String,
        /// What it should have.
        announced: String,
    },
}

/// A program on its way in.
#[derive(Debug)]
pub struct Incoming {
    size: u64,
    program: Program,
}

impl Program {
    /// Begins to take one in; nothing is read of one that is too large.
    ///
    /// # Errors
    /// When its size is none of an agent.
    pub fn announced(version: &str, sha256: &str, size: u64) -> Result<Incoming, Refusal> {
        if !(1..=u64::try_from(LARGEST).unwrap_or(u64::MAX)).contains(&size) {
            return Err(Refusal::Size(size));
        }
        let (version, sha256) = (version.to_owned(), sha256.to_ascii_lowercase());
        Ok(Incoming { size, program: Self { version, sha256, content: Vec::new() } })
    }
}

impl Incoming {
    /// One piece more.
    ///
    /// # Errors
    /// When it is more than was announced.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let came = length(&self.program.content) + length(piece);
        if came > self.size {
            return Err(Refusal::Length { came, announced: self.size });
        }
        self.program.content.extend_from_slice(piece);
        Ok(())
    }

    /// All of it has come.
    ///
    /// # Errors
    /// When it is not what was announced.
    pub fn whole(self) -> Result<Program, Refusal> {
        let (came, found) = (length(&self.program.content), digest(&self.program.content));
        if came != self.size {
            return Err(Refusal::Length { came, announced: self.size });
        }
        if found != self.program.sha256 {
            return Err(Refusal::Digest { found, announced: self.program.sha256 });
        }
        Ok(self.program)
    }
}

/// Whether the program at `path` runs here and says that it is this version; or what it says instead.
pub(super) async fn fits(host: &dyn Host, path: &str, version: &str) -> Result<(), String> {
    let asked = host.run_ok(&Command::new(path, ["version"]).timeout(ANSWER), &|_| ()).await;
    // Behind the version stands which build of it this is.
    match asked.map(|said| said.stdout.trim().to_owned()) {
        Ok(said) if said.split_whitespace().next() == Some(version) => Ok(()),
        Ok(said) => Err(format!("it says that it is {said:?}, not {version}")),
        Err(error) => Err(crate::chain::chain(&error)),
    }
}

pub(super) fn digest(content: &[u8]) -> String {
    hash(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Bytes of the largest program that is taken in: agents have a third of it.
pub const LARGEST: usize = 32 << 20;
/// Time for a program to say its version.
const ANSWER: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(announced: u64, sha256: &str, pieces: &[&[u8]]) -> Result<Program, Refusal> {
        let mut incoming = Program::announced("1.0.0", sha256, announced)?;
        pieces.iter().try_for_each(|piece| incoming.take(piece))?;
        incoming.whole()
    }

    #[test]
    fn only_what_was_announced_is_taken_in() {
        let sha256 = digest(b"program");
        assert_eq!(sent(7, &sha256, &[b"prog", b"ram"]).unwrap().content, b"program");
        assert!(sent(7, &sha256.to_uppercase(), &[b"program"]).is_ok());
        assert!(matches!(sent(0, &sha256, &[]), Err(Refusal::Size(0))));
        assert!(matches!(sent((32 << 20) + 1, &sha256, &[]), Err(Refusal::Size(_))));
        assert_eq!(sent(7, &sha256, &[b"prog"]), Err(Refusal::Length { came: 4, announced: 7 }));
        assert_eq!(sent(4, &sha256, &[b"prog", b"ram"]), Err(Refusal::Length { came: 7, announced: 4 }));
        assert!(matches!(sent(7, &sha256, &[b"PROGRAM"]), Err(Refusal::Digest { .. })));
    }
}
