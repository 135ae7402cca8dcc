//! `memory_lease`: a code for one run. Each opening, renewal and end is a line in the file `leases` of the folder.

use std::time::{Duration, SystemTime};

use tf::{
    Attr, Cx, Diagnostic, Diagnostics, EphemeralResource, Model, Opened, Path, Row, Secret, check, computed, optional,
    required,
};

use crate::store::Store;

pub(crate) struct LeaseResource;

#[derive(Debug, Clone, Default)]
pub(crate) struct Lease {
    name: Attr<String>,
    length: Attr<i64>,
    code: Attr<Secret<String>>,
    behave: Attr<String>,
}

impl Model for Lease {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { name, length, code, behave } = self;
        vec![
            required("name", name, "Whose it is.").check(check::not_blank),
            optional("length", length, "Length of the code.").default(16).check(check::between(8, 64)),
            computed("code", code, "The code."),
            optional("behave", behave, "How to fail."),
        ]
    }
}

impl EphemeralResource for LeaseResource {
    type Data = Store;
    type Model = Lease;

    const NAME: &'static str = "lease";
    const DOC: &'static str = "A code for one run.";

    async fn open(&self, cx: &Cx<Store>, m: &mut Lease) -> Opened {
        let name = m.name.need()?.clone();
        match m.behave.text() {
            Some("fail") => return Err(failure("open", &name, "As asked for.")),
            Some("panic") => panic!("as asked for"),
            Some("wait for the stop") => {
                cx.stop.cancelled().await;
                return Err(failure("open", &name, "Stopped on request."));
            }
            Some("warn") => cx.warn(Diagnostic::warning("Cannot be silent").happened("As asked for.")),
            _ => {}
        }
        let width = usize::try_from(*m.length.need()?).unwrap_or_default();
        m.code.set(format!("{:x<width$}", format!("code-{name}-")));
        cx.private().set("name", &name);
        cx.note(&format!("open {name}"))?;
        Ok((m.behave.text() == Some("renew")).then(|| SystemTime::now() + SHORT))
    }

    async fn renew(&self, cx: &Cx<Store>) -> Opened {
        let renewed = cx.private().get::<u32>("renewed").unwrap_or_default() + 1;
        cx.private().set("renewed", &renewed);
        cx.note(&format!("renew {} {renewed}", name(cx)))?;
        Ok(Some(SystemTime::now() + SHORT))
    }

    async fn close(&self, cx: &Cx<Store>) -> Result<(), Diagnostics> {
        if cx.stop.is_cancelled() {
            return Err(failure("close", &name(cx), "It is not given its time."));
        }
        Ok(cx.note(&format!("close {}", name(cx)))?)
    }

    fn validate(&self, m: &Lease) -> Diagnostics {
        match (m.name.text(), m.length.get()) {
            (Some("long"), Some(..32)) => failure_at("long", "length"),
            _ => Diagnostics::new(),
        }
    }
}

fn name(cx: &Cx<Store>) -> String {
    cx.private().get("name").unwrap_or_default()
}

fn failure(what: &str, name: &str, happened: &str) -> Diagnostics {
    Diagnostic::error(format!("Cannot {what} lease {name}")).happened(happened).into()
}

fn failure_at(name: &str, at: impl Into<Path>) -> Diagnostics {
    Diagnostic::error(format!("Cannot open lease {name}")).happened("Its code is long.").at(at).into()
}

const SHORT: Duration = Duration::from_secs(1);
