//! The mark of a creation that is not finished: the first line of the VM's description, sent with the create call itself.
//!
//! A provider that was killed returned nothing to Terraform. The next one finds its VM by name and mark, and goes on with it.
//! A VM of that name without the mark is somebody else's.

use aws_lc_rs::digest::{SHA256, digest};

/// The line for a VM of this name.
pub(super) fn line(name: &str) -> String {
    let digest = digest(&SHA256, format!("groundwork_vm\0{name}").as_bytes());
    let short = hex::encode(digest.as_ref().get(..8).unwrap_or_default());
    format!("{START}({short})")
}

/// The user's description with the mark before it.
pub(super) fn with(name: &str, description: &str) -> String {
    format!("{}\n\n{description}", line(name)).trim_end().to_owned()
}

/// The user's description.
pub(super) fn without(description: &str) -> &str {
    if !description.starts_with(START) {
        return description;
    }
    description.split_once('\n').map(|(_, rest)| rest.trim_start_matches('\n')).unwrap_or_default()
}

/// Whether the description carries the mark of a VM of this name.
pub(super) fn is_in(description: &str, name: &str) -> bool {
    description.lines().next().is_some_and(|first| first.trim() == line(name))
}

const START: &str = "groundwork: creation not finished ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_put_on_recognised_and_taken_off() {
        for text in ["", "one line", "two\nlines\n\nand more"] {
            let marked = with("cp-1", text);
            assert!(is_in(&marked, "cp-1"), "{marked}");
            assert!(!is_in(&marked, "cp-2"));
            assert_eq!(without(&marked), text);
        }
        assert_eq!(without("groundwork is fine"), "groundwork is fine");
        assert!(!is_in("something else", "cp-1"));
    }
}
