//! The end of an agent on its machine, on request. Only what is its own goes: what it has made of the machine stays.

use crate::host::{Command, Host, HostError};

/// Has systemd take the agent away in a second, so that an answer gets out before; in a unit of its own, for the agent ends with it.
///
/// # Errors
/// If systemd does not take the order.
pub async fn begin(host: &dyn Host) -> Result<(), HostError> {
    let away = ["--on-active=1", "--collect", "/bin/sh", "-c", AWAY];
    host.run_ok(&Command::new("/usr/bin/systemd-run", away), &|_| ()).await.map(drop)
}

/// Whatever is cut off in it, the unit is no more enabled, and an installation finds its way over the rest.
const AWAY: &str = "systemctl disable --now groundwork-agent.service; \
    rm -f /etc/systemd/system/groundwork-agent.service /usr/local/bin/groundwork-agent; \
    systemctl disable --now groundwork-etcd-snapshot.timer; \
    rm -f /etc/systemd/system/groundwork-etcd-snapshot.service /etc/systemd/system/groundwork-etcd-snapshot.timer; \
    rm -rf /usr/local/libexec/groundwork /etc/groundwork /var/lib/groundwork; \
    systemctl daemon-reload";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update;

    #[test]
    fn all_that_is_the_agents_own_goes_and_nothing_else() {
        let paths: Vec<&str> = AWAY.split([' ', ';']).filter(|word| word.starts_with('/')).collect();
        let unit = "/etc/systemd/system/groundwork-agent.service";
        let [service, timer] =
            ["service", "timer"].map(|kind| format!("/etc/systemd/system/groundwork-etcd-snapshot.{kind}"));
        assert_eq!(
            paths,
            [
                unit,
                update::BIN,
                service.as_str(),
                timer.as_str(),
                "/usr/local/libexec/groundwork",
                "/etc/groundwork",
                "/var/lib/groundwork"
            ]
        );
    }
}
