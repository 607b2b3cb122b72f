"""What is exposed: a truth table of incidents, each with the split that follows from the design."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from skex.audit.exposure import NEVER, Attack, Batch, Breach, Fate, History, Life, Link, Reason, Where

HUBS = ("h1", "h2", "h3", "h4", "h5")
T = 1_000_000.0
HOUR = 3600.0
UNKNOWN = Fate()


def hub(name: str, since: float = T, until: float = NEVER) -> Breach:
    return Breach(Where.HUB, name, since, until)


def kme(name: str, since: float = T, until: float = NEVER) -> Breach:
    return Breach(Where.KME, name, since, until)


def link_id(owner: str, hub_name: str) -> str:
    return f"{owner}-{hub_name}"


def batch(at: float, sender: str = "a", receiver: str = "b", threshold: int = 3) -> Batch:
    return Batch(
        sender=sender,
        receiver=receiver,
        batch="batch",
        keys=4,
        threshold=threshold,
        hubs=HUBS,
        begin=at,
        end=at,
        sender_links=tuple(link_id(sender, one) for one in HUBS),
        receiver_links=tuple(link_id(receiver, one) for one in HUBS),
    )


def links(*, is_table: bool = False) -> dict[str, Link]:
    """Everybody enrolled long ago."""
    life = Life(T - 1000 * HOUR)
    made = (Link(link_id(k, h), h, k, is_table, life, life) for k in ("a", "b", "c") for h in HUBS)
    return {one.link: one for one in made}


def reason(
    breaches: list[Breach],
    made: Batch,
    fate: Fate = UNKNOWN,
    known: dict[str, Link] | None = None,
) -> Reason:
    """The verdict of all keys of one batch, with no allowance for clocks."""
    history = History((made,), links() if known is None else known, {}, {made.batch: fate})
    (verdict,) = Attack(breaches, history, slack=0).assess(made)
    assert verdict.count == 4
    return verdict.reason


@dataclass(frozen=True)
class Case:
    what: str
    breaches: list[Breach]
    made: Batch
    wanted: Reason
    fate: Fate = UNKNOWN
    known: dict[str, Link] | None = None


def renewed(hub_name: str, at: float) -> dict[str, Link]:
    """All links of a hub enrolled anew; batches of before name the old ones."""
    found = links()
    for k in ("a", "b"):
        old = found[link_id(k, hub_name)]
        found[old.link] = replace(old, at_hub=Life(old.at_hub.begin, at), at_kme=Life(old.at_kme.begin, at))
        found[f"new-{k}"] = Link(f"new-{k}", hub_name, k, at_hub=Life(at), at_kme=Life(at))
    return found


def on_new_links(made: Batch, hub_name: str) -> Batch:
    at = HUBS.index(hub_name)
    sent, received = list(made.sender_links), list(made.receiver_links)
    sent[at], received[at] = "new-a", "new-b"
    return replace(made, sender_links=tuple(sent), receiver_links=tuple(received))


GONE = Fate(T - HOUR, T - HOUR)
CASES = [
    Case("two of three hubs", [hub("h1"), hub("h2")], batch(T + HOUR), Reason.BELOW_THRESHOLD),
    Case("three hubs", [hub("h1"), hub("h2"), hub("h3")], batch(T + HOUR), Reason.THRESHOLD),
    Case("three hubs, before", [hub(h) for h in HUBS], batch(T - HOUR), Reason.ERASED_BEFORE),
    Case("within the clock of a grant", [hub(h) for h in HUBS], batch(T - 599), Reason.THRESHOLD),
    Case("just before that clock", [hub(h) for h in HUBS], batch(T - 601), Reason.ERASED_BEFORE),
    Case(
        "table pads keep nothing behind their use",
        [hub(h) for h in HUBS],
        batch(T - 599),
        Reason.ERASED_BEFORE,
        known=links(is_table=True),
    ),
    Case(
        "table pads that are left carry what comes",
        [hub(h) for h in HUBS],
        batch(T + HOUR),
        Reason.THRESHOLD,
        known=links(is_table=True),
    ),
    Case(
        "one after the other, between",
        [hub("h1", T), hub("h2", T + HOUR), hub("h3", T + 9 * HOUR)],
        batch(T + 2 * HOUR),
        Reason.BELOW_THRESHOLD,
    ),
    Case(
        "one after the other, behind the last",
        [hub("h1", T, T + 1), hub("h2", T + HOUR, T + HOUR), hub("h3", T + 9 * HOUR)],
        batch(T + 10 * HOUR),
        Reason.THRESHOLD,  # links do not heal by themselves
    ),
    Case("another KME", [kme("c")], batch(T + HOUR), Reason.LEGS_INTACT),
    Case("a hub that was not used", [hub("h9")], batch(T + HOUR), Reason.LEGS_INTACT),
    Case("the receiver", [kme("b")], batch(T + HOUR), Reason.THRESHOLD, GONE),
    Case("the sender, keys made long before and there", [kme("a")], batch(T - HOUR), Reason.AT_REST),
    Case("the receiver, keys there", [kme("b")], batch(T - HOUR), Reason.AT_REST, Fate(T - HOUR)),
    Case("delivered and erased at both before", [kme("b")], batch(T - 9 * HOUR), Reason.ERASED_BEFORE, GONE),
    Case("erased at the sender, others have it", [kme("a")], batch(T - HOUR), Reason.ERASED_BEFORE,
         Fate(at_sender=T - 100)),
    Case("erased so lately that the store's log has it", [kme("a")], batch(T - HOUR), Reason.AT_REST,
         Fate(at_sender=T - 59)),
    Case("a KME that was left before the keys were made, links as they were", [kme("b", T, T + 1)],
         batch(T + HOUR), Reason.THRESHOLD),
    Case(
        "a hub enrolled anew behind it",
        [hub("h1", T, T + HOUR), hub("h2"), hub("h3")],
        on_new_links(batch(T + 9 * HOUR), "h1"),
        Reason.BELOW_THRESHOLD,
        known=renewed("h1", T + 2 * HOUR),
    ),
    Case(
        "a hub enrolled anew while somebody still had it",
        [hub("h1", T, T + 3 * HOUR), hub("h2"), hub("h3")],
        on_new_links(batch(T + 9 * HOUR), "h1"),
        Reason.THRESHOLD,
        known=renewed("h1", T + 2 * HOUR),
    ),
    Case(
        "a hub had only behind the end of the links",
        [hub("h1", T + 3 * HOUR), hub("h2"), hub("h3")],
        batch(T + HOUR),
        Reason.BELOW_THRESHOLD,
        known=renewed("h1", T + 2 * HOUR),
    ),
    Case("hubs not recorded", [hub("h1")], replace(batch(T), hubs=()), Reason.NOT_RECORDED),
    Case("hubs not recorded, its end", [kme("a")], replace(batch(T), hubs=()), Reason.NOT_RECORDED),
    Case("hubs not recorded, no hub had", [kme("c")], replace(batch(T), hubs=()), Reason.LEGS_INTACT),
    Case(
        "links not recorded count as those of now",
        [hub(h, T, T + 1) for h in HUBS[:3]],
        replace(batch(T + 9 * HOUR), sender_links=(), receiver_links=()),
        Reason.THRESHOLD,
    ),
    Case("a hub and the receiver's own links", [hub("h1"), kme("b")], batch(T + 1), Reason.THRESHOLD, GONE),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[one.what for one in CASES])
def test_keys_are_split_as_the_design_says(case: Case) -> None:
    assert reason(case.breaches, case.made, case.fate, case.known) is case.wanted


def test_keys_of_one_batch_have_their_own_fates() -> None:
    made = batch(T - HOUR)
    gone = Fate(T - HOUR + 1, T - HOUR + 1)
    history = History((made,), links(), {made.batch: {0: gone, 2: Fate(), 3: gone}})
    attack = Attack([kme("a")], history, slack=0)
    found = {one.single: (one.reason, one.count, one.left) for one in attack.assess(made)}
    assert found == {
        (0, 3): (Reason.ERASED_BEFORE, 2, 3),
        (2,): (Reason.AT_REST, 1, 3),
        (): (Reason.AT_REST, 1, 3),
    }


def test_batch_of_which_every_key_has_a_fate_has_no_other_verdict() -> None:
    made = batch(T)
    history = History((made,), links(), {made.batch: dict.fromkeys(range(4), Fate())})
    (verdict,) = Attack([hub("h1")], history).assess(made)
    assert (verdict.reason, verdict.known_hubs, verdict.left) == (Reason.BELOW_THRESHOLD, ("h1",), 2)


def test_allowance_for_clocks_counts_against_the_keys() -> None:
    made = batch(T - 650)
    history = History((made,), links())
    breaches = [hub(one) for one in HUBS]
    assert Attack(breaches, history, slack=0).assess(made)[0].reason is Reason.ERASED_BEFORE
    assert Attack(breaches, history, slack=60).assess(made)[0].reason is Reason.THRESHOLD
