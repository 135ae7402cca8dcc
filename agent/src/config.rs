//! `/etc/groundwork/agent.toml` to [`Config`]. Every rule is checked before a port is bound.

use crate::anchors::Anchors;
use crate::door::Network;
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
    /// The operator's CAs: only clients that one of them signed are talked to.
    pub anchors: Anchors,
    /// The networks from which connections are taken; none: from everywhere.
    pub allow_from: Vec<Network>,
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
    #[serde(default)]
    allow_from: Vec<String>,
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
    /// No network.
    #[error("allow_from: {0:?} is no network, such as \"10.0.0.0/8\" or \"2001:db8::/32\"")]
    Network(String),
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
        let network = |text: &String| text.parse().map_err(|_| ConfigError::Network(text.clone()));
        let allow_from = written.allow_from.iter().map(network).collect::<Result<_, _>>()?;
        let anchors = Anchors::of_pem(&written.ca, &read(&written.ca)?);
        let anchors = anchors.map_err(|why| ConfigError::Ca { path: written.ca, why })?;
        Ok(Self { listen: written.listen, anchors, allow_from, state: written.state })
    }
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
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let ca = write(folder.path(), "ca.pem", &authority.pem());
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
        check("ca = \"CA\"\nallow_from = [\"10.0.0.0/8\", \"2001:db8::1\"]", Ok("[::]:7443"));
    }

    #[test]
    fn each_rule_is_checked() {
        check("ca = \"CA\"\nport = 1", Err("port"));
        check("listen = \"localhost:7443\"\nca = \"CA\"", Err("listen"));
        check("ca = \"ca.pem\"", Err("absolute"));
        check("ca = \"CA\"\nstate = \"x\"", Err("absolute"));
        check("ca = \"/nowhere/ca.pem\"", Err("/nowhere/ca.pem"));
        check("ca = \"/dev/null\"", Err("no CA certificate"));
        check("ca = \"CA\"\nallow_from = [\"10.0.0.0/8\", \"10.0.0.0/33\"]", Err("\"10.0.0.0/33\" is no network"));
        check("=", Err("agent.toml"));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("agent-toml", &["listen = \"[::]:7443\"\nca = \"/a\"\nstate = \"/b\"\n"], |text| {
            toml::from_str::<Written>(text).is_ok()
        });
    }
}
