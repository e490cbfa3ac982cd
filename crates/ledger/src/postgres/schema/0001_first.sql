-- The first schema. Everything that belongs to a shard has the column in its key, so that the tables
-- can be distributed by it. All that is stored is sealed, blind, or a number.

CREATE TABLE shard (
    shard smallint PRIMARY KEY,
    last_number bigint NOT NULL DEFAULT 0,
    last_event bigint NOT NULL DEFAULT 0,
    tree_size bigint NOT NULL DEFAULT 0,
    -- The roots of the tree's complete subtrees, greatest first, 32 bytes each.
    tree_edge bytea NOT NULL DEFAULT '',
    keys_destroyed bigint NOT NULL DEFAULT 0,
    -- For leases: who works on the shard, and which lease this is.
    lease_holder uuid,
    lease_epoch bigint NOT NULL DEFAULT 0
    -- Updated by every group; room in the page keeps the updates in it.
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
INSERT INTO shard (shard) SELECT generate_series(0, 255);

CREATE TABLE head (
    tenant integer NOT NULL,
    id uuid NOT NULL,
    shard smallint NOT NULL,
    number bigint NOT NULL,
    at_shard smallint NOT NULL,
    version bigint NOT NULL,
    deleted boolean NOT NULL,
    audit boolean NOT NULL,
    PRIMARY KEY (tenant, id, shard)
) WITH (fillfactor = 90);

CREATE TABLE document (
    number bigint NOT NULL,
    shard smallint NOT NULL,
    tenant integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (number, shard)
);
-- Sealed bytes do not compress.
ALTER TABLE document ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE superseded (
    tenant integer NOT NULL,
    id uuid NOT NULL,
    version bigint NOT NULL,
    shard smallint NOT NULL,
    number bigint NOT NULL,
    at_shard smallint NOT NULL,
    PRIMARY KEY (tenant, id, version, shard)
);

CREATE TABLE posting (
    token bigint NOT NULL,
    number bigint NOT NULL,
    shard smallint NOT NULL,
    tenant integer NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
-- Newest first within a token. The tenant is for the row rules, so that they need no visit to the row.
CREATE UNIQUE INDEX posting_newest ON posting (token, number DESC, shard) INCLUDE (tenant);
ALTER TABLE posting REPLICA IDENTITY USING INDEX posting_newest;

CREATE TABLE posted (
    number bigint NOT NULL,
    shard smallint NOT NULL,
    tenant integer NOT NULL,
    tokens bytea NOT NULL,
    PRIMARY KEY (number, shard)
);
ALTER TABLE posted ALTER COLUMN tokens SET STORAGE EXTERNAL;

CREATE TABLE event (
    shard smallint NOT NULL,
    number bigint NOT NULL,
    tenant integer NOT NULL,
    kind integer NOT NULL,
    version bigint NOT NULL,
    deleted boolean NOT NULL,
    cause bigint,
    PRIMARY KEY (shard, number)
);

CREATE TABLE leaf (
    shard smallint NOT NULL,
    index bigint NOT NULL,
    record bytea NOT NULL,
    -- The hashes that appending the leaf stored, 32 bytes each: its own, and upwards.
    nodes bytea NOT NULL,
    PRIMARY KEY (shard, index)
);
ALTER TABLE leaf ALTER COLUMN record SET STORAGE EXTERNAL;
ALTER TABLE leaf ALTER COLUMN nodes SET STORAGE EXTERNAL;

CREATE TABLE timer (
    due_ms bigint NOT NULL,
    shard smallint NOT NULL,
    id uuid NOT NULL,
    tenant integer NOT NULL,
    consumer integer NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (due_ms, shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE outbox (
    due_ms bigint NOT NULL,
    shard smallint NOT NULL,
    id uuid NOT NULL,
    tenant integer NOT NULL,
    channel integer NOT NULL,
    attempt bigint NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (due_ms, shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE outbox ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TABLE cursor (
    consumer text NOT NULL,
    shard smallint NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (consumer, shard)
) WITH (fillfactor = 50);

CREATE TABLE key (
    tenant integer NOT NULL,
    subject uuid NOT NULL,
    shard smallint NOT NULL,
    wrapped bytea,
    destroyed_ms bigint,
    PRIMARY KEY (tenant, subject, shard),
    CHECK ((wrapped IS NULL) = (destroyed_ms IS NOT NULL))
);
CREATE INDEX key_destroyed ON key (shard) WHERE wrapped IS NULL;

CREATE TABLE meta (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- Which tenant a login sees that is a member of the tenants' role only, whatever it sets.
CREATE TABLE login (
    role name PRIMARY KEY,
    tenant integer NOT NULL
);

-- Row rules. They bind the owner too, so that every statement runs as one of the two roles.
-- {tenant} sees the rows of one tenant; {service} is the ledger itself.
GRANT USAGE ON SCHEMA {schema} TO {service}, {tenant};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {service};
GRANT SELECT ON head, document, superseded, posting, posted, event, timer, outbox, key, login
    TO {tenant};

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['shard', 'head', 'document', 'superseded', 'posting', 'posted', 'event',
        'leaf', 'timer', 'outbox', 'cursor', 'key', 'meta', 'login']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY service ON %I TO {service} USING (true) WITH CHECK (true)', name);
    END LOOP;
    CREATE POLICY own ON login FOR SELECT TO {tenant} USING (role = session_user);
    FOREACH name IN ARRAY ARRAY['head', 'document', 'superseded', 'posting', 'posted', 'event', 'timer',
        'outbox', 'key']
    LOOP
        -- The ledger's own connections say which tenant they read for. Any other login is bound to the
        -- tenant that stands beside its name, and sees nothing without one.
        EXECUTE format(
            'CREATE POLICY tenant ON %I FOR SELECT TO {tenant} USING (tenant = (
                SELECT CASE
                    WHEN pg_has_role(session_user, ''{service}'', ''MEMBER'')
                        THEN nullif(current_setting(''cairn.tenant'', true), '''')::integer
                    ELSE (SELECT login.tenant FROM {schema}.login WHERE login.role = session_user)
                END))',
            name);
    END LOOP;
END
$$;
