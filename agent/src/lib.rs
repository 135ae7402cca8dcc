//! The node agent: converges a machine's operating system and runs its Kubernetes operations.
