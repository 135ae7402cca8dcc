//! An imitation of a machine, for tests.
