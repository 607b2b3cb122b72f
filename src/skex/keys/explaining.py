"""What one key rests on, in plain sentences and as data: from its randomness to the last hop.

Pure: facts in, explanation out. Everything it says follows from the facts that it was given; what nobody
here can know is said to be so. Sections are those of the specification in ``docs/spec``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from skex.base.ids import HubName, KmeName, SaeId
from skex.keys.api import KeyClaim
from skex.keys.history import BatchHistory
from skex.keys.states import MEANINGS, PHASES, KeyState
from skex.keys.uses import Use
from skex.protocol.changes import Batch
from skex.wire.claim import ClaimClass, Enrolment, Randomness
from skex.wire.independence import Collusion

FORGERY: Final = "2^-91"
"""One forgery attempt on a record succeeds with at most this probability (section 14.2)."""


@dataclass(frozen=True, slots=True)
class LinkEvidence:
    """This KME's link with one hub, as it was when a batch was made; None where nothing is known any more.

    ``pad`` is ``derived`` or ``table``; ``enrolled_at`` UNIX seconds; ``kit`` the kit's digest, if recorded.
    """

    hub: HubName
    link: str | None = None
    pad: str | None = None
    enrolment: Enrolment | None = None
    enrolled_at: int | None = None
    kit: str | None = None


@dataclass(frozen=True, slots=True)
class Handed:
    """One delivery of a key, as the audit log has it."""

    time: str
    sae: SaeId
    role: str
    others: tuple[SaeId, ...]
    purpose: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known here of one key.

    ``source`` is ``store`` or, for a key that the store has dropped, ``audit log``. ``collusion`` is one of
    the fewest sets of parties that have ``threshold`` hubs. ``doors`` are how keys leave this KME.
    """

    key_id: uuid.UUID
    here: KmeName
    history: BatchHistory
    index: int
    claim: KeyClaim
    collusion: Collusion
    counted: tuple[str, ...]
    links: tuple[LinkEvidence, ...]
    handed: tuple[Handed, ...]
    doors: tuple[str, ...]
    source: str = "store"

    @property
    def batch(self) -> Batch:
        """The key's batch."""
        return self.history.batch

    @property
    def state(self) -> KeyState:
        """Where the key is."""
        return self.history.state(self.index)

    @property
    def broken(self) -> tuple[HubName, ...]:
        """The hubs whose path an unbounded attacker breaks, at one end or the other."""
        named = zip(self.batch.context.hubs, self.batch.hubs, strict=True)
        return tuple(hub for coordinate, hub in named if coordinate in self.batch.claim.computational)

    @property
    def takers(self) -> tuple[SaeId, ...]:
        """The SAEs of this KME that have it."""
        return self.history.takers(self.index)


@dataclass(frozen=True, slots=True)
class Explanation:
    """``sentences`` make one paragraph; ``data`` says the same for programs."""

    sentences: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paragraph(self) -> str:
        """All sentences."""
        return " ".join(self.sentences)


def explain(facts: Facts, use: Use | None = None) -> Explanation:
    """What a key rests on; with ``use``, also what something that is protected so rests on."""
    sentences = [
        *_life(facts),
        _randomness(facts),
        *_sharing(facts),
        *_links(facts),
        *_claim(facts),
        _delivery(facts),
    ]
    data = _data(facts)
    if use is not None:
        sentences += _used(facts, use)
        data["used_with"] = _use_data(facts, use)
    return Explanation(tuple(sentences), data)


# ── its life ────────────────────────────────────────────────────────────────────────────────────
def _life(facts: Facts) -> Iterator[str]:
    history, state = facts.history, facts.state
    sender, receiver = history.parties(facts.here)
    yield (
        f"Key {facts.key_id} is key {facts.index} of batch {history.name}, which {sender} made for"
        f" {receiver} on {moment(history.made_at)} (sections 7 and 11)."
    )
    yield (
        f"Here, at {facts.here}, it is {state.value} ({PHASES[state].value} in the words of NIST"
        f" SP 800-57): {_lowered(MEANINGS[state])}"
    )
    if facts.source != "store":
        yield "The store has dropped its batch; this is what the audit log says of it."
    promise = history.promise(facts.index)
    if promise is not None:
        yield f"It is for {promise.master} as master and {_listed(promise.slaves)}."
    if facts.handed:
        for one in facts.handed:
            yield f"{one.sae} got it as {one.role} on {one.time}."
    elif facts.takers:
        yield f"{_listed(facts.takers)} got it."
    reason = history.why_revoked(facts.index)
    if reason is not None:
        yield f"It was revoked; the reason is {reason_word(reason.name)}."
    rests = history.why_suspended(facts.index)
    if rests is not None:
        yield f"It is suspended, at this KME only; the reason is {reason_word(rests.name)}."


# ── where it comes from ─────────────────────────────────────────────────────────────────────────
_SOURCES: Final = {
    Randomness.SYSTEM: "the generator of the operating system of {}",
    Randomness.SYSTEM_XOR_OTHER: "the generator of the operating system of {}, XORed with another source",
}
_TRAVELLED: Final = {
    Enrolment.COMPONENTS: "in components that travelled apart",
    Enrolment.CARRIED_IN_CLEAR: "carried in clear",
    Enrolment.UNDER_PASSPHRASE: "under a passphrase",
}


def _randomness(facts: Facts) -> str:
    sender, _ = facts.history.parties(facts.here)
    source = _SOURCES[facts.claim.randomness].format(sender)
    told = "" if sender == facts.here else f", as {sender} states and nobody here can check"
    return f"Its bytes came from {source}{told}; whoever could predict that knows the key (section 1.5)."


def _sharing(facts: Facts) -> Iterator[str]:
    count, threshold = len(facts.batch.hubs), facts.claim.threshold
    if threshold == 1:
        yield (
            "No hub stood between the two KMEs, and the key was not split: it rests on their own link"
            " alone (section 1.6)."
        )
        return
    yield (
        f"The key was split by Shamir's scheme over GF(2^8) into {count} shares, one for each of the hubs"
        f" {_listed(facts.batch.hubs)}; any {threshold} of them rebuild it, and {threshold - 1} say nothing"
        " about it, whatever is computed (sections 7.2 and 14.4)."
    )
    yield (
        "A GHASH tag over the key and its context, under keys that were shared with it, keeps lying hubs"
        " from making the two KMEs accept different keys, and the receiver confirmed it with a Poly1305"
        " tag (sections 7.4, 7.8 and 14.3)."
    )


def _links(facts: Facts) -> Iterator[str]:
    """The links of this end one by one, and what is known of the other end's."""
    kinds: dict[str, list[HubName]] = {}
    for one in facts.links:
        kinds.setdefault(_link_words(one), []).append(one.hub)
    for words, hubs in kinds.items():
        yield f"Of {facts.here}'s links, {_with(hubs)} {words}."
    yield (
        "Every share crossed its links in records that XOR it with pad bytes and authenticate it with"
        f" Poly1305 under one-time keys: one attempt to change a record succeeds with at most {FORGERY}"
        " (sections 5.2 and 14.2)."
    )
    yield _other_end(facts)
    yield (
        f"The material of the weakest link of both ends came {_TRAVELLED[facts.claim.enrolment]}"
        " (sections 2 and 6.4)."
    )


def _link_words(one: LinkEvidence) -> str:
    if one.pad is None:
        return "are not known here any more"
    travelled = "in an unknown way" if one.enrolment is None else _TRAVELLED[one.enrolment]
    if one.pad == "derived":
        return (
            "use derived pads, which are AES-256 keystream under keys of an HKDF-SHA-512 chain, from kits"
            f" that came {travelled} (section 4.5)"
        )
    return f"use table pads, random bytes used once, from kits that came {travelled} (section 4.1)"


def _other_end(facts: Facts) -> str:
    """What the peer stated of its links: as sender all of it, as receiver what it adds to ours."""
    peer = facts.batch.peer
    stated = set(facts.batch.context.claim.computational)
    named = zip(facts.batch.context.hubs, facts.batch.hubs, strict=True)
    sender_says = [hub for coordinate, hub in named if coordinate in stated]
    head = f"Of {peer}'s links only what it stated is known"
    if facts.history.parties(facts.here)[0] == peer:
        if not sender_says:
            return f"{head}: none is protected by computation only."
        return f"{head}: {_with(sender_says)} are protected by computation only."
    added = [hub for hub in facts.broken if hub not in sender_says]
    if not added:
        return f"{head}: it adds none to those that are protected by computation only."
    return f"{head}: {_with(added)} are protected by computation only, too."


# ── what follows ────────────────────────────────────────────────────────────────────────────────
def _claim(facts: Facts) -> Iterator[str]:
    claim = facts.claim
    if claim.threshold > 1:
        yield _independence(facts)
    if facts.broken:
        yield (
            f"Against an attacker whom no computation stops, the paths over {_listed(facts.broken)} are"
            f" broken, which leaves {claim.margin} of {claim.threshold} hubs to corrupt (section 1.5)."
        )
    if claim.claim_class is ClaimClass.INFORMATION_THEORETIC:
        yield (
            "So the key's class is information-theoretic: given the source of its bytes and the delivery"
            f" of the kits, whoever corrupts fewer than {claim.margin} of the other hubs learns nothing"
            " about it, whatever they compute."
        )
    else:
        passphrase = claim.enrolment is Enrolment.UNDER_PASSPHRASE
        what = "AES-256 and HKDF-SHA-512" + (
            ", or the passphrase of a kit whose medium was copied" if passphrase else ""
        )
        yield (
            "So the key's class is computational: whoever recorded the traffic of those paths and undoes"
            f" what protects them ({what}) learns it without any hub's help (sections 1.5 and 14.6)."
        )
    yield (
        "Which SAE may take it is agreed in messages between the two KMEs under AES-256-GCM, which carry"
        " no key (sections 8 and 9)."
    )


def _independence(facts: Facts) -> str:
    claim = facts.claim
    example = _listed([str(party) for party in facts.collusion.parties])
    needed = f"{claim.effective_threshold} independent {_parties(claim.effective_threshold)}"
    return (
        f"Counted by {_listed(facts.counted)}, as this KME's realm file states them, at least {needed} must"
        f" collude to have {claim.threshold} hubs (for example {example}): the effective threshold is"
        f" {claim.effective_threshold}, and the threshold {claim.threshold} (section 1.3)."
    )


_DOORS: Final = {
    "etsi014": (
        "ETSI GS QKD 014 over TLS with certificates on both sides, which rests on public-key cryptography"
        " and computation, and protects this one hop and nothing else"
    )
}


def _delivery(facts: Facts) -> str:
    known = [_DOORS[name] for name in facts.doors]
    if not known:
        return "This KME has no door open, so no key leaves it for an application."
    verb = "went" if facts.takers else "goes"
    return f"Between this KME and its applications it {verb} over {'; or '.join(known)}."


def _used(facts: Facts, use: Use) -> Iterator[str]:
    result = class_word(use.result(facts.claim.claim_class))
    yield (
        f"Used with {use.title}, what is protected rests on the key and on {use.rests}: its class is"
        f" {result} ({use.source})."
    )
    if use.second_leg:
        yield f"Who has the key must still break {use.second_leg}."
    size = facts.batch.context.key_bytes
    if use.key_bytes not in {None, size}:
        yield f"It takes keys of {use.key_bytes} bytes, and this one has {size}."
    yield use.notes


# ── the same as data ────────────────────────────────────────────────────────────────────────────
def _data(facts: Facts) -> dict[str, Any]:
    history, context, claim = facts.history, facts.batch.context, facts.claim
    sender, receiver = history.parties(facts.here)
    reason, rests = history.why_revoked(facts.index), history.why_suspended(facts.index)
    promise = history.promise(facts.index)
    return {
        "key_id": str(facts.key_id),
        "known_from": facts.source,
        "batch": str(history.name),
        "index": facts.index,
        "here": facts.here,
        "sender": sender,
        "receiver": receiver,
        "made_at": moment(history.made_at),
        "expires_at": moment(history.expires_at),
        "key_bytes": context.key_bytes,
        "state": facts.state.value,
        "nist_state": PHASES[facts.state].value,
        "copy_here": bool(history.left >> facts.index & 1),
        "assigned": None
        if promise is None
        else {"master": promise.master, "slaves": list(promise.slaves), "purpose": promise.purpose},
        "taken_by": list(facts.takers),
        "deliveries": [
            {
                "time": one.time,
                "sae": one.sae,
                "as": one.role,
                "others": list(one.others),
                "purpose": one.purpose,
            }
            for one in facts.handed
        ],
        "revoked": None if reason is None else reason_word(reason.name),
        "suspended": None if rests is None else reason_word(rests.name),
        "claim": {
            "class": class_word(claim.claim_class),
            "threshold": claim.threshold,
            "effective_threshold": claim.effective_threshold,
            "counted_by": list(facts.counted),
            "colluding": [str(party) for party in facts.collusion.parties],
            "margin": claim.margin,
            "hubs": list(facts.batch.hubs),
            "computational_hubs": list(facts.broken),
            "randomness": reason_word(claim.randomness.name),
            "enrolment": reason_word(claim.enrolment.name),
            "epoch": context.epoch,
        },
        "links_here": [
            {
                "hub": one.hub,
                "link": one.link,
                "pad": one.pad,
                "enrolment": None if one.enrolment is None else reason_word(one.enrolment.name),
                "enrolled_at": None if one.enrolled_at is None else moment(one.enrolled_at),
                "kit": one.kit,
            }
            for one in facts.links
        ],
        "primitives": primitives(facts),
        "doors": list(facts.doors),
    }


def primitives(facts: Facts) -> list[dict[str, str]]:
    """Every primitive that the key met, what for, and of which kind its assurance is."""
    found = []
    if facts.claim.threshold > 1:
        found.append(_primitive("Shamir's scheme over GF(2^8)", "sharing", "information-theoretic", "7.2"))
    found += [
        _primitive("GHASH over GF(2^128)", "end-to-end tag", "information-theoretic", "7.4"),
        _primitive("Poly1305", "confirmation, and each record", "information-theoretic", "14.2"),
    ]
    pads = {one.pad for one in facts.links}
    if "table" in pads:
        found.append(_primitive("one-time pad", "records on table pads", "information-theoretic", "14.1"))
    if "derived" in pads or facts.broken:
        found.append(
            _primitive("HKDF-SHA-512 and AES-256-CTR", "records on derived pads", "computational", "4.5")
        )
    found.append(_primitive("AES-256-GCM", "messages that assign keys", "computational", "8.2"))
    if "etsi014" in facts.doors:
        found.append(
            _primitive("TLS with certificates", "the local hop", "computational", "docs/etsi-014.md")
        )
    return found


def _primitive(name: str, use: str, kind: str, section: str) -> dict[str, str]:
    return {"name": name, "for": use, "assurance": kind, "section": section}


def _use_data(facts: Facts, use: Use) -> dict[str, Any]:
    size = facts.batch.context.key_bytes
    return {
        "use": use.name,
        "class": class_word(use.result(facts.claim.claim_class)),
        "rests_on": use.rests,
        "second_leg": use.second_leg or None,
        "key_fits": use.key_bytes in {None, size},
        "source": use.source,
    }


# ── words ───────────────────────────────────────────────────────────────────────────────────────
def class_word(claim: ClaimClass) -> str:
    """A class as people write it."""
    return reason_word(claim.name)


def reason_word(name: str) -> str:
    """A constant's name as people write it."""
    return name.lower().replace("_", "-")


def moment(seconds: int) -> str:
    """UNIX seconds as UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _with(hubs: Sequence[str]) -> str:
    return f"{'that' if len(hubs) == 1 else 'those'} with {_listed(hubs)}"


def _parties(count: int) -> str:
    return "party" if count == 1 else "parties"


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
