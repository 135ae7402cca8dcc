//! `/etc/groundwork/agent.toml` to [`Config`]. Every rule is checked before a port is bound.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the configuration is looked for.
pub const FILE: &str = "/etc/groundwork/agent.toml";

/// How the agent is to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port to listen on; an IP address, for names are not resolved here.
    pub listen: SocketAddr,
    /// The operator's CA: only clients it signed are talked to.
    pub ca: CertificateDer<'static>,
    /// The agent's own folder.
    pub state: PathBuf,
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "listen")]
    listen: SocketAddr,
    #[serde(default = "ca")]
    ca: PathBuf,
    #[serde(default = "state")]
    state: PathBuf,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("cannot understand {path}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// The CA's file holds no certificate.
    #[error("{path} holds no CA certificate: {why}")]
    Ca {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A path that depends on where the program is started.
    #[error("{key} = {path:?} is not an absolute path")]
    Relative {
        /// Which key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

impl Config {
    /// Reads and checks the file and the CA it names.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let written: Written =
            toml::from_str(&read(path)?).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        for (key, path) in [("ca", &written.ca), ("state", &written.state)] {
            if !path.is_absolute() {
                return Err(ConfigError::Relative { key, path: path.clone() });
            }
        }
        let ca = authority(&written.ca)?;
        Ok(Self { listen: written.listen, ca, state: written.state })
    }
}

fn authority(path: &Path) -> Result<CertificateDer<'static>, ConfigError> {
    let bad = |why: String| ConfigError::Ca { path: path.to_owned(), why };
    let ca = CertificateDer::from_pem_slice(read(path)?.as_bytes()).map_err(|error| bad(error.to_string()))?;
    trust::anchor_is_usable(&ca).map_err(|error| bad(error.to_string()))?;
    Ok(ca)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), trust::PORT)
}

fn ca() -> PathBuf {
    "/etc/groundwork/ca.pem".into()
}

pub(crate) fn state() -> PathBuf {
    "/var/lib/groundwork".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::copy(write(folder.path(), "made", &authority.cert.pem()), &ca).unwrap();
        let path = write(folder.path(), "agent.toml", &text.replace("CA", &ca.display().to_string()));
        match (Config::load(&path), want) {
            (Ok(config), Ok(listen)) => assert_eq!(config.listen.to_string(), listen),
            (Err(error), Err(part)) => {
                let said = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
                assert!(said.contains(part), "{said}");
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        use std::io::Write as _;
        let path = folder.join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    #[test]
    fn a_short_file_is_enough() {
        check("ca = \"CA\"", Ok("[::]:7443"));
        check("listen = \"10.0.0.11:7000\"\nca = \"CA\"\nstate = \"/srv/gw\"", Ok("10.0.0.11:7000"));
    }

    #[test]
    fn each_rule_is_checked() {
        check("ca = \"CA\"\nport = 1", Err("port"));
        check("listen = \"localhost:7443\"\nca = \"CA\"", Err("listen"));
        check("ca = \"ca.pem\"", Err("absolute"));
        check("ca = \"CA\"\nstate = \"x\"", Err("absolute"));
        check("ca = \"/nowhere/ca.pem\"", Err("/nowhere/ca.pem"));
        check("ca = \"/dev/null\"", Err("no CA certificate"));
        check("=", Err("agent.toml"));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("agent-toml", &["listen = \"[::]:7443\"\nca = \"/a\"\nstate = \"/b\"\n"], |text| {
            toml::from_str::<Written>(text).is_ok()
        });
    }
}
