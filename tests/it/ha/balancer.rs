//! What stands before several control planes at most users' places: a load balancer that asks each API server whether it is ready.

use crate::harness::run::{command, run};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Forwards connections to the first API server that is ready, until it is dropped.
pub(crate) struct Balancer {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Balancer {
    pub(crate) fn start(address: &str, servers: Vec<String>) -> Self {
        Self::at((address, 6443), servers)
    }

    /// For another port of the same servers.
    pub(crate) fn at((address, port): (&str, u16), servers: Vec<String>) -> Self {
        let listener = TcpListener::bind((address, port)).expect("the host has this address in the lab");
        let address = listener.local_addr().expect("it is bound");
        let (over, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let looks = thread::spawn({
            let (over, ready) = (Arc::clone(&over), Arc::clone(&ready));
            move || {
                while !over.load(Ordering::Relaxed) {
                    let first = servers.iter().find(|server| is_ready(server)).cloned();
                    *ready.lock().unwrap_or_else(PoisonError::into_inner) = first;
                    thread::sleep(Duration::from_millis(500));
                }
            }
        });
        let serves = thread::spawn({
            let over = Arc::clone(&over);
            move || {
                for client in listener.incoming().take_while(|_| !over.load(Ordering::Relaxed)).flatten() {
                    let server = ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    thread::spawn(move || server.map(|server| forward(client, (&server, port))));
                }
            }
        });
        Self { address, over, threads: vec![looks, serves] }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The one that serves waits for a client.
        drop(TcpStream::connect(self.address));
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn is_ready(server: &str) -> bool {
    let url = format!("https://{server}:6443/readyz");
    let ask =
        ["--silent", "--insecure", "--max-time", "2", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
    // K3s' API server tells a stranger nothing: that it does is all there is to see.
    run(command("curl").args(ask)).text.trim().parse().is_ok_and(|code: u16| [200, 401].contains(&code))
}

fn forward(client: TcpStream, server: (&str, u16)) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut to_server, mut from_client) = (server.try_clone()?, client.try_clone()?);
    let up = thread::spawn(move || {
        drop(io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    let (mut from_server, mut to_client) = (server, client);
    drop(io::copy(&mut from_server, &mut to_client));
    drop(to_client.shutdown(Shutdown::Both));
    drop(from_server.shutdown(Shutdown::Both));
    drop(up.join());
    Ok(())
}
