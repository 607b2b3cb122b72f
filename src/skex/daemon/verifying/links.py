"""The two ends of each link, compared: marks, what is erased, what is whole, what both still hold.

That no pad byte was used twice rests on this. An end takes stretches upwards from its mark, and every
stretch begins at or above both ends' marks. So two takes can overlap only where the marks of both ends
fell: a chain's even then make other keystream, because both ends' fresh nonces are in its keys; a
table's would not. Signs of a fallen mark are looked for at both ends: what the other end saw of it, a
pad file ahead of its store, a link frozen or an alarm in the audit log, two copies of one home.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from skex.base import limits
from skex.base.errors import StoreFault
from skex.base.ids import Direction, LinkId
from skex.daemon.verifying.ends import Home, LinkEnd, link_ends
from skex.daemon.verifying.statements import Chapter, Statement, proved, unseen, wrong
from skex.enrol.links import pad_name
from skex.pad.kinds import PadKind
from skex.pad.looking import PadLook, look, looking
from skex.store.links import EnrolledLink

_UNITS_AT_ONCE: Final = limits.PAD_CHUNK_BYTES // limits.TABLE_UNIT_BYTES
_WAYS: Final = {Direction.TO_HUB: "to the hub", Direction.TO_KME: "to the KME"}


@dataclass(frozen=True, slots=True)
class _Link:
    """One link with every home that was given of each of its ends."""

    link_id: LinkId
    hubs: tuple[LinkEnd, ...]
    kmes: tuple[LinkEnd, ...]

    @property
    def ends(self) -> tuple[LinkEnd, ...]:
        return self.hubs + self.kmes

    @property
    def pairs(self) -> tuple[_Pair, ...]:
        stopped = [[end for end in ends if end.kept is not None] for ends in (self.hubs, self.kmes)]
        return tuple(_Pair(hub, kme) for hub in stopped[0] for kme in stopped[1])

    @property
    def enrolled(self) -> EnrolledLink | None:
        return next((end.kept.link for end in self.ends if end.kept is not None), None)

    @property
    def is_chain(self) -> bool:
        """Whether its pads are derived; a running daemon's are asked themselves."""
        if self.enrolled is not None:
            return self.enrolled.kind is PadKind.DERIVED
        try:
            name = pad_name(self.link_id, Direction.TO_HUB)
            return all(look(end.home.pads, name).identity.kind is PadKind.DERIVED for end in self.ends)
        except StoreFault:
            return False

    @property
    def subject(self) -> str:
        link = self.enrolled
        name = f"link {self.link_id.hex()}"
        return name if link is None else f"{link.kme} with {link.hub} ({link.kind.name.lower()}, {name})"


def compare_links(homes: Sequence[Home]) -> tuple[Chapter, ...]:
    """Everything about every link of these homes. Raises ``StoreFault`` where a store lets it down."""
    found: dict[LinkId, tuple[list[LinkEnd], list[LinkEnd]]] = {}
    for home in homes:
        for end in link_ends(home):
            hubs, kmes = found.setdefault(end.link_id, ([], []))
            (hubs if home.is_hub else kmes).append(end)
    links = [_Link(link_id, tuple(hubs), tuple(kmes)) for link_id, (hubs, kmes) in found.items()]
    chapters = (Chapter(link.subject, tuple(_about(link))) for link in links)
    return tuple(sorted(chapters, key=lambda chapter: chapter.subject))


def _about(link: _Link) -> Iterator[Statement]:
    fallen: set[str] = set()
    for end in link.ends:
        yield from _marks(end, fallen)
        yield from _pads(end)
    yield from _copies(link, fallen)
    yield from _seen(link, fallen)
    yield from _agreement(link)
    yield from _overlap(link, fallen)


# ── one end ─────────────────────────────────────────────────────────────────────────────────────
def _marks(end: LinkEnd, fallen: set[str]) -> Iterator[Statement]:
    """The store's marks and the pad files': the store's is raised first, so it is never behind."""
    label = end.label
    if end.was_rolled_back:
        fallen.add(label)
    if end.kept is None:
        yield unseen("marks", f"A daemon runs in the home of {label}: its store was left alone.")
        return
    ahead = [_WAYS[direction] for direction in Direction if _is_ahead(end, direction)]
    if ahead:
        fallen.add(label)
        yield wrong(
            "marks",
            f"At {label} the pad file is ahead of the store ({', '.join(ahead)}): the store was restored.",
        )
    elif end.was_rolled_back:
        yield unseen("marks", f"{label} was once found to be restored from an older copy: its marks fell.")
    else:
        yield proved("marks", f"The marks of store and pad files agree at {label}.")


def _is_ahead(end: LinkEnd, direction: Direction) -> bool:
    try:
        with looking(end.home.pads, pad_name(end.link_id, direction)) as pad:
            return pad.mark() > end.mark(direction)
    except StoreFault:
        return False  # what is wrong with the file itself is said by _pads


def _pads(end: LinkEnd) -> Iterator[Statement]:
    """Everything below the marks is gone, everything above is there."""
    label = end.label
    complaints: list[Statement] = []
    left = 0
    has_tables = False
    for direction in Direction:
        try:
            with looking(end.home.pads, pad_name(end.link_id, direction)) as pad:
                has_tables = has_tables or pad.is_table
                complaints += _owner(end, direction, pad)
                lost, waiting = _below(end, direction, pad)
                left += waiting
                if lost:
                    complaints.append(
                        wrong("erased", f"{lost} used units {_WAYS[direction]} are back at {label}.")
                    )
                if holes := _above(end, direction, pad):
                    text = f"{holes} units {_WAYS[direction]} that were never used are damaged at {label}."
                    complaints.append(wrong("intact", text))
        except StoreFault as error:
            text = f"The pad {_WAYS[direction]} at {label}: {error.code.sentence}"
            complaints.append(wrong("pad", text))
    yield from complaints
    if not complaints:
        yield proved("erased", f"Nothing that was used can be read at {label}.{_waiting(left)}")
        if has_tables:
            yield proved("intact", f"Everything above the marks is there at {label}.")


def _waiting(left: int) -> str:
    """A crash between marking and erasing; the take that it cut off was never used."""
    return (
        f" The next start erases {left} positions of a take that was cut off before its use." if left else ""
    )


def _owner(end: LinkEnd, direction: Direction, pad: PadLook) -> Iterator[Statement]:
    identity = pad.identity
    right = (identity.link_id, identity.direction) == (end.link_id, direction)
    if end.kept is not None:
        link = end.kept.link
        capacity = link.capacity_to_hub if direction is Direction.TO_HUB else link.capacity_to_kme
        right = right and (identity.kind, identity.capacity) == (link.kind, capacity)
    if not right:
        yield wrong("pad", f"The pad {_WAYS[direction]} at {end.label} is another's.")


def _below(end: LinkEnd, direction: Direction, pad: PadLook) -> tuple[int, int]:
    """Positions below the mark that are not erased: those that must be, and those that a start will."""
    erased = pad.erased()
    mark = max(pad.mark(), end.mark(direction))
    if not pad.is_table:
        return 0, mark - erased
    running = end.kept is None
    return pad.remnants(0, erased), 0 if running else pad.remnants(erased, mark)


def _above(end: LinkEnd, direction: Direction, pad: PadLook) -> int:
    """Units above the mark that are not whole. A running daemon may raise the mark meanwhile."""
    if not pad.is_table:
        return 0
    mark = max(pad.mark(), end.mark(direction))
    holes = pad.holes(mark, pad.identity.capacity)
    return pad.holes(pad.mark(), pad.identity.capacity) if holes and end.kept is None else holes


# ── both ends ───────────────────────────────────────────────────────────────────────────────────
def _copies(link: _Link, fallen: set[str]) -> Iterator[Statement]:
    for ends in (link.hubs, link.kmes):
        if len(ends) > 1:
            labels = [end.label for end in ends]
            fallen.update(labels)
            yield wrong("copies", f"{' and '.join(labels)} hold the same end: one is a copy. Run neither.")


def _seen(link: _Link, fallen: set[str]) -> Iterator[Statement]:
    """No end was seen further than it is."""
    for pair in link.pairs:
        ends = ((pair.hub, pair.kme), (pair.kme, pair.hub))
        behind = [(own, other) for own, other in ends if _is_behind(own, other)]
        for own, other in behind:
            fallen.add(own.label)
            text = f"{other.label} has seen {own.label} further than it is: {own.label} was restored."
            # Once it knows, it uses the link no more, or goes on from where it was seen.
            yield unseen("seen", f"{text} It knows.") if own.was_rolled_back else wrong("seen", text)
        if not behind:
            yield proved("seen", f"{pair.labels} are where they saw each other.")


def _is_behind(own: LinkEnd, other: LinkEnd) -> bool:
    if own.kept is None or other.kept is None:
        return False
    have, saw = own.kept.marks, other.kept.marks
    mine = (have.to_hub, have.to_kme, have.count)
    seen = (saw.seen_to_hub, saw.seen_to_kme, saw.seen_count)
    return any(is_now < was for is_now, was in zip(mine, seen, strict=True))


def _agreement(link: _Link) -> Iterator[Statement]:
    """What both ends still hold is the same."""
    if not link.pairs:
        yield unseen("material", "Only where both ends' homes are given, and stopped, can they be compared.")
    for pair in link.pairs:
        try:
            found = {direction: pair.same(direction) for direction in Direction}
        except StoreFault as error:
            yield unseen("material", f"What {pair.labels} hold cannot be compared: {error.code.sentence}")
            continue
        differ = [_WAYS[direction] for direction, same in found.items() if same is False]
        if differ:
            yield wrong("material", f"{pair.labels} hold different material ({', '.join(differ)}).")
        elif set(found.values()) == {None}:
            yield unseen("material", f"{pair.labels} have used everything up: nothing is left to compare.")
        else:
            yield proved("material", f"What {pair.labels} both still hold is equal.")


@dataclass(frozen=True, slots=True)
class _Pair:
    """A hub's end and a KME's end of one link, both with their stores."""

    hub: LinkEnd
    kme: LinkEnd

    @property
    def labels(self) -> str:
        return f"{self.hub.label} and {self.kme.label}"

    def same(self, direction: Direction) -> bool | None:
        """Whether what both hold of one direction is equal; None if nothing is left."""
        name = pad_name(self.hub.link_id, direction)
        with looking(self.hub.home.pads, name) as one, looking(self.kme.home.pads, name) as other:
            kinds = ((pad.identity.kind, pad.identity.capacity) for pad in (one, other))
            if len(set(kinds)) != 1:
                return False
            ends = (self.hub, self.kme)
            start = max(one.mark(), other.mark(), *(end.mark(direction) for end in ends))
            if start >= one.identity.capacity:
                return None
            pieces = (
                _pieces(end, pad, direction, start) for end, pad in zip(ends, (one, other), strict=True)
            )
            return all(hmac.compare_digest(*both) for both in zip(*pieces, strict=True))


def _pieces(end: LinkEnd, pad: PadLook, direction: Direction, start: int) -> Iterator[bytes]:
    """What an end holds from a position on: all of a table, or the one key that a chain goes on from."""
    if end.kept is None:
        return
    if not pad.is_table:
        yield pad.chain_key(start, end.kept.sealer.chain_sealing(end.link_id, direction))
        return
    mask = end.kept.sealer.table_mask(end.link_id, direction)
    capacity = pad.identity.capacity
    for unit in range(start, capacity, _UNITS_AT_ONCE):
        yield pad.material(unit, min(_UNITS_AT_ONCE, capacity - unit), mask)


def _overlap(link: _Link, fallen: set[str]) -> Iterator[Statement]:
    """Whether a pad byte can have been used twice."""
    if link.is_chain:
        yield proved(
            "overlap", "Keystream cannot repeat: fresh nonces of both ends are in every grant's key."
        )
        return
    steady = [
        f"those of {ends[0].label}"
        for ends in (link.hubs, link.kmes)
        if len(ends) == 1 and ends[0].kept is not None and ends[0].label not in fallen
    ]
    if steady:
        text = f"Every grant began at or above both ends' marks; {' and '.join(steady)} never fell."
        yield proved("overlap", text)
    elif link.hubs and link.kmes and all(end.kept is not None for end in link.ends):
        yield wrong("overlap", "The marks of both ends fell: pad may have been used twice. Enrol it again.")
    else:
        yield unseen("overlap", "No end whose marks never fell was given: stop its daemon, give its home.")
