//! `groundwork_pool`: a resource pool of the cluster. The smallest resource, and the one to copy.
//!
//! Endpoint: `/pools`. Odd about it: a pool carries nothing that says who made it, so one that is there already is an error and
//! never adopted; and it is deleted only when it is empty.

use std::time::Duration;

use pve::{Class, Error, Pool as Present};
use tf::{Attr, Diagnostic, Diagnostics, Model, Presence, Resource, Row, computed, optional_computed, required};

use crate::context::{Cx, Data};
use crate::explain::{self, Cure, Own};
use crate::names;

/// See [`Resource::DOC`].
pub(crate) struct PoolResource;

/// A pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pool {
    id: Attr<String>,
    poolid: Attr<String>,
    comment: Attr<String>,
}

impl Model for Pool {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { id, poolid, comment } = self;
        vec![
            computed("id", id, "Same as `poolid`.").keep(),
            required("poolid", poolid, "Name of the pool, unique in the cluster. A pool below another one is named with it, such as `dev/web`; three levels at most.")
                .check(names::pool)
                .replaces(),
            optional_computed("comment", comment, "Free text. `\"\"` takes it away; left out, it is not managed.").keep(),
        ]
    }
}

impl Resource for PoolResource {
    type Data = Data;
    type Model = Pool;

    const NAME: &'static str = "pool";
    const DOC: &'static str = "A resource pool: VMs and storages under one name, to grant privileges on. Members say themselves where \
        they belong, such as `pool` of a `groundwork_vm`.\n\n\
        Only an empty pool can be destroyed. Pools that are made in one apply and lie within each other refer to each other: \
        `poolid = \"${groundwork_pool.dev.poolid}/web\"`.";

    async fn create(&self, cx: &Cx, m: &mut Pool) -> Result<(), Diagnostics> {
        let poolid = m.poolid.need()?.clone();
        let client = cx.pve()?.within(cx.deadline(TIME), &cx.stop);
        let failed = |error: Error| failed("create", &poolid, &error);
        if client.pools().find(&poolid).await.map_err(failed)?.is_some() {
            return Err(taken(&poolid).into());
        }
        let wanted = Present { poolid: poolid.clone(), comment: m.comment.or("") };
        match client.pools().create(&wanted).await {
            Ok(()) => {}
            // It was not there a moment ago: if it is now, our call made it.
            Err(error) if error.outcome_unknown() => {
                if client.pools().find(&poolid).await.map_err(failed)?.is_none() {
                    return Err(failed(error).into());
                }
            }
            Err(error) if error.is(Class::Exists) => return Err(taken(&poolid).into()),
            Err(error) => return Err(failed(error).into()),
        }
        m.id.set(poolid);
        Ok(())
    }

    async fn read(&self, cx: &Cx, m: &mut Pool) -> Result<Presence, Diagnostics> {
        let poolid = m.id.need()?.clone();
        let found = cx.pve()?.pools().find(&poolid).await.map_err(|error| failed("read", &poolid, &error))?;
        let Some(found) = found else { return Ok(Presence::Gone) };
        m.poolid.set(found.poolid);
        m.comment.set(found.comment);
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, _prior: &Pool, m: &mut Pool) -> Result<(), Diagnostics> {
        let poolid = m.id.need()?;
        let client = cx.pve()?.within(cx.deadline(TIME), &cx.stop);
        let written = client.pools().set_comment(poolid, &m.comment.or("")).await;
        written.map_err(|error| failed("change", poolid, &error).into())
    }

    async fn delete(&self, cx: &Cx, m: &Pool) -> Result<(), Diagnostics> {
        let poolid = m.id.need()?;
        let client = cx.pve()?.within(cx.deadline(TIME), &cx.stop);
        client.pools().delete(poolid).await.map_err(|error| failed("delete", poolid, &error).into())
    }

    async fn import(&self, _cx: &Cx, id: &str) -> Result<Pool, Diagnostics> {
        Ok(Pool { id: id.into(), poolid: id.into(), ..Pool::default() })
    }
}

/// What the server's words mean for a pool, where its own attributes are the cure.
fn failed(verb: &str, poolid: &str, error: &Error) -> Diagnostic {
    let cure = match error.class() {
        Class::NoPool => Some(Cure {
            next: Some("Correct the part of `poolid` before the last `/`, or make that pool first."),
            at: Some("poolid".into()),
        }),
        Class::NotEmpty => Some(Cure {
            next: Some("Move its members to another pool, or destroy them first, and apply again."),
            at: None,
        }),
        _ => None,
    };
    explain::pve_own(&format!("{verb} pool {poolid}"), error, Own { cure, ..Own::default() })
}

fn taken(poolid: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot create pool {poolid}"))
        .happened("A pool of this name exists already.")
        .holds("Nothing was created, and that pool was not touched.")
        .next("Choose another `poolid`, or import the pool if it is yours.")
        .at("poolid")
}

const TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_one_advice_and_its_attribute() {
        let refused = |status: u16, message: &str| {
            let call = "POST /pools".to_owned();
            let (endpoint, errors) = (String::new(), std::collections::BTreeMap::new());
            Error::Refused(Box::new(pve::Refused { call, endpoint, status, message: message.to_owned(), errors }))
        };
        let told = failed("create", "dev/web", &refused(500, "parent 'dev' of pool 'dev/web' does not exist"));
        assert_eq!(told.path().map(ToString::to_string).as_deref(), Some("poolid"));
        assert!(told.detail().ends_with("the part of `poolid` before the last `/`, or make that pool first."));
        assert_eq!(told.detail().split("\n\n").count(), 3, "{}", told.detail());
        let told = failed("delete", "dev", &refused(500, "pool 'dev' is not empty (contains storage 'data')"));
        assert!(told.path().is_none() && told.detail().contains("Move its members"), "{}", told.detail());
        assert_eq!(told.detail().split("\n\n").count(), 3, "{}", told.detail());
    }
}
