//! A file in parts of what one call takes: 45 KiB. A program of some megabytes is packed for the way, where the machine can unpack it.

use super::{Error, Session};
use crate::script::SURROUNDINGS;
use aws_lc_rs::digest::{SHA256, digest};
use flate2::Compression;
use flate2::write::GzEncoder;
use pve::{AGENT_FILE_MOST, Class};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// What the machine has for a file that is to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Have<'a> {
    /// SHA-256 of what lies in the file's folder, by name.
    pub(crate) there: &'a BTreeMap<String, String>,
    /// Whether it can unpack `gzip`.
    pub(crate) gzip: bool,
}

impl Session {
    /// Writes a file of root's, below a folder that nobody else enters.
    pub(crate) async fn write(
        &self,
        path: &str,
        bytes: &[u8],
        have: Have<'_>,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), Error> {
        if bytes.len() <= AGENT_FILE_MOST {
            return self.part(path, bytes).await;
        }
        let packed = have.gzip.then(|| packed(bytes));
        let content = packed.as_deref().unwrap_or(bytes);
        let parts: Vec<&[u8]> = content.chunks(AGENT_FILE_MOST).collect();
        let began = Instant::now();
        for (number, part) in parts.iter().enumerate() {
            let to = format!("{path}.{number:04}");
            let name = to.rsplit('/').next().unwrap_or_default();
            if have.there.get(name) == Some(&hex::encode(digest(&SHA256, part))) {
                continue;
            }
            if number % (parts.len() / 4).max(1) == 0 {
                let sent = (content.len() >> 10) * number / parts.len();
                let seconds = began.elapsed().as_secs();
                progress(&format!("{}: sent {sent} of {} KiB in {seconds} s", self.place(), content.len() >> 10));
            }
            self.part(&to, part).await?;
        }
        let unpack = if packed.is_some() { "gzip -dc" } else { "cat" };
        self.script("putting the parts of a file together", &joined(path, parts.len(), unpack), JOIN).await?;
        Ok(())
    }

    /// One call. The same again does no harm.
    async fn part(&self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        let what = format!("writing {path}");
        for _ in 1..TRIES {
            match self.vm().agent_file_write(path, bytes).await {
                Err(error) if error.outcome_unknown() || error.is(Class::NoAgent) => {}
                done => return done.map_err(|error| self.failed(&what, error)),
            }
            self.pause(super::PAUSE, &what).await?;
        }
        self.vm().agent_file_write(path, bytes).await.map_err(|error| self.failed(&what, error))
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Into memory, which takes everything.
    encoder.write_all(bytes).ok();
    encoder.finish().unwrap_or_default()
}

/// The script that makes the file of its parts, and takes them away; those of an earlier try with more of them, too.
fn joined(path: &str, parts: usize, unpack: &str) -> String {
    format!(
        "set -eu\n{SURROUNDINGS}umask 077\nnumber=0\nwhile [ $number -lt {parts} ]; do\n  cat \"$(printf '{path}.%04d' $number)\"\n  \
         number=$((number + 1))\ndone | {unpack} >{path}\nrm -f {path}.[0-9]*\n"
    )
}

const TRIES: usize = 3;
const JOIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    /// By a real shell and a real gzip.
    #[test]
    fn parts_are_the_file_again_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.new").display().to_string();
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for (content, unpack) in [(packed(&bytes), "gzip -dc"), (bytes.clone(), "cat")] {
            let parts: Vec<&[u8]> = content.chunks(AGENT_FILE_MOST).collect();
            assert!(parts.len() > 1, "{unpack}");
            // One more, of an earlier try.
            for (number, part) in parts.iter().copied().chain([&b"old"[..]]).enumerate() {
                let mut to = std::fs::File::create(format!("{path}.{number:04}")).unwrap();
                to.write_all(part).unwrap();
            }
            #[expect(clippy::disallowed_methods, reason = "the shell that the machine has")]
            let mut shell = std::process::Command::new("/bin/sh").stdin(Stdio::piped()).spawn().unwrap();
            shell.stdin.take().unwrap().write_all(joined(&path, parts.len(), unpack).as_bytes()).unwrap();
            assert!(shell.wait().unwrap().success());
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{unpack}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{unpack}");
        }
    }

    #[test]
    fn the_same_bytes_are_packed_the_same() {
        assert_eq!(packed(b"agent"), packed(b"agent"));
    }
}
