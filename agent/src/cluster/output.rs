//! What kubeadm says, read: reasons by name, and lines that may be shown.
//!
//! Exit codes tell little (nearly every failure is a 1); the reason stands on stderr. Source: recordings of kubeadm, 1.28 to 1.36.

/// A check before the work that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// `Port-6443`, `CRI`, `Mem`, …
    pub name: String,
    /// In kubeadm's words; may have several lines.
    pub text: String,
}

/// Failed checks, in the order printed.
pub(super) fn findings(stderr: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut open = false;
    for line in stderr.lines() {
        let trimmed = line.trim_start();
        if let Some((name, text)) = trimmed.strip_prefix("[ERROR ").and_then(|rest| rest.split_once("]: ")) {
            found.push(Finding { name: name.to_owned(), text: text.to_owned() });
            open = true;
        } else if trimmed.starts_with('[') || trimmed.starts_with("To see the stack trace") {
            open = false;
        } else if let (true, Some(last)) = (open, found.last_mut()) {
            last.text.push('\n');
            last.text.push_str(line);
        }
    }
    found
}

/// Why kubeadm failed, one readable line each.
pub(super) fn reasons(stderr: &str) -> Vec<String> {
    let findings = findings(stderr);
    if !findings.is_empty() {
        // Several checks may fail for the same reason, as all that ask the container runtime do.
        let told = |at: usize| findings.iter().take(at).any(|before| before.text == findings[at].text);
        let new = findings.iter().enumerate().filter(|(at, _)| !told(*at));
        return new.map(|(_, finding)| format!("{}: {}", finding.name, first_line(&finding.text))).collect();
    }
    // The stack that a Go program prints when it panics comes last and tells a user nothing.
    if let Some(panic) = stderr.lines().find(|line| line.starts_with("panic: ")) {
        return vec![mask(panic)];
    }
    // What stands before it are the phases and, after a time-out, general advice. Releases from 1.29 on begin it with `error: `.
    let starts = ["\nerror execution phase", "\nerror: error execution phase"];
    let start = starts.iter().filter_map(|start| stderr.rfind(start)).max();
    let stderr = start.map_or(stderr, |at| stderr.get(at..).unwrap_or(stderr));
    let told = stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !is_noise(line));
    let bare = |line: &str| mask(line.strip_prefix("error: ").filter(|rest| rest.starts_with("error")).unwrap_or(line));
    let mut last: Vec<String> = told.map(bare).collect();
    let reasons = last.split_off(last.len().saturating_sub(3));
    if reasons.is_empty() { vec!["it printed no reason".to_owned()] } else { reasons }
}

/// Whether a join was refused because the old node of that name still counts as ready.
pub(super) fn name_still_ready(stderr: &str) -> bool {
    stderr.contains("and status \"Ready\" already exists in the cluster")
}

/// Whether an upgrade was refused, before it changed anything, because the control plane is not at rest yet.
pub(super) fn is_restless(said: &str) -> bool {
    let findings = findings(said);
    let passes = |finding: &Finding| ["CreateJob", "ControlPlaneNodesReady"].contains(&finding.name.as_str());
    !findings.is_empty() && findings.iter().all(passes)
        || said.contains("error: unable to fetch the kubeadm-config ConfigMap")
}

/// Whether checks failed because of what an earlier attempt left.
pub(super) fn are_leftovers(findings: &[Finding]) -> bool {
    let about = |finding: &Finding, names: &[&str]| names.iter().any(|prefix| finding.name.starts_with(prefix));
    // A port alone may be any program's.
    findings.iter().any(|finding| about(finding, &["FileAvailable-", "DirAvailable-"]))
        && findings.iter().all(|finding| about(finding, &["FileAvailable-", "DirAvailable-", "Port-"]))
}

/// A line with everything cut out that has the form of a bootstrap token, a certificate key or a private key, also where it is the
/// value of a flag.
pub(super) fn mask(line: &str) -> String {
    let line = &without_k3s_token(line);
    let between = |c: char| c.is_whitespace() || "\"',=;:()[]{}<>`".contains(c);
    let mut masked = String::with_capacity(line.len());
    for word in line.split_inclusive(between) {
        let bare = word.trim_end_matches(between);
        // What a checksum names is no secret, and a CA's is what somebody looks for.
        if is_token(bare) || (is_key(bare) && !masked.ends_with("sha256:")) {
            masked.push_str("(secret)");
            masked.push_str(word.get(bare.len()..).unwrap_or_default());
        } else {
            masked.push_str(word);
        }
    }
    masked
}

/// Without what follows the sum in tokens of K3s, `K10<64 hex digits>::<secret>`.
fn without_k3s_token(line: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(line.len()), line);
    while let Some((before, after)) = rest.split_once("::") {
        let end = after.find(|c: char| c.is_whitespace() || "\"'`,;)]}".contains(c)).unwrap_or(after.len());
        let is_token = before
            .len()
            .checked_sub(67)
            .and_then(|at| before.get(at..))
            .is_some_and(|sum| sum.strip_prefix("K10").is_some_and(is_key));
        shown.push_str(before);
        shown.push_str("::");
        if is_token && end > 0 {
            shown.push_str("(secret)");
            rest = after.get(end..).unwrap_or_default();
        } else {
            rest = after;
        }
    }
    shown.push_str(rest);
    shown
}

/// `[a-z0-9]{6}\.[a-z0-9]{16}`
pub(super) fn is_token(word: &str) -> bool {
    let small = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    word.split_once('.').is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && small(id) && small(secret))
}

/// 64 hex digits: a certificate key.
fn is_key(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_noise(line: &str) -> bool {
    // Lines in brackets tell the phases, not why one failed; after a time-out comes advice for a person at the machine.
    line.starts_with("To see the stack trace")
        || line.starts_with('[')
        || is_log(line)
        || ADVICE.iter().any(|words| line.starts_with(words))
}

/// A line of klog, `W1126 18:00:00.000000 …`: what a program logs on its way, not why it ended.
fn is_log(line: &str) -> bool {
    let rest = line.strip_prefix(['I', 'W', 'E']).unwrap_or_default();
    rest.len() > 4 && rest.bytes().take(4).all(|byte| byte.is_ascii_digit()) && rest.as_bytes().get(4) == Some(&b' ')
}

/// Source: kubeadm v1.35, `cmd/kubeadm/app/util/error` and its texts for a kubelet, or a control plane, that is not healthy.
const ADVICE: [&str; 6] = [
    "- '",
    "Unfortunately, an error has occurred",
    "This error is likely caused by",
    "If you are on a systemd-powered system",
    "Additionally, a control plane component may have crashed",
    "Here is one example how you may list",
];

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_checks_are_told_by_name() {
        let again = findings(include_str!("recorded/init-again.txt"));
        assert_eq!(again.len(), 11);
        assert_eq!(again[0], Finding { name: "Port-6443".into(), text: "Port 6443 is in use".into() });
        assert!(are_leftovers(&again));
        assert!(are_leftovers(&findings(include_str!("recorded/join-again.txt"))));
        assert!(!are_leftovers(&again[..1]), "a port alone may be any program's");
    }

    #[test]
    fn a_reason_of_several_lines_is_one_finding() {
        // Kubernetes v1.28.
        let down = findings(
            "[preflight] Some fatal errors occurred:\n\t[ERROR CRI]: container runtime is not running: output: x\n\
            , error: exit status 1\n[preflight] If you know what you are doing, …\n",
        );
        assert_eq!(
            down,
            [Finding {
                name: "CRI".into(),
                text: "container runtime is not running: output: x\n, error: exit status 1".into()
            }]
        );
        assert!(!are_leftovers(&down));
        assert!(!are_leftovers(&[]));
    }

    #[test]
    fn a_reason_of_several_checks_is_told_once() {
        let down = include_str!("recorded/preflight-containerd-down.txt");
        let names: Vec<String> = findings(down).into_iter().map(|finding| finding.name).collect();
        assert_eq!(names, ["CRI", "ContainerRuntimeVersion"]);
        let [told] = &reasons(down)[..] else { panic!("{:?}", reasons(down)) };
        assert!(told.starts_with("CRI: could not connect to the container runtime: "), "{told}");
    }

    #[test]
    fn other_failures_are_told_by_their_last_words() {
        let expired = reasons(include_str!("recorded/join-expired.txt"));
        assert_eq!(expired.len(), 1, "{expired:?}");
        assert!(expired[0].contains("could not find a JWS signature"));
        assert!(reasons(include_str!("recorded/join-badhash.txt"))[0].contains("are pinned"));
        assert!(reasons(include_str!("recorded/init-kubelet-not-healthy.txt"))[0].contains("wait-control-plane"));
        assert!(name_still_ready(include_str!("recorded/join-still-ready.txt")));
    }

    #[test]
    fn an_upgrade_too_early_is_told_from_one_that_cannot_be() {
        assert!(is_restless(include_str!("recorded/upgrade-too-early.txt")));
        assert!(is_restless(include_str!("recorded/upgrade-node-api-away.txt")));
        let absent = include_str!("recorded/upgrade-image-absent.txt");
        assert!(!is_restless(absent) && !is_restless(""));
        assert!(
            reasons(absent)[0].starts_with("ImagePull: failed to pull image registry.k8s.io/kube-apiserver:v1.35.0")
        );
    }

    #[test]
    fn newer_releases_begin_it_with_error_and_log_beside_it() {
        let said = "W1126 18:00:00.000001    1 x.go:1] something odd\n[kubelet-check] Waiting\n\
            \t- 'systemctl status kubelet'\n\t- 'journalctl -xeu kubelet'\n\n\
            error: error execution phase wait-control-plane: failed while waiting\nTo see the stack trace of this error execute with --v=5\n";
        assert_eq!(reasons(said), ["error execution phase wait-control-plane: failed while waiting"]);
        let other = "E1126 18:00:00.000001    1 x.go:1] failed\nerror: failed to create or update bootstrap token\n";
        assert_eq!(reasons(other), ["error: failed to create or update bootstrap token"]);
    }

    #[test]
    fn a_panic_is_told_without_its_stack() {
        let said = "[kubelet-start] Starting the kubelet\npanic: assignment to entry in nil map\n\ngoroutine 1 [running]:\n\
            main.main()\n\tcmd/kubeadm/kubeadm.go:25 +0x13\n";
        assert_eq!(reasons(said), ["panic: assignment to entry in nil map"]);
    }

    #[test]
    fn phases_are_no_reasons() {
        assert_eq!(reasons("[certs] Generating \"ca\" certificate and key\n"), ["it printed no reason"]);
    }

    #[test]
    fn a_token_of_k3s_shows_its_clusters_sum_alone() {
        let sum = "0".repeat(64);
        for secret in ["server:0123abcd", "abcdef.0123456789abcdef"] {
            assert_eq!(
                mask(&format!("a::b --token K10{sum}::{secret} x")),
                format!("a::b --token K10{sum}::(secret) x")
            );
        }
        assert_eq!(mask("std::io::Error"), "std::io::Error");
    }

    #[test]
    fn no_token_and_no_key_is_shown() {
        let key = "0123456789abcdef".repeat(4);
        assert_eq!(
            mask("[bootstrap-token] Using token: abcdef.0123456789abcdef"),
            "[bootstrap-token] Using token: (secret)"
        );
        assert_eq!(
            mask(&format!("\t--control-plane --certificate-key {key}")),
            "\t--control-plane --certificate-key (secret)"
        );
        assert!(mask("kubeadm join 10.99.0.11:6443 --token z80s33.1gtcwfqyljx220z4 \\").contains("--token (secret)"));
        let said: Vec<String> = include_str!("recorded/init.txt").lines().map(mask).collect();
        assert_eq!(
            said.join("\n"),
            include_str!("recorded/init.txt").trim_end_matches('\n'),
            "nothing else is cut out"
        );
        for line in [
            "kubeadm join --token=abcdef.0123456789abcdef".to_owned(),
            "(token: abcdef.0123456789abcdef)".to_owned(),
            "token=abcdef.0123456789abcdef;x".to_owned(),
            format!("--certificate-key={key}"),
            format!("[{key}]"),
        ] {
            let said = mask(&line);
            assert!(said.contains("(secret)") && !said.contains("0123456789abcdef"), "{said}");
        }
    }

    #[test]
    fn any_text_is_answered() {
        let failed = "[ERROR Swap]: running with swap\n more\nerror execution phase preflight: x\npanic: y\n";
        total::text("kubeadm-findings", &[failed], findings);
        total::text(
            "kubeadm-reasons",
            &[failed, "\nerror: error execution phase x: --token=abcdef.0123456789abcdef"],
            reasons,
        );
        total::text("mask", &["kubeadm join --token=abcdef.0123456789abcdef"], mask);
    }
}
