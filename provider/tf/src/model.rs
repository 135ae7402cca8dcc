//! Models: a struct of attributes and one method that lists its rows.
//!
//! The rows are the single source of schema, decoding, encoding, planning and the reference page. Start at [`Model`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::attr::Attr;
use crate::check::IntoCheck;
use crate::diagnostic::Diagnostics;
use crate::held::{Held, Written};
use crate::path::Path;
use crate::promise;
use crate::schema::{Attribute, Block, Facts, Form, Given, Shape};
use crate::value::{Type, Value};

/// A struct whose fields are `Attr<…>` and whose rows name each of them once.
///
/// `rows` takes the struct apart with a pattern that has no `..`: a field without a row, or a row without a field, does not compile.
///
/// ```
/// use tf::{Attr, Model, Row, optional, required};
///
/// #[derive(Debug, Clone, Default)]
/// struct Pool {
///     name: Attr<String>,
///     comment: Attr<String>,
/// }
///
/// impl Model for Pool {
///     fn rows(&mut self) -> Vec<Row<'_>> {
///         let Self { name, comment } = self;
///         vec![
///             required("name", name, "Pool name, unique in the cluster.").replaces(),
///             optional("comment", comment, "Free text."),
///         ]
///     }
/// }
/// ```
pub trait Model: fmt::Debug + Clone + Default + Send + Sync + 'static {
    /// One row per attribute, in any order.
    fn rows(&mut self) -> Vec<Row<'_>>;
}

/// One attribute of a model: its facts, and the field that holds its value.
pub struct Row<'a> {
    facts: Facts,
    field: &'a mut dyn Field,
}

/// The configuration must give the value.
pub fn required<'a, T: Held>(name: &'static str, field: &'a mut Attr<T>, doc: impl Into<Cow<'static, str>>) -> Row<'a> {
    Row::new(name, field, doc.into(), Given::Required)
}

/// The configuration may give the value.
pub fn optional<'a, T: Held>(name: &'static str, field: &'a mut Attr<T>, doc: impl Into<Cow<'static, str>>) -> Row<'a> {
    Row::new(name, field, doc.into(), Given::Optional)
}

/// The provider gives the value.
pub fn computed<'a, T: Held>(name: &'static str, field: &'a mut Attr<T>, doc: impl Into<Cow<'static, str>>) -> Row<'a> {
    Row::new(name, field, doc.into(), Given::Computed)
}

/// The configuration may give the value; otherwise the provider does.
pub fn optional_computed<'a, T: Held>(
    name: &'static str,
    field: &'a mut Attr<T>,
    doc: impl Into<Cow<'static, str>>,
) -> Row<'a> {
    Row::new(name, field, doc.into(), Given::OptionalComputed)
}

/// The configuration may give the value, written as `name { … }` for a model and as `name "label" { … }` for a map of models.
///
/// What a person writes by hand is a block: Terraform refuses names in it that do not exist. A map of blocks is never null, and
/// what a plan holds is what the configuration has: there are no defaults for a block as a whole, only for what is in it.
pub fn block<'a, T: Written>(name: &'static str, field: &'a mut Attr<T>, doc: impl Into<Cow<'static, str>>) -> Row<'a> {
    let mut row = Row::new(name, field, doc.into(), Given::Optional);
    row.facts.form = T::FORM;
    row
}

impl<'a> Row<'a> {
    fn new<T: Held>(name: &'static str, field: &'a mut Attr<T>, doc: Cow<'static, str>, given: Given) -> Self {
        let facts = Facts {
            name,
            doc,
            form: Form::Attribute,
            given,
            default: None,
            checks: Vec::new(),
            replaces: false,
            sensitive: T::SECRET,
            write_only: false,
            keep: false,
            first_boot: false,
        };
        Self { facts, field }
    }

    /// A change of the value needs a new object. A computed value is then kept as long as the configuration has none.
    #[must_use]
    pub const fn replaces(mut self) -> Self {
        self.facts.replaces = true;
        self
    }

    /// What a configured value must be like; see [`crate::check`].
    #[must_use]
    pub fn check<Kind>(mut self, check: impl IntoCheck<Kind>) -> Self {
        self.facts.checks.push(check.into_check());
        self
    }

    /// The value if the configuration has none. Terraform then counts the attribute as computed too.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.facts.default = Some(match (self.field.shape(), value.into()) {
            (Shape::Leaf(Type::Set(_)), Value::List(items)) => Value::set(items),
            (_, value) => value,
        });
        self
    }

    /// Hidden in Terraform's output.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.facts.sensitive = true;
        self
    }

    /// Read from the configuration in `create` and `update`, stored nowhere, null everywhere else.
    #[must_use]
    pub const fn write_only(mut self) -> Self {
        self.facts.write_only = true;
        self
    }

    /// A computed value that changes of other attributes do not touch, such as an id: it stays known in plans.
    #[must_use]
    pub const fn keep(mut self) -> Self {
        self.facts.keep = true;
        self
    }

    /// Used at creation only: a later change is recorded and has no effect, and what an import could not know
    /// ([`Attr::imported`]) makes no difference. Applies to everything below the attribute.
    #[must_use]
    pub const fn first_boot(mut self) -> Self {
        self.facts.first_boot = true;
        self
    }

    /// The attribute's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.facts.name
    }

    pub(crate) fn attribute(&self) -> Attribute {
        Attribute { facts: self.facts.clone(), shape: self.field.shape() }
    }

    pub(crate) fn load(&mut self, value: &Value, at: &Path) -> Result<(), Diagnostics> {
        let nothing = self.facts.form.nothing();
        self.field.load(if value.is_null() { &nothing } else { value }, at)
    }

    fn dump(&self) -> Value {
        match self.field.dump() {
            Value::Null => self.facts.form.nothing(),
            // Nobody compares it with a configuration, and Terraform shows texts of several lines as they are.
            value if self.facts.given == Given::Computed => match (self.field.shape(), plainly(value)) {
                (Shape::Leaf(Type::Set(_)), Value::List(items)) => Value::set(items),
                (_, value) => value,
            },
            value => value,
        }
    }

    pub(crate) fn check_rows(&self) {
        self.field.check_rows();
    }
}

/// The texts in a value of somebody else's, fit to be shown.
fn plainly(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(plain::text(&text).into_owned()),
        Value::List(items) => Value::List(items.into_iter().map(plainly).collect()),
        Value::Map(entries) => Value::Map(
            entries.into_iter().map(|(key, value)| (plain::line(&key).into_owned(), plainly(value))).collect(),
        ),
        other => other,
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Row").field(&self.facts.name).finish()
    }
}

/// A field of a model, whatever it holds.
trait Field: Send {
    fn shape(&self) -> Shape;
    fn load(&mut self, value: &Value, at: &Path) -> Result<(), Diagnostics>;
    fn dump(&self) -> Value;
    fn check_rows(&self);
}

impl<T: Held> Field for Attr<T> {
    fn shape(&self) -> Shape {
        T::shape()
    }

    fn load(&mut self, value: &Value, at: &Path) -> Result<(), Diagnostics> {
        *self = match value.bare() {
            Value::Null => Self::Null,
            Value::Unknown => Self::Unknown,
            _ => T::read(value, at)?,
        };
        Ok(())
    }

    fn dump(&self) -> Value {
        match self {
            Self::Known(held) => held.write(),
            Self::Null => Value::Null,
            Self::Unknown => Value::Unknown,
        }
    }

    fn check_rows(&self) {
        T::check_rows();
    }
}

/// Fills a model from an object. An object that is unknown as a whole makes every attribute unknown.
///
/// # Errors
/// All attributes whose value has a form that the model cannot hold, each with its path.
pub fn load<M: Model>(object: &Value) -> Result<M, Diagnostics> {
    load_at(object, &Path::root())
}

pub(crate) fn load_at<M: Model>(object: &Value, at: &Path) -> Result<M, Diagnostics> {
    let mut model = M::default();
    let mut problems = Diagnostics::new();
    for mut row in model.rows() {
        let value = if object.is_unknown() { &Value::Unknown } else { object.attribute(row.name()) };
        if let Err(found) = row.load(value, &at.name(row.name())) {
            problems.extend(found);
        }
    }
    problems.or(model)
}

/// The object that a model stands for.
#[must_use]
pub fn dump<M: Model>(model: &M) -> Value {
    let mut model = model.clone();
    Value::Map(model.rows().iter().map(|row| (row.name().to_owned(), row.dump())).collect::<BTreeMap<_, _>>())
}

/// The same as it may be stored: write-only values are null, and nothing is unknown.
#[must_use]
pub fn stored<M: Model>(model: &M) -> Value {
    promise::outgoing(&Block::of::<M>(), &dump(model))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::attr::Secret;
    use crate::number::Number;

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Disk {
        size_gib: Attr<i64>,
    }

    impl Model for Disk {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { size_gib } = self;
            vec![required("size_gib", size_gib, "Size.")]
        }
    }

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Vm {
        name: Attr<String>,
        disks: Attr<BTreeMap<String, Disk>>,
        tags: Attr<Vec<String>>,
        password: Attr<Secret<String>>,
    }

    impl Model for Vm {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { name, disks, tags, password } = self;
            vec![
                required("name", name, "Name."),
                optional("disks", disks, "Disks."),
                optional("tags", tags, "Tags."),
                optional("password", password, "Password."),
            ]
        }
    }

    fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    #[test]
    fn a_model_is_read_and_written_by_its_rows() {
        let value = object([
            ("name", "web".into()),
            ("disks", object([("scsi0", object([("size_gib", 20.into())]))])),
            ("tags", vec!["a", "b"].into()),
            ("password", "hunter2".into()),
        ]);
        let vm: Vm = load(&value).unwrap();
        assert_eq!(vm.disks.need().unwrap()["scsi0"].size_gib, Attr::Known(20));
        assert_eq!(vm.password.need().unwrap().expose(), "hunter2");
        assert!(dump(&vm) == value);
    }

    #[test]
    fn what_is_missing_is_null_and_what_is_partly_unknown_is_unknown() {
        let vm: Vm = load(&object([("tags", Value::List(vec!["a".into(), Value::Unknown]))])).unwrap();
        assert_eq!(vm, Vm { tags: Attr::Unknown, ..Vm::default() });
        let vm: Vm = load(&object([("disks", object([("scsi0", Value::Unknown)]))])).unwrap();
        assert!(vm.disks.need().unwrap()["scsi0"].size_gib.is_unknown());
    }

    #[test]
    fn every_value_of_another_form_is_reported_with_its_path() {
        let value = object([
            ("name", 1.into()),
            ("disks", object([("scsi0", object([("size_gib", Value::Number(Number::parse("1.5").unwrap()))]))])),
        ]);
        let problems = load::<Vm>(&value).unwrap_err();
        let paths: Vec<String> = problems.iter().map(|problem| problem.path().unwrap().to_string()).collect();
        assert_eq!(paths, ["name", r#"disks["scsi0"].size_gib"#]);
    }

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Told {
        given: Attr<String>,
        drift: Attr<Vec<String>>,
        tags: Attr<BTreeSet<String>>,
    }

    impl Model for Told {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { given, drift, tags } = self;
            vec![optional("given", given, ""), computed("drift", drift, ""), computed("tags", tags, "")]
        }
    }

    #[test]
    fn what_is_computed_is_plain_and_what_is_given_stays_as_it_is() {
        let odd = "b\u{1b}[2J\u{202e}\r\n".to_owned();
        let (drift, tags) = (vec![odd.clone()].into(), BTreeSet::from([odd.clone(), "c".to_owned()]).into());
        let dumped = dump(&Told { given: odd.clone().into(), drift, tags });
        let plain = "b\\u{1b}[2J\\u{202e}\\r\n";
        assert!(*dumped.attribute("given") == Value::from(odd.as_str()));
        assert!(*dumped.attribute("drift") == vec![plain].into());
        assert!(*dumped.attribute("tags") == Value::set(vec![plain.into(), "c".into()]));
        // What stands in a state is not written out again.
        assert!(dump(&load::<Told>(&dumped).unwrap()) == dumped);
    }

    #[test]
    fn a_placeholder_is_known_as_one() {
        use crate::held::is_placeholder;
        assert!(is_placeholder(&Attr::<String>::imported().dump()));
        assert!(is_placeholder(&Attr::<Disk>::imported().dump()));
        assert!(is_placeholder(&Attr::<Vec<String>>::imported().dump()));
        assert!(!is_placeholder(&"debian".into()));
        assert!(!is_placeholder(&Value::Null));
    }
}
