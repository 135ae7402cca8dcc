//! Text of strangers as it may be shown to people.
//!
//! What Proxmox VE, a machine or a program on it says ends on somebody's terminal. There a control character moves the cursor, a
//! format character turns the line around, and a text without end hides everything else. So all such text passes here once: in
//! the provider where diagnostics, log lines and computed values are made, in the agent where a run's story and the journal are.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything that is no plain character written out, as `\u{1b}`. Line breaks and tabs stay.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    written_out(text, |c| is_plain(c) || matches!(c, '\n' | '\t'))
}

/// The same for what has to be one line: a line break is written out, too.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    written_out(text, is_plain)
}

/// No more than so many characters, and how many were left out.
#[must_use]
pub fn short(text: &str, most: usize) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(most) else { return Cow::Borrowed(text) };
    let (kept, left) = text.split_at(end);
    // What was shortened before is not counted again.
    if left.starts_with('…') && left.ends_with(" more characters)") && left.chars().count() < 40 {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{kept}… ({} more characters)", left.chars().count()))
}

/// A list for people: lines of [`LONGEST`] characters, [`MOST`] of them, and how many were left out.
#[must_use]
pub fn list(lines: Vec<String>) -> Vec<String> {
    // One line takes no more room than what would be said of it, and what was cut before is not cut again.
    let left = if lines.len() > MOST + 1 { lines.len() - MOST } else { 0 };
    let mut list: Vec<String> = lines
        .into_iter()
        .take(MOST + usize::from(left == 0))
        .map(|one| short(&line(&one), LONGEST).into_owned())
        .collect();
    if left > 0 {
        list.push(format!("… and {left} more"));
    }
    list
}

/// Lines of a list. A machine that differs in more has one cause that the first tell of.
pub const MOST: usize = 500;
/// Characters of one line of a list.
pub const LONGEST: usize = 1_000;

fn written_out(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if stays(c) => out.push(c),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            // Writing to a string does not fail.
            c => drop(write!(out, "{}", c.escape_unicode())),
        }
    }
    Cow::Owned(out)
}

/// Neither a control (Cc) nor a format character (Cf), nor a line or paragraph separator (Zl, Zp). Source: Unicode 16.0,
/// `DerivedGeneralCategory.txt`.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        assert_eq!(text("\u{1b}[2J\u{7}gone\r\u{9b}1m"), r"\u{1b}[2J\u{7}gone\r\u{9b}1m");
        assert_eq!(
            text("a\u{202e}b\u{2066}c\u{200f}d\u{feff}e\u{e0041}"),
            r"a\u{202e}b\u{2066}c\u{200f}d\u{feff}e\u{e0041}"
        );
        assert_eq!(text("Größe: 1\n\t日本語 🦀 “quoted” \\n"), "Größe: 1\n\t日本語 🦀 “quoted” \\n");
        assert_eq!(line("a\nb"), r"a\nb");
    }

    #[test]
    fn what_is_too_long_says_how_much_is_left_out() {
        assert_eq!(short("äöü", 3), "äöü");
        assert_eq!(short("äöüß", 3), "äöü… (1 more characters)");
        let lines = list((0..300_000).map(|n| n.to_string()).collect());
        assert_eq!((lines.len(), lines[MOST].as_str()), (MOST + 1, "… and 299500 more"));
        assert_eq!(list(lines.clone()), lines);
    }

    proptest! {
        #[test]
        fn nothing_but_plain_characters_is_left(any in any::<String>(), odd in "[\\x00-\\x1f\\x7f-\\u{9f}\\u{2028}-\\u{202e}\\u{2066}-\\u{2069}a]*") {
            for all in [any, odd] {
                let shown = text(&all);
                prop_assert!(shown.chars().all(|c| is_plain(c) || c == '\n' || c == '\t'));
                prop_assert!(line(&all).chars().all(is_plain));
                // Said twice is said once: what stands in a state is not written out again.
                prop_assert_eq!(text(&shown), shown.clone());
                if all.chars().all(is_plain) {
                    prop_assert_eq!(&shown, &all);
                }
            }
        }

        #[test]
        fn a_short_text_is_short_and_stays_as_it_is(any in any::<String>(), most in 0_usize..50) {
            let once = short(&any, most);
            prop_assert!(once.chars().count() <= most + 40);
            prop_assert_eq!(short(&once, most), once.clone());
        }
    }
}
