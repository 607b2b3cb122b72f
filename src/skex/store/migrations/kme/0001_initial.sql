-- A KME's store. Moments are seconds of the store's own clock (table clock), which never goes back.
-- Names are checked before they come here. Columns named "sealed" hold nonce(12), ciphertext, tag(16).

-- What a master key must open before anything else is read. Never changes its shape.
CREATE TABLE sealing (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    salt  BLOB NOT NULL CHECK (length(salt) = 32), -- random; makes this store's keys its own
    proof BLOB NOT NULL                            -- nothing, sealed: opens under the right master key only
) STRICT;

-- Facts about the store itself: kme, realm, created (UNIX seconds).
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The store's clock: time that passed by the wall clock, steps back left out.
CREATE TABLE clock (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    moment INTEGER NOT NULL, -- now, on this clock; started as the UNIX time of the creation
    wall   INTEGER NOT NULL  -- what the wall clock showed then, UNIX seconds
) STRICT;

-- Links, enrolled or removed. A row stays for ever: a kit that was used up is never taken again.
CREATE TABLE link (
    link_id         BLOB PRIMARY KEY CHECK (length(link_id) = 8), -- the pseudonym on the wire
    realm           TEXT NOT NULL,
    hub             TEXT NOT NULL,
    kme             TEXT NOT NULL,
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

-- Batches, one row each, at both roles; at a receiver the row is also the batch's tombstone.
CREATE TABLE batch (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of acceptance
    role        INTEGER NOT NULL,                  -- 0 this KME made it, 1 it received it
    peer        TEXT NOT NULL,
    batch       BLOB NOT NULL CHECK (length(batch) = 24), -- incarnation(16), counter(8), big endian
    context     BLOB NOT NULL,                     -- CBOR: compact context
    hubs        BLOB NOT NULL,                     -- CBOR: names in the order of their coordinates
    claim       BLOB NOT NULL,                     -- CBOR: claim of both ends together
    expires     INTEGER NOT NULL,                  -- moment; at a receiver with the margin
    left_keys   BLOB NOT NULL,                     -- bit per key, key 0 lowest, little endian: still here
    assigned    BLOB NOT NULL,                     -- likewise: offered (role 0) or assigned (role 1)
    taken       BLOB,                              -- CBOR: [SAE, bits] of slaves ahead of others; else NULL
    answer      INTEGER,                           -- role 1: 1 Ok, 0 Void, NULL none yet
    epoch       INTEGER,                           -- role 1: the CONFIRM's epoch …
    incarnation BLOB,                              --   … incarnation …
    own_claim   BLOB,                              --   … claim (CBOR) …
    mac         BLOB,                              --   … and tag: it is repeated as it was
    through     BLOB,                              -- role 1, CBOR: hubs that brought shares
    UNIQUE (role, peer, batch)
) STRICT;

-- The keys of a batch; no row once none is left. Erased keys are zeros within the sealed bytes.
CREATE TABLE batch_keys (
    batch  INTEGER PRIMARY KEY REFERENCES batch (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL
) STRICT;

-- Counters up to this one are refused: their tombstones are past.
CREATE TABLE counter_mark (
    sender      TEXT NOT NULL,
    incarnation BLOB NOT NULL,
    counter     BLOB NOT NULL CHECK (length(counter) = 8), -- big endian: a u64 is no SQLite integer
    PRIMARY KEY (sender, incarnation)
) STRICT, WITHOUT ROWID;

-- Keys promised to SAEs: offered to a receiver (role 0) or assigned by a sender (role 1).
CREATE TABLE assignment (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    role        INTEGER NOT NULL,
    peer        TEXT NOT NULL,
    request     BLOB NOT NULL CHECK (length(request) = 16),
    incarnation BLOB,          -- role 1: the sender's
    keys        BLOB NOT NULL, -- CBOR: the ranges as they were assigned
    master      TEXT NOT NULL, -- SAE id
    slaves      BLOB NOT NULL, -- CBOR: SAE ids
    purpose     TEXT NOT NULL,
    lifetime    INTEGER NOT NULL, -- seconds
    UNIQUE (role, peer, request)
) STRICT;

-- Which stretch of which batch belongs to which assignment; gone when none of its keys is left.
CREATE TABLE assigned_range (
    batch      INTEGER NOT NULL REFERENCES batch (id),
    first      INTEGER NOT NULL, -- index of its first key
    behind     INTEGER NOT NULL, -- index behind its last key
    assignment INTEGER NOT NULL REFERENCES assignment (id),
    PRIMARY KEY (batch, first)
) STRICT, WITHOUT ROWID;

CREATE INDEX assigned_range_of ON assigned_range (assignment);

-- What this KME, as sender, learned of each receiver from its CONFIRMs.
CREATE TABLE receiver (
    name        TEXT PRIMARY KEY,
    epoch       INTEGER NOT NULL, -- the newest that it named
    incarnation BLOB NOT NULL     -- what its newest CONFIRM stated
) STRICT, WITHOUT ROWID;

-- Roots of peer messages, oldest first.
CREATE TABLE root (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    role     INTEGER NOT NULL,
    peer     TEXT NOT NULL,
    batch    BLOB NOT NULL,    -- the control batch that made it
    sealed   BLOB NOT NULL,
    sent     INTEGER NOT NULL, -- 1: used by this end
    received INTEGER NOT NULL, -- 1: used towards this end
    UNIQUE (role, peer, batch)
) STRICT;

-- Control messages that must arrive, oldest first.
CREATE TABLE control (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    role      INTEGER NOT NULL,
    peer      TEXT NOT NULL,
    request   BLOB NOT NULL,
    plaintext BLOB NOT NULL, -- the peer message before it is sealed: ids and decisions
    UNIQUE (peer, request)
) STRICT;

-- Revocations by peers that were carried out, oldest first; the newest of each pair are kept.
CREATE TABLE revocation (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    role    INTEGER NOT NULL,
    peer    TEXT NOT NULL,
    request BLOB NOT NULL,
    UNIQUE (role, peer, request)
) STRICT;

-- The realm files in force: the current epoch and the one before.
CREATE TABLE realm (
    epoch    INTEGER PRIMARY KEY,
    data     BLOB NOT NULL,   -- the canonical file
    accepted INTEGER NOT NULL -- moment
) STRICT;

-- One row while a rollback of this KME is not settled.
CREATE TABLE rollback (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    code TEXT NOT NULL -- an error code
) STRICT;
