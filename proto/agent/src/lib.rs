//! The contract between the provider and the node agent, as generated code.
