//! What both ends of the agent connection compute alike: enrolment proofs, roles, key pins.
