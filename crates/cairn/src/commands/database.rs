//! The database of a store.

use std::process::ExitCode;

use anyhow::bail;
use ledger::Location;

use super::location;
use crate::cli::StoreArguments;
use crate::terminal::say;

/// `cairn store init`: makes or migrates the schema, and spreads it if wished.
pub(crate) async fn init_store(store: &StoreArguments, citus: bool) -> anyhow::Result<ExitCode> {
    let Location::Postgres(place) = location(store)? else {
        bail!(
            "a store in a folder is made when a server first opens it; give --store-url for one in a database"
        );
    };
    let schema = place.schema.clone();
    let is_spread =
        tokio::task::spawn_blocking(move || ledger::init_database(&place, citus)).await??;
    if is_spread {
        say(&format!(
            "The schema {schema} is ready, and its tables are spread over the servers of the cluster."
        ));
    } else {
        say(&format!("The schema {schema} is ready."));
    }
    Ok(ExitCode::SUCCESS)
}
