"""Every bound of the protocol, with its unit and the reason for its size.

A bound that both ends must share is part of the specification; the others are local and say so.
"""

from __future__ import annotations

from typing import Final

# ── names ───────────────────────────────────────────────────────────────────────────────────────
NAME_CHARACTERS: Final = 63
"""A DNS label; long enough for a site name, short enough for a log column and a share's header."""

# ── preface and records (shared) ────────────────────────────────────────────────────────────────
FRAME_BYTES: Final = 512
"""A preface frame, header included: read before anything is proved, so small."""
PREFACE_COUNT_MAX: Final = 2**53 - 1
"""Prefaces counted on one link: never reached, and every store and every JSON reader can hold it."""
RECORD_BYTES: Final = 65_536
"""Header and ciphertext together: with it one forgery attempt succeeds with at most 2^-91."""
RECORD_HEADER_BYTES: Final = 24
"""Version, direction, length, link id and position: all that an observer sees."""
RECORD_TAG_BYTES: Final = 16
"""Poly1305; also what a record costs of pad beyond its body."""
BODY_BYTES: Final = RECORD_BYTES - RECORD_HEADER_BYTES
"""The longest message body: what is left of a record of RECORD_BYTES."""

# ── grants (shared) ─────────────────────────────────────────────────────────────────────────────
TABLE_UNIT_BYTES: Final = 4096
"""A position of a table pad: one page, so that erasing never touches a neighbour's bytes."""
GRANT_TAIL_BYTES: Final = 256
"""The last bytes of a direction's granted material: they carry only a GRANT, so that two exhausted
directions can always free each other."""
TABLE_GRANT_UNITS_MIN: Final = 32
"""128 KiB: what a later table grant has at least, while the pad lasts."""
TABLE_GRANT_UNITS_MAX: Final = 256
"""1 MiB: bounds what one announcement makes the other end read, and what a cut connection costs."""
GRANTS_AHEAD: Final = 2
"""Grants of one direction that a sender holds: the one in use and the next."""
GRANT_EXHAUSTED_BYTES: Final = GRANT_TAIL_BYTES + 32
"""A receiver grants unasked below this: the sender may not have room left even for a WANT."""
PAD_POSITION_MAX: Final = 2**32 - 1
"""A pad's capacity at most: a position is a u32, and so is the mark of a pad that is used up."""
PAD_CHUNK_BYTES: Final = 1024 * 1024
"""What is read or overwritten at once while a pad is created or erased (local): bounds the memory."""
DERIVED_GRANT_BYTES: Final = 16 * 1024 * 1024
"""A derived grant's keystream; its counter stays far below AES-CTR's bounds."""
DERIVED_GRANT_SECONDS: Final = 600
"""A derived grant in use for so long is replaced: forward secrecy has a clock."""
DERIVED_JUMP_STEPS: Final = 65_536
"""A chain is advanced by at most so many steps at once (some 0.3 s of HKDF); more freezes the link."""

# ── realm (shared) ──────────────────────────────────────────────────────────────────────────────
REALM_FILE_BYTES: Final = 43_008
"""Fits a record; 64 hubs with the longest names, addresses and attributes fit into it."""
REALM_HUBS: Final = 64
"""More hubs than any realm needs; bounds every loop over hubs."""
REALM_ATTRIBUTE_CHARACTERS: Final = 64
"""One attribute of a hub: a company's or a place's name."""
REALM_ADDRESS_CHARACTERS: Final = 255
"""A DNS name of the longest kind still fits with its port, in practice."""
SUBSETS: Final = 512
"""C(n,k) at most: how many candidate subsets a receiver may have to try, and the union bound."""

# ── establishment (shared) ──────────────────────────────────────────────────────────────────────
KEY_BYTES_MIN: Final = 16
"""Nothing shorter is a key today."""
KEY_BYTES_MAX: Final = 1024
"""Longer than any consumer's key; a longer need takes several keys."""
BATCH_KEYS: Final = 1024
"""Enough for the fixed costs of a batch to vanish; bounds every loop over keys."""
BATCH_SECRET_BYTES: Final = 57_344
"""u, v and all keys together: a share of it and its context fit one record."""
LIFETIME_SECONDS_MIN: Final = 1
"""A lifetime of zero would be over before it starts."""
LIFETIME_SECONDS_MAX: Final = 31_536_000
"""One year: nothing that waits longer in a reserve is a fresh key."""
PEER_MESSAGE_BYTES: Final = 20_480
"""A peer message before it is sealed: ids and decisions, never keys. The longest ASSIGN needs 17 KiB."""
PEER_ENVELOPE_BYTES: Final = PEER_MESSAGE_BYTES + 81
"""A sealed peer message: its AEAD tag (16) and the envelope's other fields (65) come on top."""
PEER_RANGES: Final = 256
"""Ranges of keys, or batches, in one peer message."""
SLAVES: Final = 64
"""Slave SAEs in one ASSIGN."""
PURPOSE_CHARACTERS: Final = 32
"""A label of an application, not a text."""

# ── establishment (local) ───────────────────────────────────────────────────────────────────────
ESTABLISH_SECONDS: Final = 8
"""A sender gives a batch up after this; the caller gets a refusal, not silence."""
GROUP_SECONDS: Final = 10
"""A receiver drops a group of shares that found no candidate after this."""
LATE_SHARE_SECONDS: Final = 10
"""A receiver checks shares that come so long after acceptance, then forgets the polynomial."""
LIFETIME_MARGIN_SECONDS: Final = 120
"""A receiver keeps keys so much longer than the sender: the sender never hands out what is gone."""
CONFIRM_RESEND_SECONDS: Final = 1
"""First wait before a CONFIRM is repeated; doubles up to CONFIRM_RESEND_SECONDS_MAX."""
CONFIRM_RESEND_SECONDS_MAX: Final = 60
"""Slow enough to cost no pad."""
PENDING_BATCHES_PER_PEER: Final = 256
"""Batches that a sender has under way to one receiver."""
ENDED_BATCHES: Final = 16_384
"""Confirmed and given-up batches whose answer a sender knows without asking its store."""
ANSWER_AGAIN_SECONDS: Final = 0.5
"""A CONFIRM that comes through every hub at once is answered once; B repeats after twice as long."""
ANSWERS_PER_HUB: Final = 256
"""Answers a second to CONFIRMs of batches not held: a lying hub may not burn the pad of the others."""
PENDING_GROUPS_PER_HUB: Final = 512
"""Groups that one hub may open at a receiver: a lying hub fills its own share only."""
PENDING_SHARE_BYTES: Final = 64 * 1024 * 1024
"""Shares waiting at a receiver, all groups together."""
SEARCHES_PER_SENDER: Final = 4
"""Searches for a candidate that one sender's batches have under way at once; more wait for their turn."""
SEARCHES_WAITING_PER_SENDER: Final = 256
"""Groups that wait for it, as many as a sender has batches under way; beyond it the oldest must wait for
another share."""
LATE_SHARE_BYTES: Final = 16 * 1024 * 1024
"""Polynomials kept to check late shares; beyond it the oldest is forgotten early."""
UNANSWERED_BATCHES_PER_SENDER: Final = 1024
"""Accepted batches of one sender whose answer has not come; beyond it the receiver is full."""
UNANSWERED_CONTROL_BATCHES: Final = 64
"""So many control batches on top: a sender that lost its root must be able to make another."""
TOMBSTONES_PER_SENDER: Final = 131_072
"""Batches of one sender whose lifetime and margin are not over; some 40 MB of memory at most."""
RELAYED_BATCHES: Final = 65_536
"""Batches whose answers a hub still relays."""
RELAY_SECONDS: Final = 900
"""How long a hub remembers a batch that it relayed."""
CONFIRM_RELAYS: Final = 16
"""How often a hub relays the CONFIRM of one batch: a fixed number, so nobody can burn A's pad."""
REFUSABLE_REQUESTS: Final = 1024
"""Requests of one connection that a hub relayed and whose receivers' refusals it still passes back."""
CONTROL_FLOOR_BYTES: Final = 131_072
"""What a hub leaves of a receiver's pad for control traffic: shares stop here."""
PEER_FLOOR_BYTES: Final = 49_152
"""Peer messages stop here: what is left carries the longest realm file and some fifty CONFIRMs."""
RELAY_BUCKETS: Final = 131_072
"""Quotas that a hub counts at once (pairs and receivers); one that is full again is forgotten."""
RELAY_SWEEP_SECONDS: Final = 10
"""How often a hub looks for quotas that are full again; also bounds what looking costs."""
ASSIGN_HOLD_SECONDS: Final = 60
"""How long A may deliver from an ASSIGN after sending it; B keeps the keys for a margin longer."""
ASSIGN_HOLD_MARGIN_SECONDS: Final = 30
"""Covers the way of an ASSIGN and clocks that drift apart within a hold."""
ASSIGN_SECONDS: Final = 5
"""How long A waits for an ASSIGN's answer before it fails the request."""
PEER_RESEND_SECONDS: Final = 1
"""First wait before a control message is repeated; doubles up to PEER_RESEND_SECONDS_MAX."""
PEER_RESEND_SECONDS_MAX: Final = 60
"""Slow enough to cost no pad, fast enough that nobody waits for a revocation."""
PEER_QUEUE: Final = 4096
"""Control messages that wait for one peer; beyond it the oldest batches are given up instead."""
ROOT_SECONDS: Final = 86_400
"""A peer root is renewed by a new control batch after this."""
ROOT_CANDIDATES: Final = 4
"""Roots of one peer that still await the sender's answer; beyond it the oldest goes."""
ROOT_DOUBT_SECONDS: Final = 15
"""Requests unanswered for so long may mean that the peer lost the root: another one is asked for."""
ROOT_RETRY_SECONDS: Final = 60
"""How long a wish for another root is not repeated."""
PEER_WINDOW: Final = 16
"""Control messages to one peer that are under way at once; the others wait for their turn."""
ANSWER_GATHER_SECONDS: Final = 0.02
"""An answer to a CONFIRM waits so long for others to the same peer: one message, one seal, less pad."""
PAST_INCARNATIONS: Final = 16
"""Incarnations of one peer that are known to be over: a late CONFIRM does not bring one back."""
REVOCATIONS_REMEMBERED: Final = 1024
"""Revocations of one pair that are known by id, so that a replay never revokes newer keys."""
EVIDENCE_PER_HUB: Final = 64
"""What shows that a hub did wrong is kept so often for each hub; the oldest goes first, all are counted."""
EVIDENCE_PER_MINUTE: Final = 30
"""The same, written in a minute for each hub: one that is wrong at full speed does not fill the disk."""
TALLY_PEERS_PER_HUB: Final = 1024
"""Peers for which a hub's shares are counted apart; those of further ones are counted together."""
TALLY_SECONDS: Final = 60
"""Counts of shares that were right are written so long after they changed; a crash loses them."""
BENCH_WINDOW_SECONDS: Final = 3600
"""Wrong shares count together that came within so long."""
BENCH_WRONG_SHARES_MAX: Final = 100
"""The most wrong shares that a rule may bear with within that time."""
BENCH_SECONDS_MAX: Final = 31_536_000
"""A year: the longest time that a hub is put on the bench for; a command may leave the end open."""
PROBATION_SECONDS: Final = 3600
"""A hub that was taken out by a command is on probation for so long, if no rule says for how long."""
BENCH_REASON_CHARACTERS: Final = 200
"""An operator's reason for taking a hub out of use."""
LINK_QUEUE_BYTES: Final = 4 * 1024 * 1024
"""Messages that wait for pad or for the socket on one link; beyond it the link is busy."""
LINK_QUEUE_MESSAGES: Final = 16_384
"""The same for their number: a small message costs more memory than its bytes."""
ANSWERABLE_REQUESTS: Final = 8192
"""Requests of a connection whose answers are still matched; older ones count as unanswered."""
WITNESS_SECONDS: Final = 30
"""Once as many hubs as the threshold showed no rollback after a start, how long the majority is
awaited: longer than every dial and preface takes, short enough that keys still flow without it."""
PREFACE_SECONDS: Final = 10
"""A connection that has not finished its preface by then is closed."""

# ── policy and audit (local) ────────────────────────────────────────────────────────────────────
KEYS_LISTED: Final = 256
"""Ids of keys in one answer to an operator, and batches in one list: more would not be read."""
KEYS_NAMED: Final = 1024
"""Ids in one command of an operator (local): as many as one request of an SAE can be about."""
POLICY_FILE_BYTES: Final = 262_144
"""A policy for thousands of names; bounds what reading one costs, also with a hostile file."""
POLICY_GROUP_DEPTH: Final = 8
"""Groups within groups: deeper than anybody still understands."""
POLICY_PATTERNS: Final = 200_000
"""Names of one policy once every group is opened: groups of groups must not fill the memory."""
POLICY_PROBLEMS: Final = 20
"""Mistakes of one policy file that are reported at once."""
POLICY_COMPARISONS: Final = 1_000_000
"""Pairs of rules, or of names, that reviewing or comparing policies looks at: some seconds."""
POLICY_ALIAS_CHARACTERS: Final = 128
"""An application's own spelling of an SAE's name, as certificates and old configurations have it."""
INDEPENDENCE_STEPS: Final = 1024
"""Steps of the search for the fewest parties that have k hubs: hundreds for 24 hubs, at most 40 ms. Beyond
it the number that is proved counts, which is never too high."""
POLICY_DECISIONS: Final = 16_384
"""Decisions remembered until the policy changes; beyond it they are made anew."""
PENDING_REQUESTS: Final = 32
"""Requests of one daemon that wait for a second person: more would not be looked at one by one."""
PENDING_REQUESTS_PER_USER: Final = 8
"""Of them, those of one person, who could otherwise shut the others out."""
PENDING_FILE_BYTES: Final = 1_073_741_824
"""A file that waits with its request: a kit with large tables."""
PENDING_FREE_BYTES: Final = 268_435_456
"""What files that wait leave free on the disk: it is the store's, too."""
PENDING_ENDED: Final = 64
"""Requests of which it is remembered how they ended."""
AUDIT_RECORD_BYTES: Final = 65_536
"""One line of the audit log: room for the ids of every key of the largest delivery request."""
AUDIT_SUBJECTS: Final = 1024
"""Ids that one audit record names: as many as a batch has keys."""
AUDIT_TEXT_CHARACTERS: Final = 200
"""One free text of an audit record: a sentence, not a dump."""
AUDIT_SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""A segment of the audit log is closed beyond this: small enough to be verified at every start."""
AUDIT_SAMPLE_SECONDS: Final = 300
"""Repetitive events that a network can cause are written a few times in so long, and counted."""
AUDIT_SAMPLE_BURST: Final = 3
"""How many of them are written in that time, for one kind and one actor."""
AUDIT_SAMPLE_KEYS: Final = 64
"""Kinds and actors counted apart; with the two above, an attacker fills some 50 MB a day."""
AUDIT_SEAL_SECONDS: Final = 600
"""A record of the audit log is sealed no later than this: older ones no intruder can change."""
AUDIT_SEAL_RECORDS: Final = 10_000
"""And as soon as so many records are not sealed yet."""
CLOCK_JUMP_SECONDS: Final = 5
"""A wall clock that moves so far against the boot clock within a second was set; slewing is slower."""
AUDIT_EPOCHS: Final = 10_000_000
"""Seals of one series: one every ten minutes for 190 years, and seconds of work to verify."""
STORE_SCRUB_SECONDS: Final = 60
"""How often a running daemon leaves nothing erased in its store's log: it costs a few syncs each time."""
AUDIT_SYNC_SECONDS: Final = 1
"""Unimportant records reach the medium no later than this, together."""

# ── keys (local) ────────────────────────────────────────────────────────────────────────────────
TAKE_SECONDS: Final = 8.5
"""From a request for new keys until they are assigned, or it is refused: longer than a batch is waited
for, shorter than any door waits."""
WAITING_REQUESTS: Final = 4096
"""Requests that wait for keys of one kind; beyond it they are refused at once."""
CLAIM_MEMORY_SECONDS: Final = 60
"""Requirements that a peer's latest batch did not meet are not tried again for so long: a caller who
asks for the impossible may not spend everybody's pad."""
BLOCK_KEYS: Final = 256
"""Keys assigned ahead at once: what is left of a block when its pair stops asking is void."""
BLOCKS: Final = 512
"""Blocks of a KME at once; more pairs take the ordinary way."""
BLOCKS_PER_PAIR: Final = 4
"""The one in use and those under way: enough for a pair whose answers take long."""
BLOCK_PAIRS: Final = 4096
"""Pairs of which it is known how much they ask for."""
BLOCK_BUSY_SECONDS: Final = 5
"""How fast it is forgotten what a pair asked for; also what a block is meant to last."""
BLOCK_BUSY_REQUESTS: Final = 4
"""Recent requests that make a pair busy: about one a second."""
BLOCK_IDLE_SECONDS: Final = 15
"""A block that nobody took from for so long is given up."""
BLOCK_QUIET_SECONDS: Final = 60
"""No block is tried again so soon after a peer refused one or did not answer."""
FILL_LOOK_SECONDS: Final = 1
"""How often reserves are looked at, if nobody takes from them."""
FILL_RETRY_SECONDS: Final = 1
"""First wait after filling was refused; doubles up to FILL_RETRY_SECONDS_MAX."""
FILL_RETRY_SECONDS_MAX: Final = 60
"""Slow enough to cost no pad, fast enough that nobody waits for it to notice that all is well."""
RESERVE_STARVED_SECONDS: Final = 60
"""So long a reserve may be below its low mark before that is an alarm: filling one takes a moment."""
PAD_LOOK_SECONDS: Final = 60
"""How often it is noted what is left of pads: far shorter than any of them should last."""
UPKEEP_SECONDS: Final = 1
"""How often expired keys and idle blocks are looked for."""
TIDY_SECONDS: Final = 300
"""How often rows of batches without keys are looked for: they cost some space, nothing else."""

# ── store (local) ───────────────────────────────────────────────────────────────────────────────
STORE_BUSY_MS: Final = 2_000
"""How long opening a store waits for another process to let go of it: a daemon that is just ending."""

# ── enrolment (shared by hub and KME through kits) ──────────────────────────────────────────────
LINK_KEY_BYTES: Final = 64
"""The static key of a link: as long as the HMAC-SHA-512 proofs made with it."""
KIT_HEADER_BYTES: Final = 49_152
"""A kit's header: the longest realm file, the longest names, and room to spare."""
KIT_CHUNK_BYTES: Final = 65_536
"""What of a kit is checked at once: bounds the memory, and what is read of a hostile kit."""
KIT_KDF_MEMORY_KIB_MIN: Final = 8_192
"""Argon2id with less memory is refused: it would not slow anybody down."""
KIT_KDF_MEMORY_KIB_MAX: Final = 1_048_576
"""1 GiB: a hostile kit must not exhaust the machine that looks at it."""
KIT_KDF_PASSES_MAX: Final = 16
"""Bounds the time that a hostile kit costs; with the most memory it is some ten seconds."""
KIT_KDF_LANES_MAX: Final = 16
"""More lanes than machines that run skex have processors."""
KIT_SECONDS_MAX: Final = 31_536_000
"""A kit is valid for a year at most: what lies around longer is forgotten, and found."""
PASSPHRASE_CHARACTERS_MIN: Final = 12
"""Shorter ones are guessed in spite of Argon2id."""
PASSPHRASE_CHARACTERS_MAX: Final = 1024
"""A line that somebody typed; bounds what is read of a file."""

# ── backups (local) ─────────────────────────────────────────────────────────────────────────────
BACKUP_HEADER_BYTES: Final = 512
"""A backup's header: two of the longest names, and numbers."""
BACKUP_CHUNK_BYTES: Final = 65_536
"""What of a backup is sealed, and checked, at once: bounds the memory."""
BACKUP_BYTES: Final = 17_179_869_184
"""16 GiB: the audit log of years; who has more moves old segments to an archive."""
BACKUP_MANIFEST_BYTES: Final = 16_777_216
"""The list of all links and files: the only part of a backup that is held in memory."""
BACKUP_LINKS: Final = 131_072
"""Links of one home, removed ones included."""
BACKUP_FILES: Final = 16_384
"""Files of one home: nearly all of them are segments of the audit log."""
BACKUP_PATH_CHARACTERS: Final = 512
"""A file's path in a home."""
BACKUP_PATH_DEPTH: Final = 16
"""Directories in a path: bounds what restoring makes."""
BACKUP_FILE_BYTES: Final = 1_048_576
"""A configuration, policy, certificate or realm file: they are read whole."""

# ── configuration and command line (local) ──────────────────────────────────────────────────────
CONFIG_FILE_BYTES: Final = 262_144
"""A configuration with hundreds of reserves; bounds what reading one costs."""
CONFIG_PROBLEMS: Final = 20
"""Mistakes of one configuration file that are reported at once."""
CONFIG_ENTRIES: Final = 4_096
"""Reserves, or overridden addresses, of one configuration."""

# ── doors (local) ───────────────────────────────────────────────────────────────────────────────
DOOR_BODY_BYTES: Final = 65_536
"""A request's body: room for the largest list of ids."""
DOOR_LINE_BYTES: Final = 4_096
"""A request line or one header field: a path with a name, and two numbers."""
DOOR_HEADERS: Final = 64
"""Header fields of one request."""
DOOR_JSON_DEPTH: Final = 16
"""Nesting of a request's JSON: extensions may hold objects, not trees."""
DOOR_LIST_ITEMS: Final = 1_024
"""Items of a list in a request: as many as a batch has keys."""
DOOR_QUERY_FIELDS: Final = 16
"""Fields of a query string; the standard knows three."""
DOOR_LOGGED_NAMES: Final = 8
"""Ignored members that one log line names."""
DOOR_CONNECTIONS: Final = 512
"""Connections of one door, handshakes included; more wait in the system's queue. Below the 1024 files
that a process commonly may open."""
DOOR_REQUESTS_PER_SAE: Final = 64
"""Requests of one SAE under way at once; more wait, so that one application cannot starve another."""
DOOR_HANDSHAKE_SECONDS: Final = 5.0
"""A TLS handshake on the site's own network takes milliseconds."""
DOOR_IDLE_SECONDS: Final = 20.0
"""From a connection's start, or its last answer, until a whole request head has arrived."""
DOOR_BODY_SECONDS: Final = 5.0
"""From a request's head until its whole body has arrived."""
DOOR_REQUEST_SECONDS: Final = 9.0
"""Longer than one establishment may take, shorter than the 10 s after which a common client gives up."""
DOOR_ANSWER_SECONDS: Final = 10.0
"""How long a client may take to let an answer be written."""
DOOR_LINGER_SECONDS: Final = 2.0
"""How long an unread body is drained, so that a refusal is read before the connection closes."""
DOOR_CONNECTION_SECONDS: Final = 900.0
"""Older connections close after their next answer: then the certificate is looked at anew."""
DOOR_DRAIN_SECONDS: Final = 10.0
"""How long requests under way may take when the door closes."""
