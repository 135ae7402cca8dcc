//! What a program printed, as an error shows it.

/// The last lines of its errors or, where there are none, of its output.
pub(crate) fn last_lines(stdout: &str, stderr: &str) -> Vec<String> {
    let text = if stderr.trim().is_empty() { stdout } else { stderr };
    let mut lines: Vec<String> = text.lines().map(|line| plain::line(line).into_owned()).collect();
    lines.split_off(lines.len().saturating_sub(LAST_LINES))
}

/// The lines, after what they are about.
pub(crate) fn after(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" / ")) }
}

const LAST_LINES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_before_what_was_printed_and_the_end_counts() {
        assert_eq!(last_lines("out\n", "\n"), ["out"]);
        assert_eq!(last_lines("out\n", "err\n"), ["err"]);
        assert_eq!(last_lines("", &"x\n".repeat(9)).len(), 6);
        assert_eq!((after(&[]).as_str(), after(&["a".into(), "b".into()]).as_str()), ("", ": a / b"));
    }
}
