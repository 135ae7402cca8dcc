//! How each script of ours begins that a way into a machine of others runs.

/// Its programs are found where root has them, and speak English.
pub(crate) const SURROUNDINGS: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH LC_ALL=C\n";
