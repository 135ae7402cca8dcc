//! A block of ours in a file of others, between two marks. Lines outside of it are not ours.

use crate::change::StepError;

/// What is not ours, and our block with its marks.
///
/// # Errors
/// When a mark is missing: then nothing tells where our lines end.
pub(super) fn split(path: &str, text: &str) -> Result<(String, String), StepError> {
    let (mut rest, mut block, mut inside) = (String::new(), String::new(), false);
    for line in text.lines() {
        match (line.trim_end(), inside) {
            (BEGIN, true) => return Err(unclear(path)),
            // Its beginning was taken away; what stood between is the user's now.
            (END, false) => continue,
            (BEGIN, false) => inside = true,
            (_, _) => {}
        }
        let to = if inside { &mut block } else { &mut rest };
        to.push_str(line);
        to.push('\n');
        inside &= line.trim_end() != END;
    }
    if inside { Err(unclear(path)) } else { Ok((rest, block)) }
}

fn unclear(path: &str) -> StepError {
    let why =
        format!("it has a line {BEGIN:?} without its {END:?}; put that back after the last line that is Groundwork's");
    StepError::refused(format!("changing {path}"), why)
}

/// Before the first line that is ours.
pub(super) const BEGIN: &str = "# BEGIN groundwork";
/// After the last one.
pub(super) const END: &str = "# END groundwork";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_ours() {
        let text = format!("127.0.0.1 localhost\n{BEGIN}\n10.0.0.1\ta\n{END}\n::1 localhost\n");
        let (rest, block) = split("/etc/hosts", &text).unwrap();
        assert_eq!(rest, "127.0.0.1 localhost\n::1 localhost\n");
        assert_eq!(block, format!("{BEGIN}\n10.0.0.1\ta\n{END}\n"));
    }

    #[test]
    fn without_its_end_nothing_is_taken_for_ours() {
        for text in [format!("{BEGIN}\na\nb\n"), format!("{BEGIN}\na\n{BEGIN}\nb\n{END}\n")] {
            let refused = split("/etc/hosts", &text).unwrap_err().to_string();
            assert!(refused.starts_with("changing /etc/hosts is refused: "), "{refused}");
        }
        let (rest, block) = split("/etc/hosts", &format!("a\n{END}\nb\n")).unwrap();
        assert_eq!((rest.as_str(), block.as_str()), ("a\nb\n", ""));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("block", &["a\n# BEGIN groundwork\nb\n# END groundwork\nc\n"], |text| split("/x", text).ok());
    }
}
