//! `/pools`: resource pools. Asked in the form `?poolid=`, the only one that reaches nested pools (Proxmox VE 8.1 and later).

use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::params::Params;
use crate::wording::Class;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pool {
    /// `dev` or, nested, `dev/web`
    pub poolid: String,
    /// Free text; empty if there is none.
    #[serde(default)]
    pub comment: String,
}

/// The pools of the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Pools<'a> {
    client: &'a Client,
}

impl Client {
    /// The pools of the cluster.
    #[must_use]
    pub const fn pools(&self) -> Pools<'_> {
        Pools { client: self }
    }
}

impl Pools<'_> {
    /// One pool, if it is there.
    ///
    /// # Errors
    /// As every read.
    pub async fn find(&self, poolid: &str) -> Result<Option<Pool>, Error> {
        let rows: Result<Vec<Pool>, Error> = self.client.call(Call::get(PATH).params(named(poolid))).await;
        match rows {
            Ok(rows) => Ok(rows.into_iter().find(|row| row.poolid == poolid)),
            Err(error) if error.is(Class::NoPool) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a pool.
    ///
    /// # Errors
    /// As every write; [`Class::Exists`] if the name is taken, [`Class::NoPool`] if the parent is not there.
    pub async fn create(&self, pool: &Pool) -> Result<(), Error> {
        self.client.call(Call::post(PATH).params(named(&pool.poolid).with("comment", &pool.comment))).await
    }

    /// Changes the comment; an empty one takes it away.
    ///
    /// # Errors
    /// As every write.
    pub async fn set_comment(&self, poolid: &str, comment: &str) -> Result<(), Error> {
        self.client.call(Call::put(PATH).params(named(poolid).with("comment", comment))).await
    }

    /// Deletes a pool; content when it is not there.
    ///
    /// # Errors
    /// As every write; [`Class::NotEmpty`] while it has members or pools below it.
    pub async fn delete(&self, poolid: &str) -> Result<(), Error> {
        let deleted: Result<(), Error> = self.client.call(Call::delete(PATH).params(named(poolid))).await;
        deleted.or_else(|error| if error.is(Class::NoPool) { Ok(()) } else { Err(error) })
    }
}

fn named(poolid: &str) -> Params {
    Params::new().with("poolid", poolid)
}

const PATH: &[&str] = &["pools"];
