//! The Terraform side of a provider, free of anything it provides: values, schema, planning, serving.
//!
//! An author of a resource needs [`Attr`], [`Model`] with its rows, [`Resource`], [`Cx`] and [`Diagnostic`]; `tests/` holds a
//! provider that uses all of it. The way of a call: `serve` → `server` → `wire` → `lifecycle` → the resource → back.

mod attr;
pub mod check;
mod cx;
mod diagnostic;
pub mod docs;
mod ephemeral;
mod generate;
mod held;
mod lifecycle;
mod log;
mod model;
mod number;
mod path;
mod place;
mod plan;
mod promise;
mod resource;
mod schema;
mod serve;
mod server;
#[cfg(test)]
mod sketch;
pub mod testing;
mod value;
mod wire;

pub use attr::{Attr, Secret};
pub use cx::{Cx, Private};
pub use diagnostic::{Diagnostic, Diagnostics, Severity, chain};
pub use ephemeral::{AnyEphemeralResource, EphemeralResource, Opened, ephemeral_resource};
pub use held::{Held, IMPORTED, Written};
pub use model::{Model, Row, block, computed, dump, load, optional, optional_computed, required, stored};
pub use number::Number;
pub use path::{Path, PathStep};
pub use resource::{
    AnyDataSource, AnyResource, DataSource, PlanNotes, Presence, Provider, Resource, data_source, resource,
};
pub use schema::{Attribute, Block, Facts, Form, Given, Shape};
pub use serve::{Mode, serve};
pub use tokio_util::sync::CancellationToken;
pub use value::{Type, Value};
