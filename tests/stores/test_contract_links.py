"""Contract of every store: marks of links, counts, what the other end proved, and freezing."""

from __future__ import annotations

import pytest

from skex.base import codes
from skex.base.ids import Direction
from skex.protocol.changes import LinkFrozen, MarkRaised, PeerSeen, PrefaceCounted
from skex.wire.preface import Marks
from tests.stores.support import HUBS, LINKS, KmeSubject

LINK = LINKS[HUBS[0]]
OTHER = LINKS[HUBS[1]]


def test_marks_counts_and_what_was_seen_are_kept_for_each_link_and_over_a_restart(
    subject: KmeSubject,
) -> None:
    subject.commit(
        [
            MarkRaised(LINK, Direction.TO_HUB, 5),
            MarkRaised(LINK, Direction.TO_KME, 6),
            PrefaceCounted(LINK, 7),
            PeerSeen(LINK, 8, 9, 10),
            MarkRaised(OTHER, Direction.TO_HUB, 11),
        ]
    )
    subject.reopen()
    assert subject.marks(LINK) == Marks(5, 6, 7, 8, 9, 10)
    assert subject.marks(OTHER) == Marks(11, 0, 0, 0, 0, 0)


def test_no_mark_and_no_count_ever_falls(subject: KmeSubject) -> None:
    subject.commit([MarkRaised(LINK, Direction.TO_HUB, 5), MarkRaised(LINK, Direction.TO_KME, 5)])
    subject.commit([PrefaceCounted(LINK, 5), PeerSeen(LINK, 5, 5, 5)])
    subject.commit([MarkRaised(LINK, Direction.TO_HUB, 4), MarkRaised(LINK, Direction.TO_KME, 0)])
    subject.commit([PrefaceCounted(LINK, 4), PeerSeen(LINK, 6, 4, 0)])
    assert subject.marks(LINK) == Marks(5, 5, 5, 6, 5, 5)


def test_the_highest_positions_and_counts_of_the_protocol_fit(subject: KmeSubject) -> None:
    subject.commit([MarkRaised(LINK, Direction.TO_HUB, 2**32 - 1), PrefaceCounted(LINK, 2**53 - 1)])
    subject.reopen()
    assert (subject.marks(LINK).to_hub, subject.marks(LINK).count) == (2**32 - 1, 2**53 - 1)


@pytest.mark.parametrize("order", [1, -1])
def test_link_frozen_for_a_rollback_accuses_whatever_else_froze_it(subject: KmeSubject, order: int) -> None:
    reasons = [codes.PAD_JUMP.name, codes.ROLLBACK_FOUND.name][::order]
    subject.commit([LinkFrozen(LINK, reason) for reason in reasons])
    subject.commit([LinkFrozen(LINK, reasons[0])])
    subject.reopen()
    assert subject.state().frozen_by_rollback == {HUBS[0]}


def test_link_frozen_for_another_reason_accuses_nobody(subject: KmeSubject) -> None:
    """A chain that would have to jump says nothing about this KME's past."""
    subject.commit([LinkFrozen(LINK, codes.PAD_JUMP.name)])
    assert subject.state().frozen_by_rollback == frozenset()


def test_links_to_all_hubs_are_loaded(subject: KmeSubject) -> None:
    assert dict(subject.state().links) == LINKS
