//! Tables that Citus spreads over several servers by their shard.
//!
//! A statement that names one shard goes to one server and runs there as it is, so what a group writes and
//! what it reads under its locks is asked for shard by shard. That also keeps within what Citus can do: rows
//! can't be locked in several shards at once, and an INSERT from arrays is only sent on, and not copied
//! (which row rules forbid), if it takes its shard from a table that lies beside.
//!
//! Everything else (searches, standings, whatever is due) asks all shards and is put together by Citus.
//! `meta`, `node`, `login` and `migration` are not spread: they lie with the coordinator.

use tokio_postgres::Client;

use super::connect::{fault, run};
use super::rows::small;
use super::schema::Names;
use super::server::Statement;
use crate::LedgerError;

/// Tables that are spread; the first decides where the others' rows lie.
pub(super) const SPREAD: [&str; 12] = [
    "shard",
    "head",
    "document",
    "superseded",
    "posting",
    "posted",
    "event",
    "leaf",
    "timer",
    "outbox",
    "cursor",
    "key",
];
/// Tables that lie with the coordinator.
#[cfg(test)]
const WITH_COORDINATOR: [&str; 4] = ["meta", "node", "login", "migration"];
/// Those of the first whose rows are a tenant's.
const OF_TENANTS: [&str; 9] = [
    "head",
    "document",
    "superseded",
    "posting",
    "posted",
    "event",
    "timer",
    "outbox",
    "key",
];
/// The oldest Citus that is known to do.
const CITUS_VERSION_MIN: u32 = 13;
/// Parts that the tables are cut into: as many as there can be servers without cutting anew.
const PARTS: u32 = 32;

/// The same statement for one shard. Whatever it is given has to be that shard's.
pub(super) fn narrowed(statement: Statement, at: i16) -> Result<Statement, LedgerError> {
    let Statement { sql, mut params } = statement;
    params.push(small(at));
    let shard = format!("${}", params.len());
    let sql = narrow(&sql, &shard).ok_or_else(|| {
        LedgerError::Storage(format!("a statement can't be sent to one shard: {sql}"))
    })?;
    Ok(Statement {
        sql: sql.into(),
        params,
    })
}

fn narrow(sql: &str, shard: &str) -> Option<String> {
    let word = |text: &str| text.split_whitespace().next().map(str::to_owned);
    if let Some(rest) = sql.strip_prefix("INSERT INTO ") {
        // What joins the documents is told the shard there.
        if sql.contains(" JOIN document ON ") && !sql.contains(" WHERE ") {
            let (join, conflict) = sql
                .split_once(" ON CONFLICT ")
                .map_or((sql, None), |both| (both.0, Some(both.1)));
            let conflict = conflict.map_or_else(String::new, |rest| format!(" ON CONFLICT {rest}"));
            return Some(format!("{join} WHERE document.shard = {shard}{conflict}"));
        }
        let (table, rest) = rest.split_once(' ')?;
        let (columns, rest) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
        let rest = rest.trim_start().strip_prefix("SELECT * FROM unnest(")?;
        let (arrays, conflict) = rest.split_once(')')?;
        let names: Vec<&str> = columns.split(',').map(str::trim).collect();
        if !names.contains(&"shard") {
            return None;
        }
        let values: Vec<String> = (names.iter())
            .map(|name| match *name {
                "shard" => "place.shard".to_owned(),
                name => format!("new.{name}"),
            })
            .collect();
        return Some(format!(
            "INSERT INTO {table} ({columns}) SELECT {} \
             FROM shard AS place, unnest({arrays}) AS new ({columns}) WHERE place.shard = {shard}{conflict}",
            values.join(", ")
        ));
    }
    if let Some(rest) = sql.strip_prefix("DELETE FROM ") {
        return Some(format!("{sql} AND {}.shard = {shard}", word(rest)?));
    }
    if sql.starts_with("UPDATE shard ") {
        return Some(format!("{sql} AND shard = {shard}"));
    }
    let (_, rest) = (sql.starts_with("SELECT ") && !sql.contains(" WHERE "))
        .then(|| sql.split_once(" JOIN "))??;
    Some(format!("{sql} WHERE {}.shard = {shard}", word(rest)?))
}

/// Whether the tables are spread.
pub(super) async fn is_spread(client: &Client, names: &Names) -> Result<bool, LedgerError> {
    let known = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL";
    if !one(client, known).await? {
        return Ok(false);
    }
    let spread = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition \
         WHERE logicalrelid = to_regclass('{}.document') AND partmethod = 'h')",
        names.schema
    );
    one(client, &spread).await
}

async fn one<T>(client: &Client, sql: &str) -> Result<T, LedgerError>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    let row = client.query_typed_one(sql, &[]).await;
    row.map_err(|error| fault(&error))?
        .try_get(0)
        .map_err(|error| fault(&error))
}

/// Whether the server has what spreading takes, in words that say what to do about it.
pub(super) async fn check(client: &Client) -> Result<(), LedgerError> {
    let refused = |what: String| Err(LedgerError::Storage(what));
    let available =
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'citus')";
    if !one::<bool>(client, available).await? {
        return refused(
            "the database server has no Citus: install the package of its PostgreSQL version on every server \
             (postgresql-<version>-citus-<version>), add citus to shared_preload_libraries, restart, and have \
             an administrator run CREATE EXTENSION citus in the database; or leave out --citus"
                .into(),
        );
    }
    let installed = "SELECT coalesce((SELECT extversion FROM pg_catalog.pg_extension \
                     WHERE extname = 'citus'), '')";
    let version: String = one(client, installed).await?;
    if version.is_empty() {
        return refused(
            "Citus is installed on the database server and not made in this database: with citus in \
             shared_preload_libraries, an administrator runs CREATE EXTENSION citus here, on every server, and \
             SELECT citus_add_node(...) for each worker"
                .into(),
        );
    }
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < CITUS_VERSION_MIN) {
        return refused(format!(
            "Citus {version} is too old: {CITUS_VERSION_MIN} or newer is needed"
        ));
    }
    let workers = "SELECT count(*) FROM pg_catalog.pg_dist_node \
                   WHERE isactive AND shouldhaveshards AND noderole = 'primary'";
    if one::<i64>(client, workers).await? == 0 {
        return refused(
            "Citus knows no server to put shards on: add workers with SELECT citus_add_node('<host>', 5432)"
                .into(),
        );
    }
    // `WORKERS` and not one: each acknowledges what it has flushed.
    let lazy = "SELECT count(*) FROM run_command_on_workers('SHOW fsync') \
                WHERE NOT success OR result <> 'on'";
    if one::<i64>(client, lazy).await? > 0 {
        return refused(
            "a worker can't be asked, or runs with fsync = off, so what is acknowledged could be lost".into(),
        );
    }
    Ok(())
}

/// Spreads the tables of a schema in which nothing is yet.
pub(super) async fn spread(client: &Client, names: &Names) -> Result<(), LedgerError> {
    let done = spread_all(client, names).await;
    if done.is_err() {
        // The answer is that of what failed; the connection is not used again.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    done
}

async fn spread_all(client: &Client, names: &Names) -> Result<(), LedgerError> {
    let Names {
        schema,
        service,
        tenant,
    } = names;
    let missing = format!(
        "Citus asks its workers as the roles that statements run as, so they have to be logins. As \
         an administrator: ALTER ROLE {service} LOGIN; ALTER ROLE {tenant} LOGIN; and let the servers \
         of the cluster in as these roles, on each of them"
    );
    let run = async |sql: &str| run(client, sql, &missing).await;
    let can_log_in = format!(
        "SELECT count(*) = 2 FROM pg_catalog.pg_roles \
         WHERE rolname IN ('{service}', '{tenant}') AND rolcanlogin"
    );
    if !one::<bool>(client, &can_log_in).await? {
        run(&format!(
            "ALTER ROLE {service} LOGIN; ALTER ROLE {tenant} LOGIN"
        ))
        .await?;
    }
    run(&format!(
        "BEGIN; SET LOCAL search_path = {schema}; SET LOCAL lock_timeout = '10s'; \
         SET LOCAL client_min_messages = warning; \
         SET LOCAL citus.multi_shard_modify_mode = 'sequential'; \
         LOCK TABLE shard, document IN ACCESS EXCLUSIVE MODE"
    ))
    .await?;
    // Seen by the ledger's role only, and the owner is a member.
    run(&format!("SET LOCAL ROLE {service}")).await?;
    let is_used = "SELECT EXISTS (SELECT FROM document) OR EXISTS (SELECT FROM key) \
                   OR EXISTS (SELECT FROM meta)";
    if one::<bool>(client, is_used).await? {
        return Err(LedgerError::Storage(format!(
            "there is a store in the schema {schema}: only an empty one can be spread. Give another with \
             --store-schema"
        )));
    }
    run("DELETE FROM shard; RESET ROLE").await?;
    for table in SPREAD {
        // Rows can't be copied past row rules, so there are neither for the moment.
        run(&format!(
            "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; DROP POLICY IF EXISTS tenant ON {table}"
        ))
        .await?;
        let beside = if table == SPREAD[0] {
            format!("shard_count := {PARTS}, colocate_with := 'none'")
        } else {
            format!("colocate_with := '{schema}.{}'", SPREAD[0])
        };
        run(&format!(
            "SELECT create_distributed_table('{schema}.{table}', 'shard', {beside})"
        ))
        .await?;
        run(&format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY")).await?;
    }
    for table in OF_TENANTS {
        // A rule can't look into another table here, so no login is bound to a tenant by one, and the
        // role of tenants is the ledger's alone.
        run(&format!(
            "CREATE POLICY tenant ON {table} FOR SELECT TO {tenant} \
             USING (tenant = nullif(current_setting('cairn.tenant', true), '')::integer)"
        ))
        .await?;
    }
    run(&format!(
        "COMMIT; BEGIN; SET LOCAL citus.propagate_set_commands = 'local'; \
         SET LOCAL search_path = {schema}; SET LOCAL ROLE {service}"
    ))
    .await?;
    let values: Vec<String> = (0..crate::SHARDS)
        .map(|shard| format!("({shard})"))
        .collect();
    run(&format!(
        "INSERT INTO shard (shard) VALUES {} ON CONFLICT DO NOTHING",
        values.join(", ")
    ))
    .await?;
    run("COMMIT").await?;
    tracing::info!(schema, parts = PARTS, "spread the store's tables");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn statements_are_narrowed_to_a_shard() {
        for (sql, expected) in [
            (
                "INSERT INTO posted (number, shard, tokens) SELECT * FROM unnest($1, $2, $3)",
                "INSERT INTO posted (number, shard, tokens) SELECT new.number, place.shard, new.tokens \
                 FROM shard AS place, unnest($1, $2, $3) AS new (number, shard, tokens) WHERE place.shard = $4",
            ),
            (
                "INSERT INTO cursor (consumer, shard) SELECT * FROM unnest($1, $2) \
                 ON CONFLICT (consumer, shard) DO UPDATE SET number = excluded.number",
                "INSERT INTO cursor (consumer, shard) SELECT new.consumer, place.shard \
                 FROM shard AS place, unnest($1, $2) AS new (consumer, shard) WHERE place.shard = $4 \
                 ON CONFLICT (consumer, shard) DO UPDATE SET number = excluded.number",
            ),
            (
                "DELETE FROM timer USING unnest($1) AS gone (id) WHERE timer.id = gone.id",
                "DELETE FROM timer USING unnest($1) AS gone (id) WHERE timer.id = gone.id \
                 AND timer.shard = $4",
            ),
            (
                "UPDATE shard SET last_number = 1 FROM unnest($1) AS new (at) WHERE shard = at",
                "UPDATE shard SET last_number = 1 FROM unnest($1) AS new (at) WHERE shard = at \
                 AND shard = $4",
            ),
            (
                "SELECT number FROM unnest($1) AS wanted (id) JOIN head ON head.id = wanted.id",
                "SELECT number FROM unnest($1) AS wanted (id) JOIN head ON head.id = wanted.id \
                 WHERE head.shard = $4",
            ),
        ] {
            assert_eq!(narrow(sql, "$4").as_deref(), Some(expected));
        }
        for sql in [
            "INSERT INTO meta (name, value) SELECT * FROM unnest($1, $2)",
            "INSERT INTO node (id) VALUES ($1)",
            "SELECT 1 FROM head WHERE id = $1",
            "UPDATE meta SET value = $1",
        ] {
            assert_eq!(narrow(sql, "$4"), None, "{sql}");
        }
    }

    /// The statements of the migrations, without comments.
    fn schema() -> String {
        let all = concat!(
            include_str!("schema/0001_first.sql"),
            include_str!("schema/0002_leases.sql")
        );
        let lines = all
            .lines()
            .map(|line| line.split("--").next().unwrap_or(""));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_table_can_be_spread_or_lies_with_the_coordinator() {
        let schema = schema();
        let mut tables = BTreeSet::from(["migration"]);
        for part in schema.split("CREATE TABLE ").skip(1) {
            let (name, rest) = part.split_once(" (").unwrap();
            let body = &rest[..rest.find(';').unwrap()];
            tables.insert(name);
            if !SPREAD.contains(&name) {
                continue;
            }
            let has_shard = |keys: &str| {
                keys.split([',', '(', ')'])
                    .any(|key| key.trim() == "shard" || key.trim().starts_with("shard "))
            };
            assert!(has_shard(body), "{name} has no shard");
            for line in body.lines().filter(|line| line.contains("PRIMARY KEY")) {
                assert!(
                    has_shard(line) || line.trim().starts_with("shard "),
                    "{name}: {line}"
                );
            }
            for never in [
                "REFERENCES",
                "UNIQUE",
                "serial",
                "GENERATED",
                "nextval",
                "EXCLUDE",
            ] {
                assert!(!body.contains(never), "{name} has {never}");
            }
            assert_eq!(
                OF_TENANTS.contains(&name),
                body.contains("tenant integer") && name != "login",
                "{name}"
            );
        }
        let known: BTreeSet<&str> = SPREAD.into_iter().chain(WITH_COORDINATOR).collect();
        assert_eq!(tables, known);
        for index in schema.split("CREATE UNIQUE INDEX ").skip(1) {
            let index = &index[..index.find(';').unwrap()];
            assert!(
                index.contains(", shard)") || index.contains("(shard"),
                "{index}"
            );
        }
        for never in [
            "CREATE TRIGGER",
            "CREATE SEQUENCE",
            "CREATE FUNCTION",
            "FOREIGN KEY",
            "INHERITS",
        ] {
            assert!(!schema.contains(never), "{never}");
        }
    }
}
