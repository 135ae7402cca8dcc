//! The reference pages of a provider, made from its rows: Markdown in the layout of Terraform's registry.
//!
//! Whoever builds a provider keeps the pages in `docs/` and has a test compare them with [`pages`].

use crate::resource::Provider;
use crate::schema::{Attribute, Block, Facts, Form, Given, Shape};
use crate::value::{Type, Value};

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Below `docs`: `resources/vm.md`.
    pub path: String,
    /// Markdown.
    pub text: String,
}

/// What a page is about.
struct Subject<'a> {
    kind: &'a str,
    name: &'a str,
    doc: &'a str,
    block: Block,
}

/// All pages of a provider. `example` reads a file below `examples`, such as `resources/groundwork_vm/resource.tf`.
pub fn pages<P: Provider>(provider: &P, example: impl Fn(&str) -> Option<String>) -> Vec<Page> {
    let mut pages = vec![index::<P>(example("provider/provider.tf"))];
    for resource in provider.resources() {
        let name = format!("{}_{}", P::NAME, resource.name());
        let folder = format!("resources/{name}");
        let subject = Subject { kind: "Resource", name: &name, doc: resource.0.doc(), block: resource.block() };
        let mut text = subject.page::<P>(example(&format!("{folder}/resource.tf")));
        if let Some(command) = example(&format!("{folder}/import.sh")) {
            text.push_str(&section("## Import", "shell", &command));
        }
        pages.push(Page { path: format!("resources/{}.md", resource.name()), text });
    }
    for source in provider.data_sources() {
        let name = format!("{}_{}", P::NAME, source.name());
        let subject = Subject { kind: "Data Source", name: &name, doc: source.0.doc(), block: source.block() };
        let text = subject.page::<P>(example(&format!("data-sources/{name}/data-source.tf")));
        pages.push(Page { path: format!("data-sources/{}.md", source.name()), text });
    }
    for ephemeral in provider.ephemeral_resources() {
        let name = format!("{}_{}", P::NAME, ephemeral.name());
        let (doc, block) = (ephemeral.0.doc(), ephemeral.block());
        let subject = Subject { kind: "Ephemeral Resource", name: &name, doc, block };
        let text = subject.page::<P>(example(&format!("ephemeral-resources/{name}/ephemeral-resource.tf")));
        pages.push(Page { path: format!("ephemeral-resources/{}.md", ephemeral.name()), text });
    }
    pages
}

fn index<P: Provider>(example: Option<String>) -> Page {
    let name = P::NAME;
    let mut text = front(&format!("{name} Provider"), P::DOC, false);
    line(&mut text, &format!("# {name} Provider\n\n{}\n", P::DOC));
    text.push_str(&example.map(|code| section("## Example Usage", "terraform", &code)).unwrap_or_default());
    text.push_str(&schema(&Block::of::<P::Model>()));
    Page { path: "index.md".to_owned(), text }
}

impl Subject<'_> {
    fn page<P: Provider>(&self, example: Option<String>) -> String {
        let Self { kind, name, doc, block } = self;
        let mut text = front(&format!("{name} {kind} - {}", P::NAME), doc, true);
        line(&mut text, &format!("# {name} ({kind})\n\n{doc}\n"));
        text.push_str(&example.map(|code| section("## Example Usage", "terraform", &code)).unwrap_or_default());
        text.push_str(&schema(block));
        text
    }
}

/// What the registry reads and does not show. Only pages of things have a place in the navigation.
fn front(title: &str, doc: &str, placed: bool) -> String {
    let first = doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let subcategory = if placed { "subcategory: \"\"\n" } else { "" };
    format!("---\npage_title: \"{title}\"\n{subcategory}description: |-\n  {first}\n---\n\n")
}

fn section(title: &str, language: &str, code: &str) -> String {
    format!("{title}\n\n```{language}\n{}\n```\n\n", code.trim_end())
}

fn schema(block: &Block) -> String {
    let mut text = "## Schema\n".to_owned();
    let mut nested = Vec::new();
    groups(&mut text, block, "### ", "", &mut nested);
    // Sections of nested attributes and blocks follow in the order in which they are met.
    let mut at = 0;
    while let Some(Nested { path, anchor, block }) = nested.get(at).cloned() {
        line(&mut text, &format!("\n<a id=\"{anchor}\"></a>\n### Nested Schema for `{path}`"));
        groups(&mut text, &block, "", &path, &mut nested);
        at += 1;
    }
    text.push('\n');
    text
}

/// What has a section of its own.
#[derive(Clone)]
struct Nested {
    path: String,
    anchor: String,
    block: Block,
}

/// The attributes of one object: required ones, optional ones, and those that can only be read.
fn groups(text: &mut String, block: &Block, heading: &str, path: &str, nested: &mut Vec<Nested>) {
    let colon = if heading.is_empty() { ":" } else { "" };
    let of = |given: &[Given]| block.attributes.iter().filter(|a| given.contains(&a.facts.given)).collect::<Vec<_>>();
    let all = [
        ("Required", of(&[Given::Required])),
        ("Optional", of(&[Given::Optional, Given::OptionalComputed])),
        ("Read-Only", of(&[Given::Computed])),
    ];
    for (title, attributes) in all {
        if attributes.is_empty() {
            continue;
        }
        line(text, &format!("\n{heading}{title}{colon}\n"));
        for attribute in attributes {
            line(text, &item(attribute, path, nested));
        }
    }
}

fn item(attribute: &Attribute, path: &str, nested: &mut Vec<Nested>) -> String {
    let Facts { name, doc, sensitive, write_only, .. } = &attribute.facts;
    let mut kind = shape(attribute);
    kind.push_str(if *sensitive { ", Sensitive" } else { "" });
    kind.push_str(if *write_only { ", Write-only" } else { "" });
    let mut item = format!("- `{name}` ({kind}) {}", doc.trim());
    for note in notes(&attribute.facts) {
        item = format!("{item} {note}");
    }
    if let Some(block) = attribute.shape.block() {
        let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
        let kind = if attribute.facts.form.is_block() { "nestedblock" } else { "nestedatt" };
        let anchor = format!("{kind}--{}", path.replace('.', "--"));
        item = format!("{item} (see [below for nested schema](#{anchor}))");
        nested.push(Nested { path, anchor, block: block.clone() });
    }
    item
}

/// What rows know, unless the author's own words say it already.
fn notes(facts: &Facts) -> Vec<String> {
    let says = |words: &str| facts.doc.contains(words);
    let default = facts.default.as_ref().filter(|_| !says("Default"));
    let replaces = facts.replaces && facts.given != Given::Computed && !says("new ") && !says("replace");
    let first_boot = facts.first_boot && !facts.replaces && !says("creation only");
    [
        default.map(|value| format!("Default: `{}`.", literal(value))),
        replaces.then(|| "A change makes a new object.".to_owned()),
        first_boot.then(|| "Used at creation only: a later change has no effect.".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn shape(attribute: &Attribute) -> String {
    match attribute.facts.form {
        Form::Attribute => {}
        Form::Block => return "Block".to_owned(),
        Form::LabelledBlocks => return "Block Map".to_owned(),
    }
    match &attribute.shape {
        Shape::Leaf(own) => leaf(own),
        Shape::Single(_) => "Attributes".to_owned(),
        Shape::List(_) => "Attributes List".to_owned(),
        Shape::Map(_) => "Attributes Map".to_owned(),
    }
}

fn leaf(own: &Type) -> String {
    match own {
        Type::String => "String".to_owned(),
        Type::Number => "Number".to_owned(),
        Type::Bool => "Boolean".to_owned(),
        Type::Dynamic => "Dynamic".to_owned(),
        Type::List(element) => format!("List of {}", leaf(element)),
        Type::Set(element) => format!("Set of {}", leaf(element)),
        Type::Map(element) => format!("Map of {}", leaf(element)),
        Type::Object(_) => "Object".to_owned(),
        Type::Tuple(_) => "Tuple".to_owned(),
    }
}

/// A value as a configuration has it.
fn literal(value: &Value) -> String {
    match value.bare() {
        Value::Null | Value::Unknown | Value::Typed(..) => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Map(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key} = {}", literal(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The contract of an object in one line per attribute, for snapshots: a reviewer sees a changed attribute as a changed line.
#[must_use]
pub fn outline(block: &Block) -> String {
    let mut text = String::new();
    outline_of(block, 0, &mut text);
    text
}

fn outline_of(block: &Block, depth: usize, text: &mut String) {
    for attribute in &block.attributes {
        let Attribute { facts, shape: own } = attribute;
        let given = match facts.given {
            Given::Required => "required",
            Given::Optional => "optional",
            Given::Computed => "computed",
            Given::OptionalComputed => "optional, computed",
        };
        let default = facts.default.as_ref().map(|value| format!("default {}", literal(value)));
        let marks = [
            (facts.replaces, "replaces"),
            (facts.sensitive, "sensitive"),
            (facts.write_only, "write-only"),
            (facts.keep, "keep"),
            (facts.first_boot, "first boot"),
        ];
        let marks = marks.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).to_owned());
        let words: Vec<String> = std::iter::once(given.to_owned()).chain(default).chain(marks).collect();
        line(
            text,
            &format!("{:indent$}{}: {} ({})", "", facts.name, shape(attribute), words.join(", "), indent = depth * 2),
        );
        if let Some(block) = own.block() {
            outline_of(block, depth + 1, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::attr::{Attr, Secret};
    use crate::model::{Model, Row, block, computed, optional, required};

    #[derive(Debug, Clone, Default)]
    struct Disk {
        size_gib: Attr<i64>,
    }

    impl Model for Disk {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { size_gib } = self;
            vec![required("size_gib", size_gib, "Size in GiB.")]
        }
    }

    #[derive(Debug, Clone, Default)]
    struct Vm {
        id: Attr<String>,
        name: Attr<String>,
        cores: Attr<i64>,
        key: Attr<Secret<String>>,
        disks: Attr<BTreeMap<String, Disk>>,
        net: Attr<BTreeMap<String, Net>>,
    }

    #[derive(Debug, Clone, Default)]
    struct Net {
        vlan: Attr<Disk>,
    }

    impl Model for Net {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { vlan } = self;
            vec![block("vlan", vlan, "Its VLAN.")]
        }
    }

    impl Model for Vm {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { id, name, cores, key, disks, net } = self;
            vec![
                computed("id", id, "Which one.").keep(),
                required("name", name, "Its name.").replaces(),
                optional("cores", cores, "CPU cores.").default(1),
                optional("key", key, "A key.").write_only(),
                optional("disks", disks, "Disks by slot."),
                block("net", net, "Cards by slot."),
            ]
        }
    }

    #[test]
    fn a_schema_reads_as_in_the_registry() {
        expect_test::expect![[r#"
            ## Schema

            ### Required

            - `name` (String) Its name. A change makes a new object.

            ### Optional

            - `cores` (Number) CPU cores. Default: `1`.
            - `disks` (Attributes Map) Disks by slot. (see [below for nested schema](#nestedatt--disks))
            - `key` (String, Sensitive, Write-only) A key.
            - `net` (Block Map) Cards by slot. (see [below for nested schema](#nestedblock--net))

            ### Read-Only

            - `id` (String) Which one.

            <a id="nestedatt--disks"></a>
            ### Nested Schema for `disks`

            Required:

            - `size_gib` (Number) Size in GiB.

            <a id="nestedblock--net"></a>
            ### Nested Schema for `net`

            Optional:

            - `vlan` (Block) Its VLAN. (see [below for nested schema](#nestedblock--net--vlan))

            <a id="nestedblock--net--vlan"></a>
            ### Nested Schema for `net.vlan`

            Required:

            - `size_gib` (Number) Size in GiB.

        "#]]
        .assert_eq(&schema(&Block::of::<Vm>()));
    }

    #[test]
    fn an_outline_has_a_line_per_attribute() {
        expect_test::expect![[r"
            cores: Number (optional, default 1)
            disks: Attributes Map (optional)
              size_gib: Number (required)
            id: String (computed, keep)
            key: String (optional, sensitive, write-only)
            name: String (required, replaces)
            net: Block Map (optional)
              vlan: Block (optional)
                size_gib: Number (required)
        "]]
        .assert_eq(&outline(&Block::of::<Vm>()));
    }
}
