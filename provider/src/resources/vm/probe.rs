//! A look at static addresses before a machine gets them: one that answers belongs to somebody else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tf::{Diagnostics, Path};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::model::{CloudInit, Vm};
use super::site::Site;
use crate::agents::{Agents, Error, Until};

/// Listens for SSH's greeting and for an agent at every static address. Silence counts as free: something in between may
/// accept connections to anywhere.
pub(super) async fn addresses_are_free(site: &Site<'_>, m: &Vm) -> Result<(), Diagnostics> {
    let port = m.agent.get().and_then(|agent| agent.port.get()).and_then(|port| u16::try_from(*port).ok());
    let port = port.unwrap_or(trust::PORT);
    let tries = m.cloud_init.get().map(statics).unwrap_or_default().into_iter().map(|(at, address)| {
        let (agents, until) = (site.cx.agents.clone(), site.until());
        async move {
            let (ssh, agent) = tokio::join!(greets(address), is_agent(&agents, (address, port), &until));
            ssh.or(agent).map(|by| (at, address, by))
        }
    });
    let mut problems = Diagnostics::new();
    for (at, address, by) in join_all(tries).await.into_iter().flatten() {
        problems.push(
            site.error(format!("{by} answers at {address} already: another machine has this address."))
                .holds("Nothing was created and nothing was recorded in the state.")
                .next("Choose a free address, or switch the other machine off.")
                .at(at),
        );
    }
    problems.or(())
}

/// Static addresses and where they are written.
pub(super) fn statics(cloud_init: &CloudInit) -> Vec<(Path, IpAddr)> {
    let mut all = Vec::new();
    for (slot, interface) in cloud_init.network.get().into_iter().flatten() {
        let at = Path::from("cloud_init").name("network").key(slot);
        for (name, value) in [("address", &interface.address), ("address6", &interface.address6)] {
            if let Some((address, _)) = value.text().and_then(crate::cidr::parse) {
                all.push((at.name(name), address));
            }
        }
    }
    all
}

/// An SSH server speaks first.
async fn greets(address: IpAddr) -> Option<&'static str> {
    let greeting = async {
        let mut stream = TcpStream::connect((address, 22)).await.ok()?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).await.ok()?;
        (start == *b"SSH-").then_some("An SSH server")
    };
    tokio::time::timeout(PATIENCE, greeting).await.ok().flatten()
}

/// Whatever an agent says about itself, it is there.
async fn is_agent(agents: &Agents, (address, port): (IpAddr, u16), until: &Until) -> Option<&'static str> {
    let address = SocketAddr::new(address, port).to_string();
    let said = tokio::time::timeout(PATIENCE, agents.identify(&address, "", until)).await;
    match said {
        Ok(Ok(_) | Err(Error::OtherMachine { .. } | Error::NotEnrolled { .. } | Error::OtherAuthority { .. })) => {
            Some("An agent")
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

const PATIENCE: Duration = Duration::from_millis(700);
