//! Why a control plane or a node did not come up, where kubeadm only says that it has waited.
//!
//! kubeadm waits for the kubelet and for what that starts, and knows neither. The cause stands in the kubelet's journal, or in the log
//! of a container that ended: both are read, and what they say comes before kubeadm's last words.

use super::kube::Kube;
use super::kubelet;
use super::output::mask;
use std::time::SystemTime;

/// `message` of kubeadm, after what the kubelet and the control plane's containers have said since `began`.
pub(super) async fn before(kube: &Kube<'_>, message: String, began: SystemTime) -> String {
    let mut causes = Vec::new();
    // What cannot be read must not hide what kubeadm said.
    if let Ok(state) = kubelet::state(kube.host()).await
        && state == "failed"
    {
        causes.push("the kubelet does not run".to_owned());
    }
    let complaints = kubelet::complaints_since(kube, began).await;
    if !complaints.is_empty() {
        causes.push(format!("the kubelet says: {}", complaints.join("; ")));
    }
    causes.extend(containers(kube));
    causes.push(message);
    causes.join("; ")
}

/// The last words of control-plane containers that ended, in the order in which they need one another.
fn containers(kube: &Kube<'_>) -> Vec<String> {
    let pods = kube.host().list(PODS).unwrap_or_default();
    let told = COMPONENTS.iter().filter_map(|name| {
        let prefix = format!("kube-system_{name}-");
        let folders = pods.iter().filter(|pod| pod.starts_with(&prefix)).map(|pod| format!("{PODS}/{pod}/{name}"));
        let newest = folders.filter_map(|folder| newest(kube, &folder)).max()?;
        let text = kube.host().text(&newest.1).ok()??;
        last_words(&text, newest.0 > 0).map(|words| format!("{name} says: {words}"))
    });
    told.take(2).collect()
}

/// The last words of a container that ended again and again, in a pod that has come since its folder was not `known`.
pub(super) fn fell(kube: &Kube<'_>, component: &str, known: &[String]) -> Option<String> {
    let prefix = format!("kube-system_{component}-");
    let pods = kube.host().list(PODS).unwrap_or_default();
    let new = pods.iter().filter(|pod| pod.starts_with(&prefix) && !known.contains(pod));
    let (times, path) = new.filter_map(|pod| newest(kube, &format!("{PODS}/{pod}/{component}"))).max()?;
    let text = kube.host().text(&path).ok()??;
    let words = if times < AGAIN { None } else { last_words(&text, true) };
    words.map(|words| words.strip_prefix("Error: ").map(str::to_owned).unwrap_or(words))
}

/// A container's newest log: how often it was restarted, and the path.
fn newest(kube: &Kube<'_>, folder: &str) -> Option<(u32, String)> {
    let names = kube.host().list(folder).ok()?;
    let numbers = names.iter().filter_map(|name| name.strip_suffix(".log")?.parse::<u32>().ok());
    numbers.max().map(|number| (number, format!("{folder}/{number}.log")))
}

/// Why a container ended, as it said itself. One that was never restarted may be at work: then only a fatal line tells.
fn last_words(log: &str, restarted: bool) -> Option<String> {
    // `2026-11-26T18:00:00.000000000Z stderr F message`. Source: Kubernetes, CRI logging.
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).filter(|line| !line.trim().is_empty()).collect();
    let fatal = |line: &&&str| {
        FATAL.iter().any(|words| line.starts_with(words)) || line.contains("\"level\":\"fatal\"") || is_fatal(line)
    };
    let line = lines.iter().rev().take(50).find(fatal).or_else(|| lines.last().filter(|_| restarted))?;
    Some(mask(line).chars().take(LONGEST).collect())
}

/// klog's fatal lines: `F1126 …`.
fn is_fatal(line: &str) -> bool {
    line.strip_prefix('F').is_some_and(|rest| rest.bytes().take(4).filter(u8::is_ascii_digit).count() == 4)
}

pub(super) const PODS: &str = "/var/log/pods";
/// A container that was started so often once more does not come up.
const AGAIN: u32 = 2;
const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const FATAL: [&str; 5] = ["panic:", "Error:", "error:", "exec ", "exec:"];
/// Letters of one line.
const LONGEST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fatal_line_is_found_and_a_healthy_log_tells_nothing() {
        let at = "2026-11-26T18:00:00.000000000Z stderr F";
        let log = format!(
            "{at} I1126 1 a.go:1] starting\n{at} F1126 18:00:00 server.go:1] cannot listen\n{at} goroutine 1\n"
        );
        assert_eq!(last_words(&log, false).unwrap(), "F1126 18:00:00 server.go:1] cannot listen");
        let exec = format!("{at} exec /usr/local/bin/kube-apiserver: no such file or directory\n");
        assert!(last_words(&exec, false).unwrap().ends_with("no such file or directory"));
        let healthy = format!("{at} I1126 1 a.go:1] serving\n");
        assert_eq!(last_words(&healthy, false), None);
        assert!(last_words(&healthy, true).is_some(), "it ended, whatever it said");
        assert_eq!(last_words("", true), None);
    }
}
