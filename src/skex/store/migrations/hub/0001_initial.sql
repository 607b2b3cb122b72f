-- A hub's store: its links, and nothing that it ever relayed.

-- What a master key must open before anything else is read. Never changes its shape.
CREATE TABLE sealing (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    salt  BLOB NOT NULL CHECK (length(salt) = 32), -- random; makes this store's keys its own
    proof BLOB NOT NULL                            -- nothing, sealed: opens under the right master key only
) STRICT;

-- Facts about the store itself: hub, realm, created (UNIX seconds).
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Links, enrolled or removed. A row stays for ever: a link id that was used up is never taken again.
CREATE TABLE link (
    link_id         BLOB PRIMARY KEY CHECK (length(link_id) = 8), -- the pseudonym on the wire
    realm           TEXT NOT NULL,
    hub             TEXT NOT NULL,
    kme             TEXT NOT NULL,              -- the name that this hub's operator bound to the link
    kind            INTEGER NOT NULL,           -- PadKind: 1 derived, 2 table
    sealed          BLOB,                       -- the static key of prefaces; NULL once removed
    capacity_to_hub INTEGER NOT NULL,           -- positions of the pad towards the hub
    capacity_to_kme INTEGER NOT NULL,           -- positions of the pad towards the KME
    enrolment       INTEGER NOT NULL,           -- Enrolment: how the material travelled
    created         INTEGER NOT NULL,           -- UNIX seconds
    suspended       INTEGER NOT NULL DEFAULT 0, -- 1: the operator lets it rest
    removed         INTEGER,                    -- UNIX seconds; NULL while enrolled
    -- Marks (preface frames 3 and 4). None of them falls.
    to_hub          INTEGER NOT NULL DEFAULT 0, -- lowest position never granted, towards the hub
    to_kme          INTEGER NOT NULL DEFAULT 0, -- the same, towards the KME
    count           INTEGER NOT NULL DEFAULT 0, -- prefaces completed
    seen_to_hub     INTEGER NOT NULL DEFAULT 0, -- the highest that the other end ever proved
    seen_to_kme     INTEGER NOT NULL DEFAULT 0,
    seen_count      INTEGER NOT NULL DEFAULT 0,
    CHECK ((sealed IS NULL) = (removed IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX link_enrolled ON link (hub, kme) WHERE removed IS NULL;

-- Why a link may not be used again; each reason once.
CREATE TABLE freeze (
    link_id BLOB NOT NULL REFERENCES link (link_id),
    code    TEXT NOT NULL, -- an error code
    PRIMARY KEY (link_id, code)
) STRICT, WITHOUT ROWID;

-- The realm file that this hub states and serves.
CREATE TABLE realm (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    data  BLOB NOT NULL -- the canonical file
) STRICT;
