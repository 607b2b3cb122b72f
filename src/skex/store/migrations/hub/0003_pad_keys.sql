-- Keys of pads that were sealed before the master key was changed. The pads themselves were left as they were;
-- a pad without a row here is sealed under a key of the present master key.
CREATE TABLE pad_key (
    link_id   BLOB NOT NULL REFERENCES link (link_id),
    direction INTEGER NOT NULL, -- Direction: 0 towards the hub, 1 towards the KME
    sealed    BLOB NOT NULL,    -- the key of the chain's states, or of the table's mask
    PRIMARY KEY (link_id, direction)
) STRICT, WITHOUT ROWID;
