//! One file per ephemeral resource. None sees another's.

pub(crate) mod kubeconfig;
