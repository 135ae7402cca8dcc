//! What a row of an option table says, and all that follows from it: the attribute with its checks and documentation, what is
//! written, what is read back, the default of new VMs, and what a change does. The tables are in `options`, `disks` and `cards`.
//!
//! An option is one of the VM (`cores`), or of the property string of a device (`discard` of `scsi0`). Pure.

use std::any::Any;

use pve::PropertyString;
use tf::check::{Check, IntoCheck as _, Verdict, at_least, between, one_of};
use tf::{Attr, Held, Value, optional_computed, required};

use super::checks;
use super::effect::{Attribute, Effect, Takes};

/// A row of a table.
pub(super) struct VmOption<'a, T> {
    /// Our name for it.
    pub(super) attribute: &'static str,
    pub(super) field: &'a mut Attr<T>,
    /// Proxmox VE's name for it.
    pub(super) key: &'static str,
    /// Its values, and how Proxmox VE writes them.
    pub(super) form: Form<T>,
    /// What there is while the key is not written; `None` if that is no value.
    pub(super) absent: Option<T>,
    /// What a new one gets if the configuration does not say.
    pub(super) new: New<T>,
    /// When a change is in force.
    pub(super) takes: Takes,
    /// What the API token needs on the VM to write it.
    pub(super) privilege: &'static str,
    /// The documentation, but for the default and the effect of a change.
    pub(super) doc: &'static str,
}

/// What a new VM or device gets if the configuration does not say.
#[derive(Debug, Clone, Copy)]
pub(super) enum New<T> {
    /// This value.
    Value(T),
    /// Nothing: the attribute is null.
    Nothing,
    /// What Proxmox VE chooses, known only afterwards.
    Chosen,
    /// The configuration must say.
    Given,
}

/// The values of an option, and how Proxmox VE writes them.
pub(super) struct Form<T> {
    pub(super) values: Values,
    /// The value of a text; `None` if it says none.
    pub(super) read: fn(&str) -> Option<T>,
    /// The text of a value, given the one that is there, which may say more; `None` takes the key away.
    pub(super) write: fn(&T, Option<&str>) -> Option<String>,
    /// Whether two values mean the same.
    pub(super) same: fn(&T, &T) -> bool,
}

/// What an option may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values {
    Flag,
    /// A whole number, up to the second if there is one.
    Whole(i64, Option<i64>),
    /// A number of MiB, at least this.
    Mib(i64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A name or word that Proxmox VE knows.
    Name(fn(&str) -> Verdict),
    /// Text of the user's own, which plans do not show.
    Text(fn(&str) -> Verdict),
    /// Any number of texts.
    Each(fn(&str) -> Verdict),
}

impl Values {
    fn check(self) -> Option<Check> {
        Some(match self {
            Self::Flag => return None,
            Self::Whole(low, Some(high)) => between(low, high).into_check(),
            Self::Whole(low, None) => at_least(low).into_check(),
            Self::Mib(low) => checks::mib(low).into_check(),
            Self::Words(words) => one_of(words).into_check(),
            Self::Name(rule) | Self::Text(rule) | Self::Each(rule) => rule.into_check(),
        })
    }

    /// Whether plans show a text of these.
    const fn are_names(self) -> bool {
        matches!(self, Self::Words(_) | Self::Name(_))
    }
}

/// `1` or `0`
pub(super) const fn flag() -> Form<bool> {
    Form { values: Values::Flag, read: truth, write: |on, _| Some(u8::from(*on).to_string()), same: PartialEq::eq }
}

/// `1`, or no key
pub(super) const fn flag_if_on() -> Form<bool> {
    Form { write: |on, _| on.then(|| "1".to_owned()), ..flag() }
}

/// `0`, or no key
pub(super) const fn flag_if_off() -> Form<bool> {
    Form { write: |on, _| (!on).then(|| "0".to_owned()), ..flag() }
}

fn truth(text: &str) -> Option<bool> {
    PropertyString::parse(&format!("flag={text}")).truth("flag")
}

pub(super) const fn whole(low: i64, high: Option<i64>) -> Form<i64> {
    Form {
        values: Values::Whole(low, high),
        read: |text| text.parse().ok(),
        write: |number, _| Some(number.to_string()),
        same: PartialEq::eq,
    }
}

/// A text as it stands.
pub(super) const fn text(values: Values) -> Form<String> {
    Form {
        values,
        read: |text| Some(text.to_owned()),
        write: |text, _| Some(text.clone()).filter(|text| !text.is_empty()),
        same: PartialEq::eq,
    }
}

/// A row, whatever its values are.
pub(super) trait AnyOption<'a> {
    fn facts(&self) -> Facts;
    /// Reads what is there. A value that means the same keeps its spelling.
    fn fill(&mut self, there: Option<&str>);
    /// Gives what is unknown the default of new ones.
    fn default_if_unknown(&mut self);
    /// The same for what is null too.
    fn default_if_not_given(&mut self);
    /// What is to be written where this is; `None` if nothing is.
    fn difference(&self, there: Option<&str>) -> Option<Write>;
    /// Takes over an earlier value that means the same: spelling is no change.
    fn keep_spelling(&mut self, before: &dyn AnyOption<'_>);
    fn held(&self) -> &dyn Any;
    /// The attribute. `default` reads `Default for new VMs`.
    fn attribute(self: Box<Self>, default: &str) -> Attribute<'a>;
}

/// Of a row, whatever its values are.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "tests compare rows with Proxmox VE's schema and the guide of privileges")
)]
pub(super) struct Facts {
    pub(super) attribute: &'static str,
    pub(super) key: &'static str,
    pub(super) values: Values,
    pub(super) takes: Takes,
    pub(super) privilege: &'static str,
}

/// A write of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Set(String),
    /// Takes the key away.
    Away,
}

/// The rows of one table.
pub(super) type Table<'a> = Vec<Box<dyn AnyOption<'a> + 'a>>;

impl<'a, T: Held> VmOption<'a, T> {
    /// The row in its table.
    pub(super) fn row(self) -> Box<dyn AnyOption<'a> + 'a> {
        Box::new(self)
    }

    fn seen(&self, there: Option<&str>) -> Option<T> {
        there.and_then(self.form.read).or_else(|| self.absent.clone())
    }
}

impl<'a, T: Held> AnyOption<'a> for VmOption<'a, T> {
    fn facts(&self) -> Facts {
        let Self { attribute, key, takes, privilege, .. } = *self;
        Facts { attribute, key, values: self.form.values, takes, privilege }
    }

    fn fill(&mut self, there: Option<&str>) {
        let seen = self.seen(there);
        let same = matches!((self.field.get(), &seen), (Some(own), Some(seen)) if (self.form.same)(own, seen));
        if !same {
            self.field.put(seen);
        }
    }

    fn default_if_unknown(&mut self) {
        if !self.field.is_unknown() {
            return;
        }
        match &self.new {
            New::Value(value) => self.field.set(value.clone()),
            New::Nothing => *self.field = Attr::Null,
            New::Chosen | New::Given => {}
        }
    }

    fn default_if_not_given(&mut self) {
        if !self.field.is_known() {
            *self.field = Attr::Unknown;
            self.default_if_unknown();
        }
    }

    fn difference(&self, there: Option<&str>) -> Option<Write> {
        let wanted = self.field.get()?;
        if self.seen(there).is_some_and(|seen| (self.form.same)(wanted, &seen)) {
            return None;
        }
        Some((self.form.write)(wanted, there).map_or(Write::Away, Write::Set))
    }

    fn keep_spelling(&mut self, before: &dyn AnyOption<'_>) {
        let before = before.held().downcast_ref::<Attr<T>>().and_then(Attr::get);
        if let (Some(old), Some(new)) = (before, self.field.get())
            && (self.form.same)(old, new)
        {
            self.field.set(old.clone());
        }
    }

    fn held(&self) -> &dyn Any {
        &*self.field
    }

    fn attribute(self: Box<Self>, default: &str) -> Attribute<'a> {
        let Self { attribute, field, form, new, takes, doc, .. } = *self;
        let doc = documentation(doc, &new, takes, default);
        let row = match new {
            New::Given => required(attribute, field, doc),
            New::Value(_) | New::Nothing | New::Chosen if takes == Takes::NewMachine => {
                optional_computed(attribute, field, doc).replaces()
            }
            New::Value(_) | New::Nothing | New::Chosen => optional_computed(attribute, field, doc).keep(),
        };
        let row = match form.values.check() {
            Some(check) => row.check(check),
            None => row,
        };
        let attribute = Attribute::new(row, Effect::Option(takes));
        if form.values.are_names() { attribute.name() } else { attribute }
    }
}

/// What a row says, its default, and what a change costs.
fn documentation<T: Held>(doc: &str, new: &New<T>, takes: Takes, default: &str) -> String {
    let value = match new {
        New::Value(value) => shown(&value.write()),
        New::Nothing | New::Chosen | New::Given => None,
    };
    let default = value.map(|value| format!(" {default}: {value}.")).unwrap_or_default();
    format!("{doc}{default}{}", takes.documentation())
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(format!("`{bool}`")),
        Value::String(text) => Some(format!("`{text}`")),
        Value::Null | Value::Unknown | Value::List(_) | Value::Map(_) | Value::Typed(..) => None,
    }
}

/// A table as attributes. `default` reads `Default for new VMs`.
pub(super) fn attributes<'a>(table: Table<'a>, default: &str) -> impl Iterator<Item = Attribute<'a>> {
    table.into_iter().map(move |option| option.attribute(default))
}

/// Reads a table back. `there` gives the text of a key.
pub(super) fn fill<'t>(table: Table<'_>, there: impl Fn(&str) -> Option<&'t str>) {
    for mut option in table {
        let text = there(option.facts().key);
        option.fill(text);
    }
}

/// Takes over earlier values that mean the same.
pub(super) fn keep_spelling(before: Table<'_>, table: Table<'_>) {
    for (mut option, before) in table.into_iter().zip(before) {
        option.keep_spelling(&*before);
    }
}

/// Writes a table into a property string.
pub(super) fn write(table: Table<'_>, text: &mut PropertyString) {
    for option in table {
        let key = option.facts().key;
        match option.difference(text.get(key)) {
            Some(Write::Set(value)) => text.set(key, value),
            Some(Write::Away) => text.remove(key),
            None => {}
        }
    }
}
