//! A look at static addresses before a machine gets them: one that answers belongs to somebody else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tf::{Diagnostics, Path};
use tokio::net::TcpStream;

use super::checks;
use super::model::{CloudInit, Vm};
use super::site::Site;

/// Tries the agent's port and SSH's at every static address. What does not answer in time counts as free.
pub(super) async fn addresses_are_free(site: &Site<'_>, m: &Vm) -> Result<(), Diagnostics> {
    let port = m.agent.get().and_then(|agent| agent.port.get()).and_then(|port| u16::try_from(*port).ok());
    let port = port.unwrap_or(trust::PORT);
    let all = m.cloud_init.get().map(statics).unwrap_or_default();
    let tries =
        all.into_iter().flat_map(|(at, address)| [port, 22].map(|port| (at.clone(), SocketAddr::new(address, port))));
    let tries: Vec<_> = tries
        .map(|(at, address)| tokio::spawn(async move { answers(address).await.then_some((at, address)) }))
        .collect();
    let mut problems = Diagnostics::new();
    for answer in tries {
        if let Ok(Some((at, address))) = answer.await {
            problems.push(
                site.error(format!("{address} answers already: another machine has the address {}.", address.ip()))
                    .holds("Nothing was created and nothing was recorded in the state.")
                    .next("Choose a free address, or switch the other machine off.")
                    .at(at),
            );
        }
    }
    problems.or(())
}

/// Static addresses and where they are written.
pub(super) fn statics(cloud_init: &CloudInit) -> Vec<(Path, IpAddr)> {
    let mut all = Vec::new();
    for (slot, interface) in cloud_init.network.get().into_iter().flatten() {
        let at = Path::from("cloud_init").name("network").key(slot);
        for (name, value) in [("address", &interface.address), ("address6", &interface.address6)] {
            if let Some((address, _)) = value.text().and_then(checks::cidr) {
                all.push((at.name(name), address));
            }
        }
    }
    all
}

async fn answers(address: SocketAddr) -> bool {
    matches!(tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_)))
}

const PATIENCE: Duration = Duration::from_millis(600);
