-- Processes that work on shards, and until when they count as alive. Who holds a shard stands in the
-- shard's own row, where a commit that says to be the holder's is checked against it.

CREATE TABLE node (
    id uuid PRIMARY KEY,
    until timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON node TO {service};
ALTER TABLE node ENABLE ROW LEVEL SECURITY;
ALTER TABLE node FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON node TO {service} USING (true) WITH CHECK (true);
