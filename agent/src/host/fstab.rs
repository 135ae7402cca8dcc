//! `/etc/fstab` and `/proc/self/mountinfo`, line by line.

/// A line of fstab that is not a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What is mounted.
    pub source: String,
    /// Where.
    pub target: String,
    /// Filesystem type.
    pub kind: &'a str,
    /// Options, as written.
    pub options: &'a str,
}

/// The entry of a line, if it is one.
#[must_use]
pub fn entry(line: &str) -> Option<Entry<'_>> {
    let mut fields = line.split_whitespace();
    let source = fields.next().filter(|field| !field.starts_with('#'))?;
    let (target, kind) = (fields.next()?, fields.next()?);
    let options = fields.next().unwrap_or("defaults");
    Some(Entry { source: unescape(source), target: unescape(target), kind, options })
}

/// A mount as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub target: String,
    /// Filesystem type.
    pub kind: String,
    /// What.
    pub source: String,
    /// Options of this mount.
    pub options: String,
}

/// All mounts, in the order they were made.
#[must_use]
pub fn mounted(mountinfo: &str) -> Vec<Mounted> {
    mountinfo.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let (target, options) = (unescape(left.next()?), left.next()?.to_owned());
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?.to_owned(), unescape(right.next()?));
    Some(Mounted { target, kind, source, options })
}

/// Whether what is mounted over `path` can be written to.
#[must_use]
pub fn is_writable(mounts: &[Mounted], path: &str) -> bool {
    let under = |target: &str| {
        target == "/" || path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // The last of the longest: a later mount covers an earlier one.
    let over = mounts.iter().filter(|mount| under(&mount.target)).max_by_key(|mount| mount.target.len());
    over.is_none_or(|mount| mount.options.split(',').all(|option| option != "ro"))
}

/// `\040` and the like.
fn unescape(text: &str) -> String {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A path or source as fstab wants it.
#[must_use]
pub fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' ' => "\\040".to_owned(),
            '\t' => "\\011".to_owned(),
            '\\' => "\\134".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_comments_are_told_apart() {
        let line = entry("/swap.img\tnone swap sw 0 0").unwrap();
        assert_eq!((line.source.as_str(), line.kind, line.options), ("/swap.img", "swap", "sw"));
        assert_eq!(entry("LABEL=x /a\\040b ext4").unwrap().target, "/a b");
        assert_eq!(entry("# /swap.img none swap"), None);
        assert_eq!(entry(""), None);
    }

    #[test]
    fn a_read_only_mount_covers_what_is_below() {
        let mounts = mounted(
            "21 1 0:20 / / rw - ext4 /dev/a rw\n22 21 0:4 / /proc rw - proc proc rw\n\
             23 22 0:4 /sys /proc/sys ro - proc proc rw\n24 23 0:4 /sys/net /proc/sys/net rw shared:1 - proc proc rw",
        );
        assert!(!is_writable(&mounts, "/proc/sys/vm/swappiness"));
        assert!(is_writable(&mounts, "/proc/sys/net/ipv4/ip_forward"));
        assert!(is_writable(&mounts, "/proc/system"));
    }

    #[test]
    fn escapes_round_trip() {
        assert_eq!(unescape(&escape("/a b\\c\td")), "/a b\\c\td");
        assert_eq!(unescape("\\04"), "\\04");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("fstab", &["LABEL=x /a\\040b ext4 ro 0 2\n# none\n"], |text| {
            text.lines().map(|line| entry(line).is_some()).collect::<Vec<_>>()
        });
        total::text("mountinfo", &["23 22 0:4 /sys /proc/sys ro - proc proc rw\n"], |text| {
            is_writable(&mounted(text), "/proc/sys/a")
        });
        total::text("fstab-escape", &["/a b\\c\td"], |text| assert_eq!(unescape(&escape(text)), text));
    }
}
