-- What became of keys, for as long as the row of their batch is kept: one row for each batch and SAE, or reason.
-- Keys of a batch that are in no row and not left were voided, or expired.
CREATE TABLE fate (
    batch  INTEGER NOT NULL REFERENCES batch (id) ON DELETE CASCADE,
    kind   INTEGER NOT NULL, -- 0 delivered, 1 revoked, 2 suspended
    what   TEXT NOT NULL,    -- 0: the SAE id; 1 and 2: the number of the reason
    keys   BLOB NOT NULL,    -- bit per key, key 0 lowest, little endian
    moment INTEGER NOT NULL, -- when this row was last written to
    PRIMARY KEY (batch, kind, what)
) STRICT, WITHOUT ROWID;

-- Pairs of KMEs of which every key rests, also those to come.
CREATE TABLE suspended_pair (
    role   INTEGER NOT NULL,
    peer   TEXT NOT NULL,
    reason INTEGER NOT NULL,
    moment INTEGER NOT NULL,
    PRIMARY KEY (role, peer)
) STRICT, WITHOUT ROWID;
