//! Drives resources of any model through values.

use std::sync::Arc;

use crate::resource::{AnyDataSource, AnyResource, DataSource, Resource};
use crate::schema::Block;

/// A resource of whatever model, as the server sees it.
pub trait ResourceObject<D>: Send + Sync {
    /// The type's name without the provider's.
    fn name(&self) -> &'static str;
    /// What it is.
    fn doc(&self) -> &'static str;
    /// The version of the stored form.
    fn version(&self) -> i64;
    /// Its attributes.
    fn block(&self) -> Block;
}

/// A data source of whatever model, as the server sees it.
pub trait DataSourceObject<D>: Send + Sync {
    /// The type's name without the provider's.
    fn name(&self) -> &'static str;
    /// What it is.
    fn doc(&self) -> &'static str;
    /// Its attributes.
    fn block(&self) -> Block;
}

struct Wrapped<T>(T);

impl<R: Resource> ResourceObject<R::Data> for Wrapped<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn doc(&self) -> &'static str {
        R::DOC
    }

    fn version(&self) -> i64 {
        R::VERSION
    }

    fn block(&self) -> Block {
        Block::of::<R::Model>()
    }
}

impl<S: DataSource> DataSourceObject<S::Data> for Wrapped<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn doc(&self) -> &'static str {
        S::DOC
    }

    fn block(&self) -> Block {
        Block::of::<S::Model>()
    }
}

pub(crate) fn wrap_resource<R: Resource>(resource: R) -> AnyResource<R::Data> {
    Arc::new(Wrapped(resource))
}

pub(crate) fn wrap_data_source<S: DataSource>(source: S) -> AnyDataSource<S::Data> {
    Arc::new(Wrapped(source))
}
