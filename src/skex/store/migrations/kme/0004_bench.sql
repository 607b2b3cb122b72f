-- What became of each hub's shares of each peer's batches.
CREATE TABLE tally (
    hub       TEXT NOT NULL,
    peer      TEXT NOT NULL,    -- '' is all peers for which there was no room
    in_time   INTEGER NOT NULL,
    late      INTEGER NOT NULL,
    missing   INTEGER NOT NULL,
    wrong     INTEGER NOT NULL, -- for certain
    suspected INTEGER NOT NULL,
    in_a_row  INTEGER NOT NULL, -- the newest missing ones that were held back
    PRIMARY KEY (hub, peer)
) STRICT, WITHOUT ROWID;

-- What shows that a hub did wrong, oldest first; the newest of each hub are kept.
CREATE TABLE evidence (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    hub     TEXT NOT NULL,
    peer    TEXT NOT NULL,    -- whose batch it was
    batch   BLOB NOT NULL CHECK (length(batch) = 24),
    blame   TEXT NOT NULL,
    certain INTEGER NOT NULL, -- 0 where hubs may collude to make it look so
    moment  INTEGER NOT NULL,
    sealed  BLOB NOT NULL     -- CBOR: digests of what came and of what should have come; empty if unknown
) STRICT;

CREATE INDEX evidence_of ON evidence (hub, id);

-- Hubs on the bench (benched 1), or back on probation (0).
CREATE TABLE bench (
    hub     TEXT NOT NULL,
    peer    TEXT NOT NULL,    -- for whose batches; '' is all
    benched INTEGER NOT NULL,
    until   INTEGER,          -- moment; NULL until a command
    cause   TEXT NOT NULL,
    rule    TEXT NOT NULL,    -- of policy; '' for a command
    by      TEXT NOT NULL,    -- the operator; '' for policy
    reason  TEXT NOT NULL,
    PRIMARY KEY (hub, peer)
) STRICT, WITHOUT ROWID;
