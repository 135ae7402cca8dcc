//! For tests: a parser of outside bytes is *total*. Whatever it is given, it answers: it does not panic, it comes to an end, and its
//! answer is no larger than what it was given accounts for.
//!
//! A parser is one line of a test, beside whatever else is tested of it:
//!
//! ```ignore
//! total::text("dpkg", &["Package: a\nStatus: install ok installed\nVersion: 1\n"], Packages::parse);
//! ```
//!
//! What it is given are the seeds, which are good, the files of `corpus/NAME`, which once were too much, and both of them spoilt in a
//! fixed number of ways that are the same in every run. What fails is made as small as it can be and kept in `corpus/NAME`: it is
//! committed with its mending.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// A parser of text.
///
/// # Panics
/// If there is something that it does not answer.
pub fn text<R: Debug>(name: &str, seeds: &[&str], parse: impl Fn(&str) -> R) {
    let seeds: Vec<_> = seeds.iter().map(|seed| seed.as_bytes()).collect();
    bytes(name, &seeds, |bytes| parse(&String::from_utf8_lossy(bytes)));
}

/// A parser of bytes.
///
/// # Panics
/// If there is something that it does not answer.
pub fn bytes<R: Debug>(name: &str, seeds: &[&[u8]], parse: impl Fn(&[u8]) -> R) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut all: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    all.extend(kept(&folder));
    let answer = |input: &[u8]| {
        let mut size = Size { left: input.len() * PER_BYTE + ALWAYS };
        let told = write!(size, "{:?}", parse(input));
        told.map_err(|_| TestCaseError::fail("its answer is much larger than what it was given"))
    };
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    // As they are, first.
    for input in all.iter().cloned().chain(nested()) {
        if let Err(why) = answer(&input) {
            panic!("{name} does not answer {:?}: {why}", input.escape_ascii().to_string());
        }
    }
    match runner.run(&spoilt(all.len()), |(seed, spoils)| answer(&spoil(&all, seed, &spoils))) {
        Ok(()) => {}
        Err(TestError::Fail(why, (seed, spoils))) => {
            let input = spoil(&all, seed, &spoils);
            let kept = keep(&folder, &input);
            panic!("{name} does not answer {:?}: {why}\nkept as {}", input.escape_ascii().to_string(), kept.display());
        }
        Err(TestError::Abort(why)) => panic!("{name} was not asked everything: {why}"),
    }
}

/// One way to spoil an input: what is done, where, how far, and which piece of [`PIECES`].
type Spoil = (u8, usize, usize, usize);

fn spoilt(seeds: usize) -> impl Strategy<Value = (usize, Vec<Spoil>)> {
    (0..seeds.max(1), vec(any::<Spoil>(), 1..8))
}

fn spoil(all: &[Vec<u8>], seed: usize, spoils: &[Spoil]) -> Vec<u8> {
    let mut input = all.get(seed).cloned().unwrap_or_default();
    for (what, at, far, piece) in spoils {
        let at = at % (input.len() + 1);
        let end = at + far % (input.len() - at + 1);
        let piece = PIECES[piece % PIECES.len()];
        match what % 6 {
            // Changed, cut, doubled, put in, put in the place of something, joined with another.
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = byte.wrapping_add(*what | 1)),
            1 => drop(input.drain(at..end)),
            2 if input.len() < MOST => input.extend_from_within(at..end),
            3 => drop(input.splice(at..at, piece.iter().copied())),
            4 => drop(input.splice(at..end, piece.iter().copied())),
            5 if input.len() < MOST => {
                let other = all.get(far % all.len().max(1)).cloned().unwrap_or_default();
                drop(input.splice(at.., other));
            }
            _ => {}
        }
    }
    input
}

/// What ends the stack of a parser that calls itself for each bracket.
fn nested() -> [Vec<u8>; 3] {
    [b"[".as_slice(), b"{\"a\":", b"((("].map(|part| part.repeat(20_000))
}

fn kept(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test leaves a file to be committed")]
fn keep(folder: &Path, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = folder.join(format!("{:016x}", hasher.finish()));
    let kept = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, input));
    assert!(kept.is_ok(), "{} cannot be written: {kept:?}", path.display());
    path
}

/// Counts instead of keeping.
struct Size {
    left: usize,
}

impl fmt::Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// Ways in which each parser's inputs are spoilt.
const CASES: u32 = 512;
/// Bytes of an answer, printed with all its names, for each one of the input, and for none.
const PER_BYTE: usize = 200;
const ALWAYS: usize = 64 << 10;
/// Bytes of an input that grows no more.
const MOST: usize = 64 << 10;
/// What parsers stumble over: the ends of numbers, of lines and of letters, and everything that opens, closes or separates.
const PIECES: [&[u8]; 40] = [
    b"0",
    b"-1",
    b"1e999",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"9223372036854775807",
    b"99999999999999999999999999999999",
    b"0x",
    b"NaN",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b"\\",
    b"\\0",
    b"\\777",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b":",
    b"::",
    b"=",
    b",",
    b"/",
    b"..",
    b"%",
    b"%2",
    b"\xff",
    b"\xc3",
    "\u{1d11e}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{0130}".as_bytes(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{RefUnwindSafe, catch_unwind};

    #[track_caller]
    fn check(name: &str, run: &(dyn Fn() + RefUnwindSafe)) {
        assert!(catch_unwind(run).is_err(), "{name}");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let kept = kept(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(kept.len() == 1 && kept[0].len() <= 16, "{kept:?}");
    }

    #[test]
    fn a_parser_that_answers_passes() {
        text("total-good", &["a=1"], |text| {
            text.split_once('=').map(|(key, value)| (key.to_owned(), value.parse::<u8>().ok()))
        });
    }

    #[test]
    fn what_panics_or_says_too_much_is_found_made_small_and_kept() {
        let indexed = || text("total-index", &["a=1"], |text| assert!(!text.contains('9'), "a nine"));
        let endless =
            || bytes("total-long", &[b"7"], |input| "x".repeat(if input.contains(&b'%') { 1 << 20 } else { 1 }));
        check("total-index", &indexed);
        check("total-long", &endless);
    }
}
