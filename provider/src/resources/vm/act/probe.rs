//! A look at static addresses before a machine gets them: one that answers belongs to somebody else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::error::{Error, Problem};
use super::operation::Operation;
use crate::agents::{self, Agents, Until};
use crate::resources::vm::addresses::statics;
use crate::resources::vm::model::Vm;

/// Listens for SSH's greeting and for an agent at every static address. Silence counts as free: something in between may
/// accept connections to anywhere.
pub(super) async fn addresses_are_free(op: &Operation<'_>, m: &Vm) -> Result<(), Error> {
    let port = m.agent.get().and_then(|agent| agent.port.get()).and_then(|port| u16::try_from(*port).ok());
    let port = port.unwrap_or(trust::PORT);
    let tries = m.cloud_init.get().map(statics).unwrap_or_default().into_iter().map(|(at, address)| {
        let (agents, until) = (op.cx.agents.clone(), op.until());
        async move {
            let (ssh, agent) = tokio::join!(greets(address), is_agent(&agents, (address, port), &until));
            ssh.or(agent).map(|by| (at, address, by))
        }
    });
    let taken = join_all(tries).await.into_iter().flatten().map(|(at, address, by)| {
        let said = format!("{by} answers at {address} already: another machine has this address.");
        Problem::new(said, "Choose a free address, or switch the other machine off.").at(at)
    });
    Error::if_any(taken.collect())
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
    use agents::Error::{NotEnrolled, OtherAuthority, OtherMachine};
    let address = SocketAddr::new(address, port).to_string();
    let said = tokio::time::timeout(PATIENCE, agents.identify(&address, "", until)).await;
    match said {
        Ok(Ok(_) | Err(OtherMachine { .. } | NotEnrolled { .. } | OtherAuthority { .. })) => Some("An agent"),
        Ok(Err(_)) | Err(_) => None,
    }
}

const PATIENCE: Duration = Duration::from_millis(700);
