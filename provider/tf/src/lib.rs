//! The Terraform side of a provider: values, schema, planning, the plugin protocol.
