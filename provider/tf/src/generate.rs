//! Configuration made of a state: what `terraform plan -generate-config-out` writes for an imported object.

use crate::held::is_placeholder;
use crate::place::Place;
use crate::schema::{Attribute, Block, Given};
use crate::value::Value;

/// The object without what only the provider gives and what an import could not know.
pub(crate) fn configuration(block: &Block, state: &Value) -> Value {
    let configured = |attribute: &Attribute| {
        let name = attribute.facts.name;
        (name.to_owned(), field(attribute, state.attribute(name)))
    };
    Value::Map(block.attributes.iter().map(configured).collect())
}

fn field(attribute: &Attribute, state: &Value) -> Value {
    let facts = &attribute.facts;
    let unknowable = facts.first_boot && !facts.form.is_block() && is_placeholder(state);
    if facts.given == Given::Computed || facts.write_only || unknowable {
        return Value::Null;
    }
    let within = |block: &Block, _: Place<'_>, state: &Value| configuration(block, state);
    attribute.shape.rebuilt(state, within).unwrap_or_else(|| state.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::attr::Attr;
    use crate::model::{Model, Row, computed, optional, optional_computed, required};
    use crate::sketch::{json as shown, value};

    #[derive(Debug, Clone, Default)]
    struct Disk {
        size: Attr<i64>,
        volume: Attr<String>,
        format: Attr<String>,
    }

    impl Model for Disk {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { size, volume, format } = self;
            vec![
                required("size", size, ""),
                computed("volume", volume, ""),
                optional_computed("format", format, "").first_boot(),
            ]
        }
    }

    #[derive(Debug, Clone, Default)]
    struct Vm {
        id: Attr<String>,
        name: Attr<String>,
        image: Attr<String>,
        disks: Attr<BTreeMap<String, Disk>>,
    }

    impl Model for Vm {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { id, name, image, disks } = self;
            vec![
                computed("id", id, ""),
                required("name", name, ""),
                optional("image", image, "").first_boot(),
                optional("disks", disks, ""),
            ]
        }
    }

    #[test]
    fn what_nobody_may_or_can_configure_is_left_out() {
        let disk = json!({"size": 5, "volume": "v1", "format": "(imported)"});
        let state = json!({"id": "7", "name": "(imported)", "image": "(imported)", "disks": {"scsi0": disk}});
        assert_eq!(
            shown(&configuration(&Block::of::<Vm>(), &value(&state))),
            json!({
                "id": null, "name": "(imported)", "image": null,
                "disks": {"scsi0": {"size": 5, "volume": null, "format": null}},
            })
        );
    }
}
