//! The agents' programs inside this provider, one for each kind of machine, compressed as `build.rs` has put them there.
//!
//! A provider that only plans unpacks none of them.

use flate2::read::DeflateDecoder;
use std::io::Read as _;

include!(concat!(env!("OUT_DIR"), "/agents.rs"));

/// An agent's program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    /// For which machines, as `uname -m` says it.
    pub(super) machine: &'static str,
    packed: &'static [u8],
}

impl Program {
    /// The program as it is run.
    #[expect(clippy::expect_used, reason = "it was packed by our own build, and lies in memory")]
    pub(super) fn unpacked(self) -> Vec<u8> {
        let mut program = Vec::new();
        DeflateDecoder::new(self.packed).read_to_end(&mut program).expect("what the build has packed");
        program
    }

    #[cfg(test)]
    pub(super) fn of(machine: &'static str, program: &[u8]) -> Self {
        use std::io::Write as _;
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(program).unwrap();
        Self { machine, packed: packed.finish().unwrap().leak() }
    }
}
