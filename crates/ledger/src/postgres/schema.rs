//! The schema: made and migrated by the program that opens the store. How to write a migration is in
//! `schema/README.md`.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::{fault, run};
use crate::LedgerError;

/// A step, and what it is called in the table of those that were applied.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

/// Version 1 first.
const MIGRATIONS: [Migration; 2] = [
    Migration {
        name: "first",
        sql: include_str!("schema/0001_first.sql"),
    },
    Migration {
        name: "leases",
        sql: include_str!("schema/0002_leases.sql"),
    },
];
/// The oldest server that is known to do.
const SERVER_VERSION_MIN: i32 = 150_000;

/// The schema's name and those of its roles.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) schema: String,
    /// The ledger's own role, which sees everything.
    pub(super) service: String,
    /// The role that sees one tenant.
    pub(super) tenant: String,
}

impl Names {
    pub(super) fn new(schema: &str) -> Result<Self, LedgerError> {
        let is_name = schema.len() <= 40
            && schema.starts_with(|first: char| first.is_ascii_lowercase())
            && (schema.bytes())
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name {
            return Err(LedgerError::Storage(format!(
                "the schema's name {schema:?} does not do: 1 to 40 of a-z, 0-9 and _, a letter first"
            )));
        }
        Ok(Self {
            schema: schema.to_owned(),
            service: format!("{schema}_service"),
            tenant: format!("{schema}_tenant"),
        })
    }

    fn fill(&self, sql: &str) -> String {
        sql.replace("{schema}", &self.schema)
            .replace("{service}", &self.service)
            .replace("{tenant}", &self.tenant)
    }
}

/// Checks the server, and brings the schema to the newest version that this program knows.
pub(super) async fn prepare(client: &Client, names: &Names) -> Result<(), LedgerError> {
    check_server(client).await?;
    if applied(client, names).await? >= MIGRATIONS.len() {
        return Ok(());
    }
    let done = migrate(client, names).await;
    if done.is_err() {
        // The answer is that of the migration; the connection is not used again.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    done
}

async fn check_server(client: &Client) -> Result<(), LedgerError> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('fsync')";
    let row = (client.query_typed_one(sql, &[]).await).map_err(|error| fault(&error))?;
    let (version, fsync): (i32, String) = (row.get(0), row.get(1));
    if version < SERVER_VERSION_MIN {
        return Err(LedgerError::Storage(format!(
            "PostgreSQL {} is too old: 15 or newer is needed",
            version / 10_000
        )));
    }
    if fsync != "on" {
        return Err(LedgerError::Storage(
            "PostgreSQL runs with fsync = off, so what is acknowledged could be lost: switch it on"
                .into(),
        ));
    }
    Ok(())
}

/// How many migrations have been applied; zero for a schema that is not there.
async fn applied(client: &Client, names: &Names) -> Result<usize, LedgerError> {
    let known = MIGRATIONS.len();
    let sql = format!(
        "SELECT coalesce(max(version), 0)::int4 FROM {}.migration",
        names.schema
    );
    let version: i32 = match client.query_typed_one(&sql, &[]).await {
        Ok(row) => row.get(0),
        Err(error)
            if matches!(
                error.code(),
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)
            ) =>
        {
            return Ok(0);
        }
        Err(error) => return Err(fault(&error)),
    };
    let version = usize::try_from(version).unwrap_or(0);
    if version > known + 1 {
        return Err(LedgerError::Storage(format!(
            "the schema {} has version {version}, and this program knows {known}, so it can share a \
             store with version {} at most: use a newer program",
            names.schema,
            known + 1
        )));
    }
    Ok(version)
}

async fn migrate(client: &Client, names: &Names) -> Result<(), LedgerError> {
    let Names {
        schema,
        service,
        tenant,
    } = names;
    let missing = format!(
        "the login has to own the schema and be a member of both its roles. As an \
         administrator: CREATE ROLE {service} NOLOGIN; CREATE ROLE {tenant} NOLOGIN; \
         GRANT {service}, {tenant} TO <login>; CREATE SCHEMA {schema} AUTHORIZATION <login>;"
    );
    let run = async |sql: &str| run(client, sql, &missing).await;
    // Of all that may be doing this now, one goes on; the lock goes with the transaction. Only
    // migrations take it.
    run("BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL client_min_messages = warning").await?;
    run(&format!(
        "SELECT pg_advisory_xact_lock(hashtextextended('cairn migration {schema}', 0))"
    ))
    .await?;
    for role in [service, tenant] {
        // Roles are the server's and not the database's: they may be there already.
        run(&format!(
            "DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                    CREATE ROLE {role} NOLOGIN;
                END IF;
                IF NOT pg_has_role(current_user, '{role}', 'MEMBER') THEN
                    GRANT {role} TO CURRENT_USER;
                END IF;
            END $$"
        ))
        .await?;
    }
    run(&format!(
        "DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}') THEN
                CREATE SCHEMA {schema};
            END IF;
        END $$;
        SET LOCAL search_path = {schema};
        CREATE TABLE IF NOT EXISTS migration (
            version integer PRIMARY KEY,
            name text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )"
    ))
    .await?;
    // Read again: somebody else may have been first.
    let applied = applied(client, names).await?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(applied) {
        let version = index + 1;
        run(&names.fill(migration.sql)).await?;
        run(&format!(
            "INSERT INTO migration (version, name) VALUES ({version}, '{}')",
            migration.name
        ))
        .await?;
        tracing::info!(version, name = migration.name, schema, "migrated the store");
    }
    run("COMMIT").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_sql_would_read() {
        for name in ["cairn", "c", "cairn_2"] {
            assert_eq!(Names::new(name).unwrap().service, format!("{name}_service"));
        }
        let long = "a".repeat(41);
        for name in ["", "Cairn", "2c", "_c", "c-d", "c\"", "c;d", "ä", &long] {
            assert!(Names::new(name).is_err(), "{name}");
        }
    }
}
