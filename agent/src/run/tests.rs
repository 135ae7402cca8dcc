//! Runs: one at a time, told to whoever listens, now or later.
