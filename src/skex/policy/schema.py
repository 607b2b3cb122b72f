"""Every table and key of the language, once: reading, writing and the reference are made from it.

A new key gets a line here, a field in ``rules`` and a question in ``evaluate``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from skex.base import limits
from skex.policy import names, rules
from skex.policy.groups import NameKind
from skex.policy.rules import OperatorCommand
from skex.policy.wording import NUMBER_MAX, nearest, quoted, shown
from skex.protocol.hub import Stream
from skex.wire.claim import ClaimClass
from skex.wire.context import Purpose
from skex.wire.independence import COUNTED, Attribute

REQUIRED: Final = object()
"""The default of a key that a rule must have."""
NO: Final = False


class Problem(ValueError):
    """A value that its key cannot have; ``index`` is the element of a list that is wrong."""

    def __init__(self, text: str, index: int | None = None) -> None:
        super().__init__(text)
        self.index = index


# ── kinds of values ─────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How the values of a key are read, written and described.

    ``read`` raises ``Problem``; it makes an equal value of what ``write`` wrote.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], str]
    what: str


def _expected(what: str, value: object, hint: str = "") -> Problem:
    return Problem(f"must be {what}, not {shown(value)}{hint}")


def _number(low: int, high: int = NUMBER_MAX, *, fractions: bool = False) -> Kind:
    """An integer within bounds; any number within them where ``fractions`` make sense."""
    top = "2^53" if high == NUMBER_MAX else f"{high}"
    what = f"{'a number' if fractions else 'an integer'} from {low} to {top}"

    def read(value: Any) -> Any:
        is_number = type(value) is int or (fractions and type(value) is float and math.isfinite(value))
        if not is_number or not low <= value <= high:
            raise _expected(what, value)
        return value

    return Kind(read, repr, what)


def _flag() -> Kind:
    def read(value: Any) -> Any:
        if type(value) is not bool:
            raise _expected("true or false", value)
        return value

    return Kind(read, lambda value: "true" if value else "false", "true or false")


def _choice(words: Mapping[str, Any]) -> Kind:
    """One of a few words, each standing for a value."""
    spelled = {value: word for word, value in words.items()}
    what = " or ".join(quoted(word) for word in words)

    def read(value: Any) -> Any:
        if type(value) is not str or value not in words:
            raise _expected(what, value, nearest(value, words))
        return words[value]

    return Kind(read, lambda value: quoted(spelled[value]), what)


def _list_of(element: Kind, elements: str) -> Kind:
    """A list of one or more, in which order and repetition mean nothing."""
    what = f"a list of {elements}"

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _expected(what, value, ": write it in brackets" if type(value) is str else "")
        if not value:
            raise Problem("an empty list matches nothing; leave the rule out")
        found = set()
        for index, one in enumerate(value):
            try:
                found.add(element.read(one))
            except Problem as problem:
                raise Problem(str(problem), index) from problem
        return frozenset(found)

    def write(value: Any) -> str:
        return f"[{', '.join(sorted(element.write(one) for one in value))}]"

    return Kind(read, write, what)


def _text(check: Callable[[str], None], what: str) -> Kind:
    """A string whose form ``check`` knows; it raises ``NameProblem``."""

    def read(value: Any) -> Any:
        if type(value) is not str:
            raise _expected(what, value)
        try:
            check(value)
        except names.NameProblem as problem:
            raise Problem(f"{shown(value)}: {problem}") from problem
        return value

    return Kind(read, quoted, what)


# ── tables ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table. ``unstated`` is what counts where no rule of the table states it."""

    name: str
    kind: Kind
    default: Any
    meaning: str
    unstated: Any = None

    @property
    def attribute(self) -> str:
        """The field's name in Python, where ``from`` is taken."""
        return f"{self.name}_" if self.name == "from" else self.name


def _fits(_: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Table:
    """One array of tables: what its rules are made of. ``groups`` says what groups in it hold.

    ``objection`` says what is wrong with the values of one rule together, or nothing.
    """

    name: str
    make: Callable[..., rules.Rule]
    meaning: str
    keys: tuple[Key, ...]
    groups: NameKind = NameKind.KME
    objection: Callable[[Mapping[str, Any]], str] = _fits


def _words(kind: type[Enum]) -> dict[str, Any]:
    return {member.value: member for member in kind}


def _is_printable(text: str, characters: int, but: str = "") -> bool:
    return 1 <= len(text) <= characters and all(" " <= one <= "~" and one not in but for one in text)


def _check_label(text: str) -> None:
    if not _is_printable(text, limits.PURPOSE_CHARACTERS):
        raise names.NameProblem(f"labels are 1 to {limits.PURPOSE_CHARACTERS} printable ASCII characters")


def _check_name(text: str) -> None:
    if not names.is_name(text):
        raise names.NameProblem(f"names are {names.NAME_FORM}")


def check_alias(text: str) -> None:
    """Refuse what an application could not write as a bare name. Raises ``NameProblem``."""
    if not _is_printable(text, limits.POLICY_ALIAS_CHARACTERS, but=" @/"):
        raise names.NameProblem(
            f"aliases are 1 to {limits.POLICY_ALIAS_CHARACTERS} printable ASCII characters,"
            " without space, '@' and '/'"
        )


CLAIMS: Final[Mapping[str, ClaimClass]] = {
    "computational": ClaimClass.COMPUTATIONAL,
    "hybrid": ClaimClass.HYBRID,
    "information-theoretic": ClaimClass.INFORMATION_THEORETIC,
}
PURPOSES: Final[Mapping[str, Purpose]] = {"control": Purpose.CONTROL, "traffic": Purpose.TRAFFIC}

KME_NAMES: Final = _list_of(_text(names.check_kme, "a KME name"), 'KME names, "*" in names, and "@groups"')
SAE_NAMES: Final = _list_of(_text(names.check_sae, "an SAE id"), 'SAE ids, "*" in them, and "@groups"')
HUB_NAMES: Final = _list_of(_text(names.check_hub, "a hub name"), 'hub names, "*" in names')
_LABELS: Final = _list_of(_text(_check_label, "a label"), 'labels, "*" in them')
NAME: Final = Key(
    "id",
    _text(_check_name, "a name"),
    "",
    "The rule's name in decisions and the audit log. Without one it is named by a digest of what it says.",
)
_KEY_BYTES: Final = _number(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX)
_LIFETIME: Final = _number(limits.LIFETIME_SECONDS_MIN, limits.LIFETIME_SECONDS_MAX)
_AMOUNT: Final = _number(0)
_RATE: Final = _number(0, fractions=True)
_DIRECTION: Final = Key(
    "direction",
    _choice(_words(rules.Direction)),
    rules.Direction.BOTH,
    "`to-peer`: keys that SAEs here ask for as masters. `from-peer`: keys that the peer's SAEs ask for.",
)
_ROLE: Final = Key(
    "role",
    _choice(_words(rules.Role)),
    rules.Role.BOTH,
    "What the local SAE is: a `master` asks for new keys, a `slave` takes them by their ids.",
)


def _hub_rule(name: str, meaning: str) -> Table:
    return Table(
        name,
        rules.HubRule,
        meaning,
        (
            NAME,
            Key("from", KME_NAMES, REQUIRED, "The KMEs that send batches: their SAEs are masters."),
            Key("to", KME_NAMES, REQUIRED, "The KMEs that receive them."),
            Key("both_ways", _flag(), NO, "The rule also holds with `from` and `to` exchanged."),
            Key(
                "purposes",
                _list_of(_choice(PURPOSES), '"control" and "traffic"'),
                frozenset(PURPOSES.values()),
                "`traffic`: keys for SAEs. `control`: what the two KMEs' own messages rest on;"
                " without it no traffic key is ever confirmed.",
            ),
        ),
    )


_MEGABYTE: Final = 1024 * 1024
QUOTAS: Final = ("bytes_per_second", "bytes_burst", "requests_per_second", "requests_burst")
# A batch costs its receiver half a millisecond for each hub, whatever becomes of it: what a pair may do
# unless told otherwise leaves most of the receiver's time to others, and its burst is over in a second. A
# batch may carry a hundred keys and more, so nobody who makes keys to use them comes near.
PAIR_QUOTAS: Final[Mapping[Stream, tuple[int, int, int, int]]] = {
    Stream.SHARES: (_MEGABYTE, 64 * _MEGABYTE, 100, 300),
    Stream.PEER_MESSAGES: (256 * 1024, 8 * _MEGABYTE, 200, 2000),
}
TOTAL_QUOTAS: Final[Mapping[Stream, tuple[int, int, int, int]]] = {
    Stream.SHARES: (16 * _MEGABYTE, 256 * _MEGABYTE, 5000, 50_000),
    Stream.PEER_MESSAGES: (4 * _MEGABYTE, 64 * _MEGABYTE, 2000, 20_000),
}


def _quota(
    name: str,
    make: Callable[..., rules.Rule],
    meaning: str,
    who: tuple[Key, ...],
    unstated: Mapping[Stream, tuple[int, int, int, int]],
) -> Table:
    meanings = (
        "Pad bytes a second in the long run.",
        "Pad bytes at once. Below 65,552 the largest batches never pass; 0 lets nothing pass.",
        "Batches (or peer messages) a second in the long run.",
        "Batches (or peer messages) at once. 0 lets nothing pass.",
    )
    numbers = tuple(
        Key(
            key,
            _AMOUNT if key.endswith("burst") else _RATE,
            None,
            meaning,
            tuple(unstated[s][at] for s in Stream),
        )
        for at, (key, meaning) in enumerate(zip(QUOTAS, meanings, strict=True))
    )
    stream = Key(
        "stream",
        _choice(_words(Stream)),
        Stream.SHARES,
        "`shares`: establishment, what keys cost. `peer-messages`: what the two KMEs say to each other.",
    )
    return Table(name, make, meaning, (NAME, *who, stream, *numbers))


def _kme_rule(name: str, meaning: str) -> Table:
    peers = Key("peers", KME_NAMES, REQUIRED, "The other KMEs.")
    return Table(name, rules.KmeRule, meaning, (NAME, peers, _DIRECTION))


def _sae_rule(name: str, meaning: str) -> Table:
    return Table(
        name,
        rules.SaeRule,
        meaning,
        (
            NAME,
            Key("local", SAE_NAMES, REQUIRED, "SAEs of this KME."),
            Key("remote", SAE_NAMES, REQUIRED, "SAEs of other KMEs."),
            _ROLE,
            Key(
                "purposes",
                _LABELS,
                frozenset({names.ANY}),
                'The purposes for which keys are asked; an application that names none asks for "any".',
            ),
        ),
        NameKind.SAE,
    )


# ── operators ───────────────────────────────────────────────────────────────────────────────────
COMMANDS: Final[Mapping[OperatorCommand, str]] = {
    OperatorCommand.STATUS: "`skex hub status`, `skex kme status`; also `/health` and `/metrics`.",
    OperatorCommand.PENDING: "`skex operator pending`: what others asked for and nobody approved yet.",
    OperatorCommand.POLICY: "The policy in force: `skex operator list`, `test`, `skex policy`.",
    OperatorCommand.APPROVE: "`skex operator approve`, `skex operator reject`: to be the second person for"
    " commands that one may ask for, too.",
    OperatorCommand.RELOAD: "`skex hub reload`, `skex kme reload`: take in the policy that is in its file.",
    OperatorCommand.RESERVE: "`skex kme reserve`: look at reserves, switch their filling, drain one.",
    OperatorCommand.BLAME: "`skex kme blame`: what shows that hubs did wrong.",
    OperatorCommand.BENCH: "`skex kme bench`, `skex kme bring-back`: take a hub out of use and back.",
    OperatorCommand.KIT_CREATE: "`skex kit create` at a hub: enrol a KME.",
    OperatorCommand.KIT_IMPORT: "`skex kit import` at a KME: enrol it with a hub.",
    OperatorCommand.REALM_UPDATE: "`skex hub update-realm`: serve another epoch of the realm.",
    OperatorCommand.KEY_READ: "`skex key list`, `show` and `explain`: ids and facts, never keys.",
    OperatorCommand.KEY_SUSPEND: "`skex key suspend`, `skex key resume`: let keys rest, at this end.",
    OperatorCommand.KEY_REVOKE: "`skex key revoke`: end keys at both ends.",
    OperatorCommand.AUDIT: "What the daemon remembers of its audit log's end, and sealing it now.",
    OperatorCommand.AUDIT_KEY: "Take the key by which an auditor checks the seals.",
}
"""What each command lets somebody do, for people."""
ROLES: Final[Mapping[str, frozenset[OperatorCommand]]] = {
    "viewer": frozenset({OperatorCommand.STATUS}),
    "operator": frozenset(
        {
            OperatorCommand.STATUS,
            OperatorCommand.PENDING,
            OperatorCommand.RESERVE,
            OperatorCommand.BLAME,
            OperatorCommand.BENCH,
            OperatorCommand.KEY_READ,
        }
    ),
    "security-officer": frozenset(
        {
            OperatorCommand.STATUS,
            OperatorCommand.PENDING,
            OperatorCommand.POLICY,
            OperatorCommand.APPROVE,
            OperatorCommand.RELOAD,
            OperatorCommand.BLAME,
            OperatorCommand.BENCH,
            OperatorCommand.KIT_CREATE,
            OperatorCommand.KIT_IMPORT,
            OperatorCommand.REALM_UPDATE,
            OperatorCommand.KEY_READ,
            OperatorCommand.KEY_SUSPEND,
            OperatorCommand.KEY_REVOKE,
        }
    ),
    "auditor": frozenset(
        {
            OperatorCommand.STATUS,
            OperatorCommand.PENDING,
            OperatorCommand.POLICY,
            OperatorCommand.BLAME,
            OperatorCommand.KEY_READ,
            OperatorCommand.AUDIT,
            OperatorCommand.AUDIT_KEY,
        }
    ),
}
"""The roles that every policy has. Who keeps the daemon running makes no keys' trust, and who watches
changes nothing."""
DUAL: Final = frozenset(
    {
        OperatorCommand.RELOAD,
        OperatorCommand.RESERVE,
        OperatorCommand.BENCH,
        OperatorCommand.KIT_CREATE,
        OperatorCommand.KIT_IMPORT,
        OperatorCommand.REALM_UPDATE,
        OperatorCommand.KEY_REVOKE,
    }
)
"""Commands that can wait for a second person: they change something, and hand nothing out."""
PENDING_SECONDS: Final = 86_400
"""How long a request waits where no rule says it: until the colleague is back tomorrow."""


def _commands(known: Iterable[OperatorCommand]) -> Kind:
    words = [rules.EVERY_COMMAND, *(one.value for one in OperatorCommand if one in known)]
    listed = ", ".join(quoted(word) for word in words)
    return _list_of(_choice({word: word for word in words}), f"commands, of {listed}")


_USERS: Final = _list_of(
    _text(names.check_user, "a user's or group's name"), 'names as the system knows them, "*" in them'
)
_OPERATOR_COMMANDS: Final = Key(
    "commands", _commands(OperatorCommand), frozenset(), "Single commands, besides those of the roles."
)
_NOBODY: Final[frozenset[str]] = frozenset()


def _role_objection(values: Mapping[str, Any]) -> str:
    name = values[NAME.name]
    if not name:
        return '"id" is missing: what rules call the role by'
    return f"{quoted(name)} is a role that every policy has; take another name" if name in ROLES else ""


def _operator_objection(values: Mapping[str, Any]) -> str:
    if not values["users"] and not values["unix_groups"]:
        return 'says for nobody: state "users" or "unix_groups"'
    if not values["roles"] and not values["commands"]:
        return 'says nothing: state "roles" or "commands"'
    return ""


def _operator_rule(name: str, meaning: str) -> Table:
    return Table(
        name,
        rules.OperatorRule,
        meaning,
        (
            NAME,
            Key("users", _USERS, _NOBODY, "Users of this machine; `uid-NUMBER` for one without a name."),
            Key("unix_groups", _USERS, _NOBODY, "Groups of this machine; `gid-NUMBER` likewise."),
            Key(
                "roles",
                _list_of(_text(_check_name, "a role's name"), "names of roles"),
                _NOBODY,
                "`viewer`, `operator`, `security-officer`, `auditor`, and those of `operator.role`.",
            ),
            _OPERATOR_COMMANDS,
        ),
        objection=_operator_objection,
    )


_OPERATOR_TABLES: Final = (
    Table(
        "operator.role",
        rules.OperatorRole,
        "A role of this policy's own, besides the four that every policy has.",
        (
            Key(NAME.name, NAME.kind, NAME.default, "The role's name; required."),
            Key("commands", _commands(OperatorCommand), REQUIRED, "What its holders may ask for."),
        ),
        objection=_role_objection,
    ),
    _operator_rule("operator.allow", "Who besides the daemon's own user may ask it for what."),
    _operator_rule("operator.deny", "Who may not, whatever is allowed."),
    Table(
        "operator.dual",
        rules.OperatorDual,
        "Commands that wait until a second person has approved them.",
        (
            NAME,
            Key("commands", _commands(DUAL), REQUIRED, "What one person alone cannot do."),
            Key(
                "pending_seconds_max",
                _number(60, 604_800),
                None,
                "How long a request waits for the second person.",
                PENDING_SECONDS,
            ),
        ),
    ),
)


TABLES: Final[Mapping[str, Table]] = {
    table.name: table
    for table in (
        _hub_rule("hub.allow", "Who may establish keys with whom through this hub."),
        _hub_rule("hub.deny", "Who may not, whatever is allowed."),
        _quota(
            "hub.pair_quota",
            rules.PairQuota,
            "How much each KME in `from` may draw on the pad of each KME in `to`.",
            (
                Key("from", KME_NAMES, REQUIRED, "The KMEs that send."),
                Key("to", KME_NAMES, REQUIRED, "The KMEs whose pads are drawn on."),
            ),
            PAIR_QUOTAS,
        ),
        _quota(
            "hub.total_quota",
            rules.TotalQuota,
            "How much all KMEs together may draw on the pad of each KME in `to`.",
            (Key("to", KME_NAMES, REQUIRED, "The KMEs whose pads are drawn on."),),
            TOTAL_QUOTAS,
        ),
        _kme_rule("kme.allow", "The KMEs with which this one establishes keys."),
        _kme_rule("kme.deny", "The KMEs with which it does not, whatever is allowed."),
        Table(
            "kme.limit",
            rules.KmeLimit,
            "What keys must be and how many are kept. Control batches are held to `minimum_threshold` and"
            " `minimum_effective_threshold` only.",
            (
                NAME,
                Key("peers", KME_NAMES, REQUIRED, "The other KMEs."),
                _DIRECTION,
                Key(
                    "minimum_threshold",
                    _number(1, limits.REALM_HUBS),
                    None,
                    "Hubs that must collude to learn a key; realms with a lower threshold are not used."
                    " 1 is for links without hubs only.",
                    2,
                ),
                Key(
                    "minimum_effective_threshold",
                    _number(1, limits.REALM_HUBS),
                    None,
                    "Independent parties that must collude to learn a key, counted by `independence`;"
                    " hubs behind which there are fewer are not used.",
                    1,
                ),
                Key(
                    "independence",
                    _list_of(_choice(_words(Attribute)), "attributes of hubs"),
                    None,
                    "What makes two hubs depend on one party, if the realm file states the same for both:"
                    " "
                    + ", ".join(f"`{one.value}`" for one in Attribute)
                    + ". Of several limits, what any of them states counts.",
                    COUNTED,
                ),
                Key(
                    "minimum_claim",
                    _choice(CLAIMS),
                    None,
                    "The weakest class that a key's claim may have.",
                    ClaimClass.COMPUTATIONAL,
                ),
                Key("key_bytes_min", _KEY_BYTES, None, "The shortest key.", limits.KEY_BYTES_MIN),
                Key("key_bytes_max", _KEY_BYTES, None, "The longest key.", limits.KEY_BYTES_MAX),
                Key(
                    "batch_keys_max",
                    _number(1, limits.BATCH_KEYS),
                    None,
                    "Keys in one batch.",
                    limits.BATCH_KEYS,
                ),
                Key("lifetime_seconds_max", _LIFETIME, None, "How long a key may wait to be used.", 604_800),
                Key(
                    "reserve_age_seconds_max",
                    _LIFETIME,
                    None,
                    "How old a key in the reserve may be to be handed out; an older one is replaced.",
                    604_800,
                ),
                Key("stored_batches_max", _AMOUNT, None, "Batches kept for one peer and direction.", 16_384),
                Key(
                    "stored_bytes_max",
                    _AMOUNT,
                    None,
                    "Key bytes kept for one peer and direction.",
                    64 * _MEGABYTE,
                ),
            ),
        ),
        Table(
            "kme.bench",
            rules.KmeBench,
            "When a hub that brings wrong shares is put on the bench, for batches with the peer in whose"
            " batches it did. Where no rule matches a hub and a peer, nothing is ever done by itself.",
            (
                NAME,
                Key("hubs", HUB_NAMES, frozenset({names.ANY}), "The hubs."),
                Key("peers", KME_NAMES, REQUIRED, "The KMEs with which batches are made."),
                Key(
                    "wrong_shares",
                    _number(1, limits.BENCH_WRONG_SHARES_MAX),
                    REQUIRED,
                    "So many batches within an hour for which its share was wrong for certain.",
                ),
                Key(
                    "missing_in_a_row",
                    _number(1),
                    None,
                    "So many batches in a row for which it brought none, though it was connected."
                    " Without it, missing shares are only counted.",
                ),
                Key(
                    "seconds",
                    _number(1, limits.BENCH_SECONDS_MAX),
                    None,
                    "How long it stays there, and is on probation behind it. Of several, the longest counts.",
                    limits.PROBATION_SECONDS,
                ),
            ),
        ),
        _sae_rule("sae.allow", "Which SAE here may share keys with which SAE elsewhere."),
        _sae_rule("sae.deny", "Which may not, whatever is allowed."),
        Table(
            "sae.limit",
            rules.SaeLimit,
            "How much an SAE may ask for.",
            (
                NAME,
                Key("local", SAE_NAMES, REQUIRED, "SAEs of this KME."),
                Key("remote", SAE_NAMES, REQUIRED, "SAEs of other KMEs."),
                _ROLE,
                Key("key_bytes_min", _KEY_BYTES, None, "The shortest key.", limits.KEY_BYTES_MIN),
                Key("key_bytes_max", _KEY_BYTES, None, "The longest key.", limits.KEY_BYTES_MAX),
                Key(
                    "keys_per_request_max",
                    _number(1, limits.BATCH_KEYS),
                    None,
                    "Keys in one request, new or by their ids.",
                    128,
                ),
                Key("slaves_max", _number(1, limits.SLAVES), None, "Slaves of one request.", 16),
                Key(
                    "lifetime_seconds_max",
                    _LIFETIME,
                    None,
                    "The longest lifetime that may be asked for, and that of keys asked for without one.",
                    604_800,
                ),
                Key(
                    "use_seconds_max",
                    _LIFETIME,
                    None,
                    "How long the SAE may use a key once it has it. Stated with the key: the SAE keeps it.",
                    limits.LIFETIME_SECONDS_MAX,
                ),
                Key(
                    "uses_max",
                    _number(1),
                    None,
                    "How often the SAE may use a key: once for each message it protects. Stated likewise.",
                    NUMBER_MAX,
                ),
            ),
            NameKind.SAE,
        ),
        *_OPERATOR_TABLES,
    )
}

CONTROL_FLOOR: Final = Key(
    "control_floor_bytes",
    _number(limits.PEER_FLOOR_BYTES),
    limits.CONTROL_FLOOR_BYTES,
    "What shares leave over of a receiver's pad, for control traffic.",
)
PEER_FLOOR: Final = limits.PEER_FLOOR_BYTES
"""What peer messages leave over: it carries what ends a dispute, so no policy sets it."""
SETTINGS: Final[Mapping[str, tuple[Key, ...]]] = {
    "hub": (CONTROL_FLOOR,),
    "kme": (),
    "sae": (),
    "operator": (),
}
"""The keys of each place that are not rules."""
VERSION: Final = 1
"""Of the language: a policy that needs a later one says so, and is refused here."""
