"""Planted bugs: each replaces a piece of the product by one that a programmer could have written.

``apply`` gets a ``pytest.MonkeyPatch`` that takes everything back. The scenarios and the numbers of
steps within which a checker must see each bug stand in ``mutation_table``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from skex.base import limits
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, LinkId
from skex.base.secret import Secret
from skex.crypto import gf256, kdf, mac, sharing
from skex.crypto.ghash import ghash
from skex.keys.engine import Engine
from skex.pad.kinds import PadKind, Prepared
from skex.pad.layout import write_slot
from skex.pad.material import R_BYTES, GrantMaterial, TableMaterial
from skex.pad.table import _STATE, TablePad
from skex.pad.taking import TakingPad
from skex.protocol import changes, establishment, link, preface_hub, preface_kme, session
from skex.protocol.assign import Assigner
from skex.protocol.assignee import Assignee, KeysGone
from skex.protocol.establishment import SharedSecret
from skex.protocol.gathering import BatchKey, Gathering, Offer
from skex.protocol.holding import HeldState
from skex.protocol.hub import HubRelay
from skex.protocol.keysets import KeySet
from skex.protocol.kme import KmeCore
from skex.protocol.peer import PeerMessages
from skex.protocol.realm import RealmTrust
from skex.protocol.receiver import Receiver
from skex.protocol.rollback import RollbackState, RollbackWatch
from skex.protocol.sender import Sender, ShareState
from skex.protocol.session import PrefaceEnd
from skex.protocol.taking import Taking
from skex.store.database import Database
from skex.store.kme import KmeStore
from skex.store.moments import Moments
from skex.wire import messages
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.messages import Confirmation
from skex.wire.peer import Ok
from skex.wire.record import RecordHeader

Patch = pytest.MonkeyPatch
_WRITTEN_AFTER = 2.0
Apply = Callable[[Patch], None]


# ── pads ────────────────────────────────────────────────────────────────────────────────────────
class _Unsynced:
    """A file whose writes reach the medium when it pleases them."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def sync(self) -> None:
        """Forgotten."""


def used_before_sync(patch: Patch) -> None:
    """A pad marks and erases its file, and does not wait for the medium."""
    begin = TakingPad.__init__

    def init(self: TakingPad, file: Any, *rest: Any) -> None:
        begin(self, _Unsynced(file), *rest)

    patch.setattr(TakingPad, "__init__", init)


def mark_not_committed(patch: Patch) -> None:
    """Taking a grant leaves the store's mark out of the set that is committed."""
    prepare = Taking.__init__

    def init(self: Taking, *arguments: Any) -> None:
        prepare(self, *arguments)
        self.changes = tuple(one for one in self.changes if not isinstance(one, changes.MarkRaised))

    patch.setattr(Taking, "__init__", init)


def announced_before_erased(patch: Patch) -> None:
    """A table pad hands a grant out once its mark is durable, and erases when there is time."""

    def settle(self: TablePad) -> None:
        free = 1 - self._slot
        write_slot(self._file, self._identity, free, _STATE.pack(self._mark, self._erased))
        self._slot = free

    patch.setattr(TablePad, "_settle", settle)


def old_chain_key_kept(patch: Patch) -> None:
    """A derived pad writes the next chain key and leaves the last one in the other slot."""
    patch.setattr("skex.pad.derived.erase_slot", lambda *_: None)


def _take_any_stretch(patch: Patch) -> None:
    def check(*_: Any) -> None:
        return

    for module in (preface_hub, preface_kme, link):
        patch.setattr(module, "check_stretch", check)


def both_marks_ignored(patch: Patch) -> None:
    """A grant starts at the own mark, whatever the other end's says, and the pad takes what it is told."""

    def own_mark_only(profile: Any, direction: Any, own: int, *others: int) -> Any:
        del others
        return session.first_stretch(profile, direction, own)

    prepare = TakingPad.prepare

    def obliging(self: TakingPad, start: int, *rest: Any) -> Prepared:
        self._mark = min(self._mark, start)
        return prepare(self, start, *rest)

    for module in (preface_hub, preface_kme):
        patch.setattr(module, "first_stretch", own_mark_only)
    _take_any_stretch(patch)
    patch.setattr(TakingPad, "prepare", obliging)


def reused_after_reconnect(patch: Patch) -> None:
    """The table unit of the last connection is kept in memory: there was room left in it."""
    kept: dict[tuple[LinkId, int, int], bytes] = {}
    prepare, read = TakingPad.prepare, TablePad._read

    def keep(self: TablePad, start: int, count: int, *nonces: bytes) -> TableMaterial:
        material = read(self, start, count, *nonces)
        data = material.r + bytes(material._data[R_BYTES:])
        for unit in range(count):
            of_unit = data[unit * limits.TABLE_UNIT_BYTES : (unit + 1) * limits.TABLE_UNIT_BYTES]
            kept[self.link_id, self.direction, start + unit] = of_unit
        return material

    def prepare_again(self: TakingPad, start: int, count: int, *nonces: bytes) -> Prepared:
        again = kept.get((self.link_id, self.direction, start))
        if start >= self._mark or again is None:
            return prepare(self, start, count, *nonces)
        prepared = Prepared(self.direction, start, count)
        self._pending = (prepared, TableMaterial(self.direction, start, count, bytearray(again)))
        return prepared

    def last_again(profile: Any, direction: Any, *marks: int) -> Any:
        first = session.first_stretch(profile, direction, *marks)
        if profile.kind is PadKind.TABLE and first.start > 0:
            return replace(first, start=first.start - 1)
        return first

    for module in (preface_hub, preface_kme):
        patch.setattr(module, "first_stretch", last_again)
    _take_any_stretch(patch)
    patch.setattr(TablePad, "_read", keep)
    patch.setattr(TakingPad, "prepare", prepare_again)


def nonces_left_out(patch: Patch) -> None:
    """The grant key is derived from the chain and the position only."""
    derive = kdf.grant_key

    def without(chain_key: bytes, link_id: bytes, direction: int, index: int, *_: bytes) -> bytes:
        return derive(chain_key, link_id, direction, index, bytes(32), bytes(32))

    patch.setattr(kdf, "grant_key", without)


def consumed_before_verified(patch: Patch) -> None:
    """What a record says is acted upon, and its tag looked at afterwards."""

    def open_(
        self: link.Link, material: GrantMaterial, header: RecordHeader, record: bytes, now: float
    ) -> None:
        pad = material.take(header.offset, limits.RECORD_TAG_BYTES + header.length)
        self._receive.move_to(material)
        self._arrived += 1
        body = gf256.add(record[limits.RECORD_HEADER_BYTES : -16], pad[16:])
        self._message(messages.decode_message(body, self._incoming), now)
        self._grant_if_exhausted()
        if mac.equal(mac.record_tag(material.r, pad[:16], record[:-16]), record[-16:]):
            self._grant_proved(material)

    patch.setattr(link.Link, "_open", open_)


# ── establishment, at the receiver ──────────────────────────────────────────────────────────────
def two_shares_from_one_hub(patch: Patch) -> None:
    """A second share that a hub brings counts as that of the next coordinate."""
    offer = Gathering.offer

    def generous(self: Gathering, hub: HubName, coordinate: Coordinate, *rest: Any, **more: Any) -> Offer:
        key, context = rest
        group = self._groups.get(key)
        if group is not None and hub in group.hubs.values() and more["share"] not in group.shares.values():
            free = [one for one in context.compact.hubs if one not in group.shares]
            if free:
                group.shares[free[0]], group.hubs[free[0]] = more["share"], hub
                return Offer.TAKEN
        return offer(self, hub, coordinate, *rest, **more)

    remove = Gathering.remove

    def remove_once(self: Gathering, group: Any) -> None:
        for coordinate in [one for one, hub in group.hubs.items() if str(hub) != f"hub-{one}"]:
            group.shares.pop(coordinate, None)
            del group.hubs[coordinate]
        remove(self, group)

    patch.setattr(Gathering, "offer", generous)
    patch.setattr(Gathering, "remove", remove_once)


def own_threshold_believed(patch: Patch) -> None:
    """The threshold is taken from the message instead of the receiver's own realm file.

    Nor is it counted who stands behind the hubs that it names, which would be too few.
    """
    expand = establishment.expand

    def gullible(compact: Any, realm: Any, **names: Any) -> Any:
        context = expand(replace(compact, threshold=realm.threshold), realm, **names)
        return replace(context, compact=compact)

    def everybody(hubs: Any, realm: Any) -> Any:
        del hubs
        return tuple(hub.attributes for hub in realm.hubs)

    patch.setattr(establishment, "expand", gullible)
    patch.setattr(establishment, "attributes_of", everybody)


def two_element_tag(patch: Patch) -> None:
    """T = d + GHASH_c(digest of the context, v and the keys): a tag key without its third element."""

    def tag(u: bytes, context: bytes, tail: bytes) -> bytes:
        return gf256.add(u[16:32], ghash(u[:16], two_element_blocks(context, tail)))

    patch.setattr(establishment, "end_to_end_tag", tag)


def two_element_blocks(context: bytes, tail: bytes) -> bytes:
    """What the two-element tag covers."""
    padded = tail + bytes(-len(tail) % 16)
    return mac.hmac_sha512(b"context", context)[:16] + padded


def v_used_twice(patch: Patch) -> None:
    """The CONFIRM is made anew for each hub, with the claim over that hub's link."""
    kept: dict[BatchId, tuple[bytes, bytes, Any]] = {}
    confirm, send = establishment.confirm, Receiver._send_confirm

    def keep(key: Secret, tag: bytes, context: Any, **more: Any) -> Confirmation:
        kept[context.batch] = (key.expose(), tag, context)
        return confirm(key, tag, context, **more)

    def send_anew(self: Receiver, unanswered: Any, hub: HubName) -> None:
        made = kept.get(unanswered.confirmation.batch)
        if made is not None:
            key, tag, context = made
            place = context.compact.hubs[context.hub_names.index(hub)]
            anew = confirm(
                Secret(key),
                tag,
                context,
                epoch=self._epoch,
                incarnation=self._incarnation,
                claim=Claim((place,), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR),
            )
            unanswered = replace(unanswered, confirmation=anew)
        send(self, unanswered, hub)

    patch.setattr(establishment, "confirm", keep)
    patch.setattr(Receiver, "_send_confirm", send_anew)


def tombstone_forgotten(patch: Patch) -> None:
    """A batch that was answered needs no tombstone any more: nobody will bring it again."""
    answered = Receiver._on_answered

    def forget(self: Receiver, sender: KmeName, batch: BatchId, *, ok: bool) -> None:
        answered(self, sender, batch, ok=ok)
        key = BatchKey(sender, batch)
        if key in self._holding:
            self._holding._forget_polynomial(key)
            del self._holding._machines[key]
            self._tombstones._lines[sender].pop(batch.incarnation, None)

    patch.setattr(Receiver, "_on_answered", forget)
    patch.setattr(Receiver, "_on_time", lambda *_: None)


def margin_ignored(patch: Patch) -> None:
    """The receiver keeps a batch for its lifetime, and not a moment longer."""
    patch.setattr(limits, "LIFETIME_MARGIN_SECONDS", 0)


def last_answer_counts(patch: Patch) -> None:
    """A Void after an Ok is obeyed."""
    answered = Receiver._on_answered

    def obey(self: Receiver, sender: KmeName, batch: BatchId, *, ok: bool) -> None:
        key = BatchKey(sender, batch)
        machine = self._holding._machines.get(key)
        if not ok and machine is not None and machine.state is HeldState.ANSWERED:
            del self._holding._machines[key]
            self._out.persist(changes.BatchAnswered(sender, batch, ok=False))
        answered(self, sender, batch, ok=ok)

    patch.setattr(Receiver, "_on_answered", obey)


# ── establishment, at the sender ────────────────────────────────────────────────────────────────
def checksums_left_out(patch: Patch) -> None:
    """Pages of stores get no checksums: SQLite's own check of what it opens is thought to be enough."""
    patch.setattr(Database, "_leave_room_for_checksums", lambda _: None)


def failed_sync_built_upon(patch: Patch) -> None:
    """A store goes on from what it reads at a start, also where the system only thinks that it wrote it."""
    patch.setattr(Database, "_bring_home", lambda _: None)


def silent_prefaces_waited_for(patch: Patch) -> None:
    """A connection whose other end says nothing is waited for: the deadline of a preface is left out."""
    patch.setattr(PrefaceEnd, "next_deadline", property(lambda _: None))


def suspects_named_for_certain(patch: Patch) -> None:
    """A hub whose share is off the accepted polynomial is named, however few shares are on it."""
    patch.setattr("skex.protocol.holding.is_certain", lambda *_: True)


def minority_votes_an_epoch_in(patch: Patch) -> None:
    """A later epoch takes effect when more than one hub sends the same bytes."""

    def winner(self: RealmTrust, current: Any) -> Any:
        del current
        enough = [vote for vote in self._votes.values() if self._count(vote) > 1]
        return max(enough, key=lambda vote: vote.realm.epoch, default=None)

    patch.setattr(RealmTrust, "_winner", winner)


def one_accuser_believed(patch: Patch) -> None:
    """One hub that says so is enough for a rollback of the whole KME."""
    weigh = RollbackWatch._weigh

    def believing(self: RollbackWatch, now: float) -> None:
        if self._accusers and self.state is not RollbackState.ROLLED_BACK:
            self._rolled_back("rollback-found", tuple(self._accusers))
        weigh(self, now)

    patch.setattr(RollbackWatch, "_weigh", believing)


def one_coefficient_too_few(patch: Patch) -> None:
    """The polynomials have degree k - 2: a fence post."""

    def split(self: SharedSecret, threshold: int, hubs: Sequence[Coordinate], coefficients: bytes) -> Any:
        secret = self._secret.expose()
        fewer = coefficients[: (threshold - 2) * len(secret)]
        shares = sharing.split(secret, threshold - 1, hubs, fewer)
        return {hub: Secret(share) for hub, share in zip(hubs, shares, strict=True)}

    patch.setattr(SharedSecret, "split", split)


def used_before_confirmed(patch: Patch) -> None:
    """A batch counts as established once k hubs have relayed its shares."""
    on_answer = Sender._on_answer

    def hasty(self: Sender, hub: HubName, batch: BatchId, refusal: int | None) -> None:
        on_answer(self, hub, batch, refusal)
        pending = self._pending.get(batch)
        if pending is None:
            return
        relayed = [one for one in pending.deliveries.values() if one.machine.state is ShareState.RELAYED]
        if len(relayed) >= pending.context.compact.threshold:
            assumed = Confirmation(
                batch,
                pending.context.compact.epoch,
                Incarnation(bytes(16)),
                pending.context.compact.claim,
                bytes(16),
            )
            self._commit(batch, assumed, pending.made_at)

    patch.setattr(Sender, "_on_answer", hasty)


def deadline_forgotten(patch: Patch) -> None:
    """A batch that is not confirmed in time waits on."""
    patch.setattr(Sender, "_give_up", lambda *_: None)


def keys_of_another_batch(patch: Patch) -> None:
    """What is committed are the keys of the batch that was made last."""
    commit = Sender._commit

    def mixed_up(self: Sender, batch: BatchId, *rest: Any) -> None:
        pending = self._pending[batch]
        alike = [one for one in self._pending.values() if len(one.keys) == len(pending.keys)]
        pending.keys = Secret(alike[-1].keys.expose())
        commit(self, batch, *rest)

    patch.setattr(Sender, "_commit", mixed_up)


def confirm_without_its_tag(patch: Patch) -> None:
    """A CONFIRM is accepted for what it says."""
    patch.setattr(establishment, "confirms", lambda *_: True)


# ── peer messages and assignments ───────────────────────────────────────────────────────────────
def answer_under_another_root(patch: Patch) -> None:
    """The answer to a control batch is sealed under the root in use, like everything else."""

    def answer(self: PeerMessages, event: Any, now: float) -> None:
        made = self._roots.find(changes.Role.SENDER, event.peer, event.batch)
        if made is None:
            self._answers.add(event, now)
        else:
            oldest = self._roots._roots[changes.Role.SENDER, event.peer][0]
            self._send_answer(Ok((event.batch,)), oldest)

    patch.setattr(PeerMessages, "_answer", answer)


def delivered_before_answered(patch: Patch) -> None:
    """Keys may be delivered once their ASSIGN has left."""
    send = Assigner._send

    def hasty(self: Assigner, request: Any, now: float) -> None:
        send(self, request, now)
        self._hold(request, limits.ASSIGN_HOLD_SECONDS)

    patch.setattr(Assigner, "_send", hasty)


def incarnation_ignored(patch: Patch) -> None:
    """An ASSIGN is recorded whichever incarnation of the receiver it was meant for."""
    refusal = Assignee._refusal

    def any_incarnation(self: Assignee, name: KmeName, message: Any, known: Any) -> Any:
        return refusal(self, name, replace(message, receiver_incarnation=self._incarnation), known)

    patch.setattr(Assignee, "_refusal", any_incarnation)


def delivered_without_witnesses(patch: Patch) -> None:
    """A KME delivers as soon as it started."""
    patch.setattr(KmeCore, "may_deliver", property(lambda _: True))


# ── restores, copies, clocks ────────────────────────────────────────────────────────────────────
def word_of_hubs_ignored(patch: Patch) -> None:
    """A hub that says "you were further on" counts as connected, like any other."""
    proved = RollbackWatch._proved

    def deaf(self: RollbackWatch, hub: HubName, *, rolled_back: bool) -> None:
        del rolled_back
        proved(self, hub, rolled_back=False)

    patch.setattr(RollbackWatch, "_proved", deaf)


def revoked_at_the_peer_only(patch: Patch) -> None:
    """After a rollback the peer is told to drop all keys; what lies here is left to its lifetime."""
    take_back = PeerMessages._take_back

    def told(
        self: PeerMessages, role: Any, name: KmeName, message: Any, *, by_peer: bool, now: float
    ) -> None:
        if message.keys is not None or by_peer:
            take_back(self, role, name, message, by_peer=by_peer, now=now)

    patch.setattr(PeerMessages, "_take_back", told)


def age_by_the_wall_clock(patch: Patch) -> None:
    """How old a key is says the wall clock: its reading now less that at the batch's commit."""

    def at(self: Moments, wall: int) -> int:
        self._moment += wall - self._wall
        self._wall = wall
        return self._moment

    patch.setattr(Moments, "at", at)


def boot_clock_stored(patch: Patch) -> None:
    """The store keeps the ends of lives as the boot-time clock shows them, and reads them back so."""
    offsets: dict[str, float] = {}  # of each KME, by name
    load, kept = KmeStore.load, KmeStore.kept

    def first(self: KmeStore, now: float) -> float:
        moment = self._moments.at(self._wall())
        return moment + offsets.setdefault(str(self.meta("kme")), now - moment)

    patch.setattr(KmeStore, "load", lambda self, now: load(self, first(self, now)))
    patch.setattr(KmeStore, "kept", lambda self, now: kept(self, first(self, now)))


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
def hub_keeps_shares(patch: Patch) -> None:
    """A hub writes shares for a receiver that is away to its disk, to bring them later."""
    relay = HubRelay._share

    def spool(self: HubRelay, arrival: Any, share: messages.Share, now: float) -> None:
        if share.receiver not in self._connections:
            disk = self._policy.disk  # type: ignore[attr-defined]  # the simulated hub is its own policy
            path = f"spool-{disk.calls}"
            with_file = disk.create(path, len(share.share))
            with_file.write(0, share.share)
            with_file.sync()
            disk.sync_directory(path)
        relay(self, arrival, share, now)

    patch.setattr(HubRelay, "_share", spool)


# ── the key service ─────────────────────────────────────────────────────────────────────────────
def handed_out_before_committed(patch: Patch) -> None:
    """A slave gets its keys at once, and the delivery is written down when there is time."""

    async def hand_out(self: Engine, claimed: Any, wanted: Any) -> Any:
        del wanted
        secrets = await self._ports.read_keys(changes.Role.RECEIVER, claimed.sender, claimed.ranges)

        async def write_down() -> None:
            await asyncio.sleep(_WRITTEN_AFTER)
            keys = KeySet(claimed.ranges).ranges()
            delivered = changes.KeysDelivered(changes.Role.RECEIVER, claimed.sender, keys, claimed.caller)
            await self.commit((delivered,))
            gone = self.held.settle(claimed)
            if gone:
                self.handle(KeysGone(claimed.sender, gone))

        self.spawn(write_down(), "writing a delivery down")
        return secrets

    patch.setattr(Engine, "hand_out", hand_out)
