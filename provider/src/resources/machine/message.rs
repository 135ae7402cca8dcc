//! From the attributes to the specification: an attribute becomes the field of the same name.
//!
//! Models that `model.rs` declares with their message need nothing here. Two are not like theirs: a file, whose content has two
//! attributes, and a command, whose time is written as people do.

use super::decoded;
use super::model::{Command, File};
use crate::agents::machine::{CommandSpec, FileSpec};
use crate::timeouts;
use std::collections::BTreeMap;
use tf::Attr;

/// What a message can be made of. What is unknown is left out, like what is not set.
pub(super) trait To<W> {
    fn to(&self) -> W;
}

/// A field that an attribute with an `M` fills.
pub(super) trait Field<M> {
    fn of(attribute: &Attr<M>) -> Self;
}

impl<M: To<W>, W> Field<M> for Option<W> {
    fn of(attribute: &Attr<M>) -> Self {
        attribute.get().map(To::to)
    }
}

impl<M: To<W>, W> Field<BTreeMap<String, M>> for BTreeMap<String, W> {
    fn of(attribute: &Attr<BTreeMap<String, M>>) -> Self {
        attribute.get().into_iter().flatten().map(|(key, model)| (key.clone(), model.to())).collect()
    }
}

impl Field<Vec<String>> for Vec<String> {
    fn of(attribute: &Attr<Self>) -> Self {
        attribute.or(Self::new())
    }
}

impl Field<String> for String {
    fn of(attribute: &Attr<Self>) -> Self {
        attribute.or("")
    }
}

macro_rules! same {
    ($($own:ty),*) => {$(
        impl To<$own> for $own {
            fn to(&self) -> $own {
                self.clone()
            }
        }
    )*};
}

same!(String, bool);

impl To<FileSpec> for File {
    fn to(&self) -> FileSpec {
        let Self { content, content_base64, mode, owner, group } = self;
        let binary = content_base64.text().map(|text| decoded(text).unwrap_or_default());
        FileSpec {
            content: binary.unwrap_or_else(|| content.or("").into_bytes()).into(),
            mode: Field::of(mode),
            owner: Field::of(owner),
            group: Field::of(group),
        }
    }
}

impl To<CommandSpec> for Command {
    fn to(&self) -> CommandSpec {
        let Self { argv, creates, unless, timeout } = self;
        let time = timeout.text().and_then(timeouts::parse);
        CommandSpec {
            argv: Field::of(argv),
            unless: Field::of(unless),
            creates: Field::of(creates),
            timeout_s: time.and_then(|time| u32::try_from(time.as_secs()).ok()),
        }
    }
}
