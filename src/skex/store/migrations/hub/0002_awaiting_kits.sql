-- Links that a backup brought back without their material. Nothing of them can be used: the row in table link
-- is that of a removed link, and a new kit between the same two ends the waiting.
CREATE TABLE awaiting_kit (
    link_id BLOB PRIMARY KEY REFERENCES link (link_id)
) STRICT, WITHOUT ROWID;
