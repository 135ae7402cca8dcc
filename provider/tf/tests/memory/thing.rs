//! `memory_thing`: every kind of attribute and row, and on request (`behave`) every way to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value as Json;
use tf::{
    Attr, Cx, Diagnostic, Diagnostics, Model, Number, Path, PlanNotes, Presence, Resource, Row, Secret, Value, block,
    check, computed, optional, optional_computed, required,
};

use crate::store::{Object, Store};

pub(crate) struct ThingResource;

#[derive(Debug, Clone, Default)]
pub(crate) struct Thing {
    id: Attr<String>,
    name: Attr<String>,
    size: Attr<i64>,
    zone: Attr<String>,
    ratio: Attr<Number>,
    big: Attr<Number>,
    labels: Attr<BTreeMap<String, String>>,
    tags: Attr<BTreeSet<String>>,
    notes: Attr<Vec<String>>,
    anything: Attr<Value>,
    token: Attr<Secret<String>>,
    password_wo: Attr<Secret<String>>,
    password_wo_version: Attr<i64>,
    parts: Attr<BTreeMap<String, Part>>,
    links: Attr<Vec<Link>>,
    settings: Attr<Settings>,
    image: Attr<String>,
    seed: Attr<Settings>,
    shelf: Attr<BTreeMap<String, Shelf>>,
    origin: Attr<Origin>,
    revision: Attr<i64>,
    faults: Attr<Vec<String>>,
    behave: Attr<String>,
}

impl Model for Thing {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            id,
            name,
            size,
            zone,
            ratio,
            big,
            labels,
            tags,
            notes,
            anything,
            token,
            password_wo,
            password_wo_version,
            parts,
            links,
            settings,
            image,
            seed,
            shelf,
            origin,
            revision,
            faults,
            behave,
        } = self;
        vec![
            computed("id", id, "Which thing.").keep(),
            required("name", name, "Its name.").check(check::not_blank),
            optional("size", size, "Its size.").default(1).check(check::between(1, 100)),
            optional("zone", zone, "Where it is.").replaces(),
            optional("ratio", ratio, "A fraction."),
            optional("big", big, "A number of any size."),
            optional("labels", labels, "Labels.").check(check::keys(check::one_of(&["env", "owner", "peer"]))),
            optional("tags", tags, "Tags.").default(vec!["b", "a"]),
            optional("notes", notes, "Notes."),
            optional("anything", anything, "Whatever."),
            optional("token", token, "A secret that is stored."),
            optional("password_wo", password_wo, "A secret that is not stored.").write_only(),
            optional("password_wo_version", password_wo_version, "Raise it to send the password again."),
            optional("parts", parts, "Parts by slot."),
            optional("links", links, "Links in order."),
            optional_computed("settings", settings, "Settings."),
            optional("image", image, "What it was made from.").first_boot(),
            optional("seed", seed, "What it was told first.").first_boot(),
            block("shelf", shelf, "Shelves by place.").check(check::keys(check::one_of(&["top", "middle", "bottom"]))),
            block("origin", origin, "Where it came from.").first_boot(),
            computed("revision", revision, "Counts the changes."),
            computed("faults", faults, "What is wrong with it; an apply repairs it."),
            optional("behave", behave, "How to fail."),
        ]
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    size: Attr<i64>,
    serial: Attr<String>,
}

impl Model for Part {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { size, serial } = self;
        vec![
            required("size", size, "Its size.").check(check::at_least(1)),
            computed("serial", serial, "Its number.").keep(),
        ]
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    to: Attr<String>,
    weight: Attr<i64>,
}

impl Model for Link {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { to, weight } = self;
        vec![required("to", to, "Where to."), optional("weight", weight, "How much.").default(10)]
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    level: Attr<i64>,
    mode: Attr<String>,
}

impl Model for Settings {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { level, mode } = self;
        vec![
            optional("level", level, "How much.").default(3),
            optional("mode", mode, "Which way.").check(check::one_of(&["slow", "fast"])),
        ]
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    width: Attr<i64>,
    depth: Attr<i64>,
    serial: Attr<String>,
    lock_wo: Attr<Secret<String>>,
    colours: Attr<BTreeMap<String, String>>,
    light: Attr<Settings>,
    book: Attr<BTreeMap<String, Part>>,
}

impl Model for Shelf {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { width, depth, serial, lock_wo, colours, light, book } = self;
        vec![
            required("width", width, "Its width.").check(check::at_least(1)),
            optional("depth", depth, "Its depth.").default(30),
            computed("serial", serial, "Its number.").keep(),
            optional("lock_wo", lock_wo, "The code of its lock.").write_only(),
            optional("colours", colours, "Colours of its parts.").check(check::one_of(&["red", "blue"])),
            block("light", light, "Its light."),
            block("book", book, "Books by title."),
        ]
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    country: Attr<String>,
    year: Attr<i64>,
}

impl Model for Origin {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { country, year } = self;
        vec![required("country", country, "Which country."), optional_computed("year", year, "Which year.").keep()]
    }
}

impl Resource for ThingResource {
    type Data = Store;
    type Model = Thing;

    const NAME: &'static str = "thing";
    const DOC: &'static str = "A thing.";
    const VERSION: i64 = 1;

    async fn create(&self, cx: &Cx<Store>, m: &mut Thing) -> Result<(), Diagnostics> {
        let name = m.name.need()?.clone();
        if m.behave.text() == Some("fail before the id") {
            return Err(failure("create", &name, "Nothing was created."));
        }
        let id = format!("id-{name}");
        m.id.set(id.clone());
        cx.save(&id, &m.object(1, &Object::default()))?;
        cx.private().set("made", &true);
        tracing::info!(thing = id, "made a thing");
        m.misbehave(cx, "create").await?;
        m.fill_parts();
        Ok(())
    }

    async fn read(&self, cx: &Cx<Store>, m: &mut Thing) -> Result<Presence, Diagnostics> {
        let Some(object) = cx.find(m.id.need()?)? else { return Ok(Presence::Gone) };
        m.name.set(object.name);
        m.size.set(object.size);
        m.revision.set(object.revision);
        m.faults.set(object.faults);
        if let Some(shelves) = m.shelf.get_mut() {
            for (place, width) in object.shelf_widths {
                shelves.entry(place).or_default().width.set(width);
            }
        }
        if let Some(origin) = m.origin.get_mut()
            && origin.year.is_unknown()
        {
            origin.year.set(1984);
        }
        if m.settings.is_unknown() {
            m.settings.set(Settings { level: 7.into(), mode: Attr::Null });
        }
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx<Store>, prior: &Thing, m: &mut Thing) -> Result<(), Diagnostics> {
        let id = m.id.need()?.clone();
        let before = cx.find(&id)?.unwrap_or_default();
        if cx.private().get::<bool>("made") != Some(true) && m.image.text() != Some(tf::IMPORTED) {
            return Err(failure("update", &id, "The private state is lost."));
        }
        m.misbehave(cx, "update").await?;
        let same = prior.password_wo_version == m.password_wo_version;
        let kept = Object { password_length: if same { before.password_length } else { 0 }, ..before };
        cx.save(&id, &m.object(kept.revision + 1, &kept))?;
        m.fill_parts();
        Ok(())
    }

    async fn delete(&self, cx: &Cx<Store>, m: &Thing) -> Result<(), Diagnostics> {
        if m.behave.text() == Some("fail to delete") {
            return Err(failure("delete", m.id.need()?, "It is still there."));
        }
        Ok(cx.remove(m.id.need()?)?)
    }

    fn validate(&self, m: &Thing) -> Diagnostics {
        if let Some(shelves) = m.shelf.get()
            && shelves.contains_key("bottom")
            && !shelves.contains_key("top")
        {
            let at = Path::from("shelf").key("bottom");
            return Diagnostic::error("Cannot fit the shelf").happened("A top comes first.").at(at).into();
        }
        match (m.size.get(), m.parts.get()) {
            (Some(1), Some(parts)) if parts.len() > 2 => {
                Diagnostic::error("Cannot fit the parts").happened("Size 1 has room for two.").at("parts").into()
            }
            _ => Diagnostics::new(),
        }
    }

    fn plan(&self, prior: Option<&Thing>, _config: &Thing, m: &mut Thing, notes: &mut PlanNotes) {
        let Some(prior) = prior else { return };
        if prior.faults.get().is_some_and(|faults| !faults.is_empty()) {
            m.faults.set(Vec::new());
        }
        if let (Some(before), Some(after)) = (prior.size.get(), m.size.get())
            && after < before
        {
            notes.replace("size");
            notes.warn(Diagnostic::warning("Cannot shrink a thing").happened("It will be made anew.").at("size"));
        }
    }

    fn plan_destroy(&self, prior: &Thing, notes: &mut PlanNotes) {
        if notes.private().get::<bool>("made") != Some(true) {
            notes.error(Diagnostic::error("Cannot destroy this thing").happened("The private state is lost."));
        }
        if prior.behave.text() == Some("refuse to be destroyed") {
            notes.error(Diagnostic::error("Cannot destroy this thing").happened("It refuses."));
        }
    }

    async fn import(&self, cx: &Cx<Store>, id: &str) -> Result<Thing, Diagnostics> {
        if !id.starts_with("id-") {
            cx.warn(Diagnostic::warning("Cannot guess ids").happened("They are in the folder of the objects."));
            return Err(Diagnostic::error(format!("Cannot import thing {id}"))
                .happened("Ids begin with `id-`.")
                .into());
        }
        cx.private().set("made", &true);
        let placeholders = Thing { image: Attr::imported(), seed: Attr::imported(), ..Thing::default() };
        Ok(Thing { id: id.into(), ..placeholders })
    }

    fn upgrade(&self, version: i64, mut stored: Json) -> Result<Json, Diagnostics> {
        let title = stored.as_object_mut().and_then(|object| object.remove("title"));
        match (version, title) {
            (0, Some(title)) => {
                stored["name"] = title;
                Ok(stored)
            }
            _ => Err(failure("upgrade", "?", "Its version is unknown.")),
        }
    }
}

impl Thing {
    fn object(&self, revision: i64, kept: &Object) -> Object {
        let locks = self.shelf.get().into_iter().flatten();
        let locks = locks.filter_map(|(place, shelf)| Some((place.clone(), shelf.lock_wo.get()?.expose().len())));
        Object {
            lock_lengths: locks.collect(),
            shelf_widths: BTreeMap::new(),
            name: self.name.or(""),
            size: self.size.or(0),
            revision,
            password_length: self.password_wo.get().map_or(kept.password_length, |secret| secret.expose().len()),
            faults: Vec::new(),
        }
    }

    fn fill_parts(&mut self) {
        fill(self.parts.get_mut());
        for (place, shelf) in self.shelf.get_mut().into_iter().flatten() {
            if shelf.serial.is_unknown() {
                shelf.serial.set(format!("serial-{place}"));
            }
            fill(shelf.book.get_mut());
        }
    }

    async fn misbehave(&self, cx: &Cx<Store>, what: &str) -> Result<(), Diagnostics> {
        let name = self.name.or("");
        match self.behave.text() {
            Some("fail") => Err(failure(what, &name, "It exists.")),
            Some("panic") => panic!("as asked for"),
            Some("warn") => {
                cx.warn(Diagnostic::warning("Cannot be silent").happened("As asked for."));
                Ok(())
            }
            Some("wait for the stop") => {
                let patience = tokio::time::timeout(Duration::from_secs(60), cx.stop.cancelled()).await;
                Err(failure(what, &name, if patience.is_ok() { "Stopped on request." } else { "Nobody stopped it." }))
            }
            Some("stop slowly") => {
                cx.stop.cancelled().await;
                // Longer than Terraform leaves a provider that it has told to end.
                tokio::time::sleep(Duration::from_secs(3)).await;
                let faults = vec!["stopped half-way".to_owned()];
                cx.save(&self.id.or(""), &Object { faults, ..self.object(1, &Object::default()) })?;
                Err(failure(what, &name, "Stopped slowly."))
            }
            _ => Ok(()),
        }
    }
}

fn fill(parts: Option<&mut BTreeMap<String, Part>>) {
    for (slot, part) in parts.into_iter().flatten() {
        if part.serial.is_unknown() {
            part.serial.set(format!("serial-{slot}"));
        }
    }
}

fn failure(what: &str, name: &str, happened: &str) -> Diagnostics {
    Diagnostic::error(format!("Cannot {what} thing {name}")).happened(happened).into()
}
