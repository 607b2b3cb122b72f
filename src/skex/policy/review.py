"""What is odd about a policy that can be read: rules that decide nothing, and names that nobody has.

None of it changes what a policy decides. A remark says what is certain; what is not looked for (several
rules that cover one together) is not remarked on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from skex.base import limits
from skex.policy import schema
from skex.policy.covering import Reach, Reaches, is_as_strict, limits_of
from skex.policy.decisions import Place
from skex.policy.evaluate import PolicySet
from skex.policy.groups import group_in
from skex.policy.names import ANY, GROUP, Names, matches
from skex.policy.rules import (
    Direction,
    HubRule,
    KmeBench,
    KmeLimit,
    KmeRule,
    OperatorDual,
    PairQuota,
    Policy,
    Rule,
    SaeLimit,
    SaeRule,
    TotalQuota,
)
from skex.policy.wording import nearest
from skex.wire.independence import collusion
from skex.wire.realm import Realm


class Severity(Enum):
    """How much a remark matters."""

    ERROR = "error"
    """It cannot be meant so: nothing passes, or nothing is read."""
    WARNING = "warning"
    """It decides nothing, or names what is not there."""
    NOTE = "note"
    """It may be meant so."""


class Oddity(Enum):
    """What is remarked on; the words are stable."""

    REDUNDANT = "redundant"
    CONTRADICTED = "contradicted"
    NEVER_MET = "never-met"
    NEVER_MATCHES = "never-matches"
    UNKNOWN_NAME = "unknown-name"
    UNUSED_GROUP = "unused-group"
    UNUSED_ALIAS = "unused-alias"
    WRONG_PLACE = "wrong-place"
    NOT_COMPARED = "not-compared"


SEVERITIES: Final = {
    Oddity.REDUNDANT: Severity.WARNING,
    Oddity.CONTRADICTED: Severity.WARNING,
    Oddity.NEVER_MET: Severity.ERROR,
    Oddity.NEVER_MATCHES: Severity.WARNING,
    Oddity.UNKNOWN_NAME: Severity.WARNING,
    Oddity.UNUSED_GROUP: Severity.NOTE,
    Oddity.UNUSED_ALIAS: Severity.NOTE,
    Oddity.WRONG_PLACE: Severity.NOTE,
    Oddity.NOT_COMPARED: Severity.NOTE,
}


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """One oddity: the line where the rule, group or alias starts, its name, and a sentence."""

    line: int
    about: str
    text: str
    oddity: Oddity = field(compare=False)

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return SEVERITIES[self.oddity]


@dataclass(frozen=True, slots=True)
class Known:
    """What the policy is read against. ``kmes`` is None where nobody knows all of them.

    ``own`` is the KME whose policy it is, ``place`` whether it is a hub's or a KME's.
    """

    kmes: frozenset[str] | None = None
    own: str | None = None
    place: Place | None = None
    realm: Realm | None = None


NOTHING_KNOWN: Final = Known()
_FOREIGN: Final = {Place.HUB: ("kme", "sae"), Place.KME: ("hub",)}


def review(policy: Policy, known: Known = NOTHING_KNOWN) -> tuple[Remark, ...]:
    """Every oddity, in the order of the lines."""
    reviewer = _Reviewer(policy, known)
    return tuple(sorted(reviewer.remarks()))


def _remark(rule: Rule, oddity: Oddity, text: str) -> Remark:
    return Remark(rule.line, rule.id, text, oddity)


def _named(rule: Rule) -> str:
    return f"{rule.id} (line {rule.line})"


class _Reviewer:
    """One policy and what it is read against."""

    def __init__(self, policy: Policy, known: Known) -> None:
        self._policy = policy
        self._known = known
        self._reaches = Reaches(policy)

    def remarks(self) -> Iterator[Remark]:
        """Everything there is to say."""
        for table in schema.TABLES:
            reaches = self._reaches.of(table)
            denies = self._reaches.of(table.replace(".allow", ".deny")) if ".allow" in table else ()
            if len(reaches) * (len(reaches) + len(denies)) > limits.POLICY_COMPARISONS:
                text = f"so many rules of {table} that they were not compared with each other"
                yield _remark(reaches[0].rule, Oddity.NOT_COMPARED, text)
            else:
                yield from self._among(reaches, denies)
        foreign = () if self._known.place is None else _FOREIGN[self._known.place]
        for reach in self._reaches.all:
            if reach.rule.table.partition(".")[0] not in foreign:
                yield from self._alone(reach)
        yield from self._wrong_places()
        yield from self._unused()

    # ── rules among each other ──────────────────────────────────────────────────────────────────
    def _among(self, reaches: tuple[Reach, ...], denies: tuple[Reach, ...]) -> Iterator[Remark]:
        for at, reach in enumerate(reaches):
            if reach.is_empty:
                continue
            deny = next((one for one in denies if one.covers(reach)), None)
            if deny is not None:
                text = f"it never allows anything: {_named(deny.rule)} denies all of it"
                yield _remark(reach.rule, Oddity.CONTRADICTED, text)
                continue
            others = [(one, other) for one, other in enumerate(reaches) if one != at and other.covers(reach)]
            yield from self._redundant(reach, at, others)
            yield from self._never_met(reach, [other for _, other in others])

    def _redundant(self, reach: Reach, at: int, others: Iterable[tuple[int, Reach]]) -> Iterator[Remark]:
        rule = reach.rule
        keys = () if isinstance(rule, OperatorDual) else limits_of(rule.table)
        if keys and all(getattr(rule, key.attribute) is None for key in keys):
            yield _remark(rule, Oddity.REDUNDANT, "it states no limit")
            return
        for one, other in others:
            if not is_as_strict(other.rule, rule):
                continue
            same = reach.covers(other) and is_as_strict(rule, other.rule)
            if same and one > at:
                continue  # the later of two that say the same is the one too many
            what = "says the same" if same else "decides all of it, too"
            yield _remark(rule, Oddity.REDUNDANT, f"it changes nothing: {_named(other.rule)} {what}")
            return

    def _never_met(self, reach: Reach, others: Iterable[Reach]) -> Iterator[Remark]:
        """Keys that must be longer than they may be."""
        rule = reach.rule
        if not isinstance(rule, KmeLimit | SaeLimit):
            return
        together = [one for one in (rule, *(other.rule for other in others)) if isinstance(one, type(rule))]
        lows = [(one.key_bytes_min, one) for one in together if one.key_bytes_min]
        highs = [(one.key_bytes_max, one) for one in together if one.key_bytes_max]
        if not lows or not highs:
            return
        low, by_low = max(lows, key=lambda pair: pair[0])
        high, by_high = min(highs, key=lambda pair: pair[0])
        if low > high and rule in {by_low, by_high}:
            other = by_high if by_low is rule else by_low
            with_whom = "" if other is rule else f" together with {_named(other)}"
            text = f"no key is of at least {low} and at most {high} bytes{with_whom}"
            yield _remark(rule, Oddity.NEVER_MET, text)

    # ── rules alone ─────────────────────────────────────────────────────────────────────────────
    def _alone(self, reach: Reach) -> Iterator[Remark]:
        rule = reach.rule
        if reach.is_empty:
            yield _remark(rule, Oddity.NEVER_MATCHES, "the groups in it are empty")
            return
        text = self._never_matches(rule)
        if text:
            yield _remark(rule, Oddity.NEVER_MATCHES, text)
        yield from self._unknown_names(rule)
        if isinstance(rule, PairQuota | TotalQuota) and 0 in {rule.bytes_burst, rule.requests_burst}:
            yield _remark(
                rule, Oddity.NEVER_MET, "a burst of 0 lets nothing pass; a deny says so more plainly"
            )
        if isinstance(rule, KmeLimit):
            yield from self._beyond_the_realm(rule)
        if isinstance(rule, KmeBench):
            yield from self._unknown_hubs(rule)

    def _never_matches(self, rule: Rule) -> str:
        opened, own = self._reaches.groups.opened, self._known.own
        if (
            isinstance(rule, HubRule)
            and len(opened(rule.from_)) == 1
            and opened(rule.from_) == opened(rule.to)
        ):
            (name,) = opened(rule.to)
            return "" if ANY in name else f"{name} establishes no keys with itself"
        if own is None:
            return ""
        if isinstance(rule, KmeRule | KmeLimit | KmeBench) and opened(rule.peers) == {own}:
            return f"{own} establishes no keys with itself"
        if isinstance(rule, SaeRule | SaeLimit):
            if not any(matches(_kme_part(one), own) for one in opened(rule.local)):
                return f"none of its local SAEs can be of {own}, whose policy this is"
            if all(_kme_part(one) == own for one in opened(rule.remote)):
                return f"SAEs of {own} get no keys of each other from it"
        return ""

    def _unknown_names(self, rule: Rule) -> Iterator[Remark]:
        known = self._known.kmes
        if known is None:
            return
        patterns: set[str] = set()
        if isinstance(rule, HubRule | PairQuota):
            patterns |= rule.from_ | rule.to
        elif isinstance(rule, TotalQuota):
            patterns |= rule.to
        elif isinstance(rule, KmeRule | KmeLimit | KmeBench):
            patterns |= rule.peers
        elif isinstance(rule, SaeRule | SaeLimit):
            patterns |= rule.local | rule.remote
        for name in sorted({_kme_part(one) for one in self._reaches.groups.opened(patterns)}):
            if name in known or (ANY in name and any(matches(name, one) for one in known)):
                continue
            if ANY in name:
                yield _remark(rule, Oddity.UNKNOWN_NAME, f"no KME that is known has a name like {name}")
            else:
                yield _remark(
                    rule, Oddity.UNKNOWN_NAME, f"no KME {name} is known{nearest(name, sorted(known))}"
                )

    def _unknown_hubs(self, rule: KmeBench) -> Iterator[Remark]:
        realm = self._known.realm
        if realm is None:
            return
        known = sorted(hub.name for hub in realm.active_hubs)
        for name in sorted(rule.hubs):
            if not any(matches(name, one) for one in known):
                hint = "" if ANY in name else nearest(name, known)
                yield _remark(rule, Oddity.UNKNOWN_NAME, f"{realm.name} has no hub {name}{hint}")

    def _beyond_the_realm(self, rule: KmeLimit) -> Iterator[Remark]:
        realm = self._known.realm
        if realm is None:
            return
        wanted = rule.minimum_threshold or 0
        if wanted > realm.threshold:
            text = f"the threshold of {realm.name} is {realm.threshold}, so nothing is established"
            yield _remark(rule, Oddity.NEVER_MET, text)
        if rule.minimum_effective_threshold is None:
            return
        policy = PolicySet(self._policy)
        peer = next(iter(sorted(self._reaches.groups.opened(rule.peers))))
        way = Direction.FROM_PEER if rule.direction is Direction.FROM_PEER else Direction.TO_PEER
        floor = policy.kme.independence(peer, way)  # type: ignore[arg-type]  # a pattern stands for all its names
        found = collusion([hub.attributes for hub in realm.active_hubs], realm.threshold, floor.counted)
        if rule.minimum_effective_threshold > found.count:
            parties = " and ".join(map(str, found.parties))
            text = f"while all hubs of {realm.name} are up, {parties} suffice for {realm.threshold} of them"
            yield _remark(rule, Oddity.NEVER_MET, text)

    # ── the file ────────────────────────────────────────────────────────────────────────────────
    def _wrong_places(self) -> Iterator[Remark]:
        place = self._known.place
        for foreign in () if place is None else _FOREIGN[place]:
            found = [rule for rule in self._policy.rules if rule.table.startswith(f"{foreign}.")]
            if place is not None and found:
                first = min(found, key=lambda rule: rule.line)
                whose = "a hub" if place is Place.HUB else "a KME"
                text = f"{whose} reads no rules of {foreign}; there are {len(found)}"
                yield _remark(first, Oddity.WRONG_PLACE, text)

    def _unused(self) -> Iterator[Remark]:
        groups = {group.name: group for group in self._policy.groups}
        used: set[str] = set()
        waiting = [name for rule in self._policy.rules for name in _groups_of(rule)]
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                waiting += [one for member in groups[name].members if (one := group_in(member)) is not None]
        for name in groups.keys() - used:
            line = groups[name].line
            yield Remark(line, f"groups.{name}", "no rule refers to it", Oddity.UNUSED_GROUP)
        allows = [
            rule for rule in self._policy.rules if isinstance(rule, SaeRule) and rule.table == "sae.allow"
        ]
        opened = self._reaches.groups.opened
        reachable = Names.of(opened({name for rule in allows for name in rule.local | rule.remote}))
        for alias in self._policy.aliases:
            if alias.sae not in reachable:
                text = f"no rule allows {alias.sae} anything"
                yield Remark(alias.line, f"aliases.{alias.name}", text, Oddity.UNUSED_ALIAS)


def _kme_part(pattern: str) -> str:
    """The pattern of KMEs in a pattern of SAEs; a pattern of KMEs is one already."""
    return pattern.rpartition(GROUP)[2]


def _groups_of(rule: Rule) -> Iterator[str]:
    for key in schema.TABLES[rule.table].keys:
        if key.kind in {schema.KME_NAMES, schema.SAE_NAMES}:
            for pattern in getattr(rule, key.attribute):
                name = group_in(pattern)
                if name is not None:
                    yield name
