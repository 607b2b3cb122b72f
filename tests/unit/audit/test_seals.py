"""Seals: each key makes one, none leads back, and what is not genuine is named."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from skex.audit.chain import GENESIS, Fault, Record
from skex.audit.events import AUDIT_KEY_TAKEN, AUDIT_SEALED, BACKUP_RESTORED, Event
from skex.audit.fields import Digest
from skex.audit.log import Audit, SealRhythm
from skex.audit.seals import AuditLabel, KeptEpoch, SealCheck, SealingKey, SealReport
from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused, StoreFault
from skex.base.secret import Secret
from skex.crypto.kdf import Label
from skex.enrol.kit import KitLabel
from skex.store.sealing import StoreLabel
from tests.unit.audit.support import IMPORTANT, MINOR, Clock, Paper


def key(number: int = 1, epoch: int = 0) -> SealingKey:
    return SealingKey(bytes([number]) * 16, epoch, Secret(bytes([number]) * 64))


class Keeper:
    """A keeper in memory; ``history`` are the keys that were erased."""

    def __init__(self, first: SealingKey | None = None) -> None:
        self.current = key() if first is None else first
        self.is_taken = False
        self.sealed_to = 0
        self.fresh = key(2)

    def advance(self, sealed_to: int) -> None:
        self.current, self.sealed_to = self.current.next(), sealed_to

    def take(self) -> SealingKey:
        if self.current.epoch:
            raise Refused(codes.AUDIT_KEY_GONE)
        self.is_taken = True
        return self.current

    def renewal(self) -> SealingKey:
        return self.fresh

    def renew(self, fresh: SealingKey) -> None:
        self.current, self.is_taken = fresh, True

    @property
    def kept(self) -> KeptEpoch:
        return KeptEpoch(self.is_taken, self.current)


class Log:
    """A log on paper that is sealed."""

    def __init__(self, *, taken: bool = True, rhythm: SealRhythm = SealRhythm(1e9, 1 << 40)) -> None:  # noqa: B008  # frozen
        self.clock, self.paper, self.keeper = Clock(), Paper(), Keeper()
        self.audit = Audit(self.paper, GENESIS, self.clock, keeper=self.keeper, rhythm=rhythm)
        if taken:
            self.audit.take_key()

    @property
    def records(self) -> list[Record]:
        return [record for line in self.paper.lines if (record := Record.from_line(line)) is not None]

    @property
    def seals(self) -> list[Record]:
        return [record for record in self.records if record.seal]


def sealed_log(seals: int) -> Log:
    log = Log()
    while len(log.seals) < seals:
        log.audit.emit(IMPORTANT)
        log.audit.seal()
    return log


def checked(
    records: Sequence[Record],
    keys: Sequence[SealingKey] = (),
    kept: KeptEpoch | None = None,
    *,
    is_whole: bool = True,
) -> SealReport:
    check = SealCheck(keys, is_whole=is_whole)
    for record in records:
        check.feed(record)
    return check.report(kept, kept)


def fault(report: SealReport) -> Fault | None:
    return None if report.problem is None else report.problem.fault


# ── keys ────────────────────────────────────────────────────────────────────────────────────────
def test_keys_and_seals_are_derived_as_documented() -> None:
    """Written out once more from docs/audit.md, with another implementation's calls."""

    def expand(secret: bytes, info: bytes) -> bytes:
        return HKDFExpand(SHA512(), 64, info).derive(secret)

    second = key().next()
    assert second.key.expose() == expand(bytes([1]) * 64, b"skex audit 1 next")
    record = Record.of(Event(AUDIT_SEALED), Clock()(), "", GENESIS)
    line = replace(record, epoch=1).to_line()
    mac_key = expand(second.key.expose(), b"skex audit 1 seal" + bytes([1]) * 16 + (1).to_bytes(8, "big"))
    sealed = second.seal(record)
    assert sealed.seal == hmac.new(mac_key, line, hashlib.sha512).hexdigest()
    assert second.has_sealed(sealed)
    assert not key().has_sealed(sealed)
    assert not key(1, 2).has_sealed(sealed)


def test_labels_are_distinct_from_all_others_and_none_begins_another() -> None:
    labels = [bytes(one) for one in (*AuditLabel, *Label, *StoreLabel, *KitLabel)]
    assert not [pair for pair in permutations(labels, 2) if pair[0].startswith(pair[1])]


@pytest.mark.parametrize(
    ("series", "epoch", "size"), [(b"1" * 15, 0, 64), (b"1" * 16, -1, 64), (b"1" * 16, 0, 63)]
)
def test_key_of_another_form_is_a_bug(series: bytes, epoch: int, size: int) -> None:
    with pytest.raises(LocalBug):
        SealingKey(series, epoch, Secret(bytes(size)))


def test_key_survives_its_file_and_says_nothing_of_itself() -> None:
    text = key().to_text("hub:h1")
    assert SealingKey.from_text(text) == key()
    assert "01" * 8 not in repr(key().key)
    with pytest.raises(Refused) as refused:
        SealingKey.from_text(text.replace("h1", "h2"))
    assert refused.value.code is codes.AUDIT_KEY_INVALID
    assert "01" * 8 not in str(refused.value)


# ── sealing ─────────────────────────────────────────────────────────────────────────────────────
def test_seals_come_by_time_by_number_when_asked_and_at_the_end() -> None:
    log = Log(rhythm=SealRhythm(seconds=100, records=5))
    assert len(log.seals) == 1  # at once, when the key was taken
    log.audit.emit(MINOR)
    log.audit.tick()
    assert len(log.seals) == 1
    log.clock.now += 100
    log.audit.tick()
    assert len(log.seals) == 2
    log.clock.now += 100
    log.audit.tick()
    assert len(log.seals) == 2  # nothing new to seal
    log.audit.emit(*[MINOR] * 5)
    assert len(log.seals) == 3
    assert log.seals[-1].details["records"] == 5
    assert not log.audit.seal()
    log.audit.emit(MINOR)
    assert log.audit.seal()
    log.audit.emit(MINOR)
    head = log.audit.close()
    assert [one.epoch for one in log.seals] == [0, 1, 2, 3, 4]
    assert log.records[-1].seal
    assert head == log.records[-1].head() == log.audit.durable_head
    assert log.paper.synced == log.paper.data
    assert log.keeper.current.epoch == 5


def test_nothing_is_sealed_before_somebody_can_check_it() -> None:
    log = Log(taken=False, rhythm=SealRhythm(seconds=1, records=1))
    log.audit.emit(MINOR)
    assert not log.audit.seal()
    assert not log.audit.is_sealing
    log.audit.close()
    assert log.seals == []


def test_log_without_a_keeper_seals_nothing_and_has_no_key() -> None:
    audit = Audit(Paper(), GENESIS, Clock(), rhythm=SealRhythm(0, 1))
    audit.emit(MINOR)
    assert not audit.seal()
    assert not audit.is_sealing
    with pytest.raises(Refused):
        audit.take_key()


def test_key_is_gone_once_it_was_taken() -> None:
    log = Log()
    with pytest.raises(Refused) as refused:
        log.audit.take_key()
    assert refused.value.code is codes.AUDIT_KEY_GONE
    assert [one.event for one in log.records] == [AUDIT_KEY_TAKEN.name, AUDIT_SEALED.name]


def test_key_is_erased_only_once_its_seal_is_on_the_medium() -> None:
    log = Log()
    log.audit.emit(MINOR)
    log.paper.fails = True
    with pytest.raises(StoreFault):
        log.audit.seal()
    assert log.keeper.current.epoch == 1


def test_log_that_ends_below_what_was_sealed_is_sealed_anew() -> None:
    keeper = Keeper()
    keeper.is_taken, keeper.sealed_to = True, 99
    audit = Audit(Paper(), GENESIS, Clock(), keeper=keeper)
    audit.emit(MINOR)
    assert audit.seal()


def test_durable_head_is_what_was_synced() -> None:
    log = Log()
    durable = log.audit.durable_head
    log.audit.emit(MINOR)
    assert log.audit.durable_head == durable != log.audit.head
    log.audit.emit(IMPORTANT)
    assert log.audit.durable_head == log.audit.head


# ── checking ────────────────────────────────────────────────────────────────────────────────────
def test_genuine_seals_are_verified_with_the_key_of_epoch_0() -> None:
    log = sealed_log(4)
    report = checked(log.records, [key()], log.keeper.kept)
    assert report == SealReport(4, 4, 0, log.records[-1].sequence, log.records[-1].time, 0, (), None)
    unkeyed = checked(log.records, (), log.keeper.kept)
    assert (unkeyed.verified, unkeyed.unknown, unkeyed.problem) == (0, 4, None)


def test_crash_between_a_seal_and_its_keys_erasing_is_no_fault() -> None:
    log = sealed_log(3)
    assert fault(checked(log.records, [key()], KeptEpoch(True, key().next().next()))) is None


Change = Callable[[list[Record]], list[Record]]


def without(at: int) -> Change:
    return lambda records: [one for one in records if one.epoch != at or not one.seal]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (without(1), Fault.UNSEALED),
        (without(3), Fault.TRUNCATED),
        (lambda records: [*records[:3], replace(records[3], seal="0" * 128), *records[4:]], Fault.FORGED),
        (lambda records: [replace(records[0], seal="0" * 128), *records[1:]], Fault.FORGED),
        (lambda records: [one for one in records if not one.seal], Fault.UNSEALED),
        (lambda records: [*records, records[1]], Fault.UNSEALED),
        (
            lambda records: [replace(records[1], details={"records": 1}), *records[2:]],
            Fault.FORGED,
        ),
    ],
)
def test_seals_that_are_missing_moved_or_forged_are_named(change: Change, wanted: Fault) -> None:
    log = sealed_log(4)
    assert fault(checked(change(log.records), [key()], log.keeper.kept)) is wanted


def test_log_sealed_by_another_key_is_no_log_of_this_one() -> None:
    log = sealed_log(2)
    assert fault(checked(log.records, [key(7)], log.keeper.kept)) is Fault.OTHER_SERIES


def test_seals_gone_from_the_end_show_without_the_key_too() -> None:
    log = sealed_log(3)
    assert fault(checked(without(2)(log.records), (), log.keeper.kept)) is Fault.TRUNCATED
    assert fault(checked([], (), log.keeper.kept)) is Fault.TRUNCATED
    assert fault(checked([], (), Keeper().kept)) is None


def test_kept_key_that_was_put_back_or_invented_is_named() -> None:
    log = sealed_log(4)
    older = KeptEpoch(True, key().next())
    assert fault(checked(log.records, [key()], older)) is Fault.STALE_KEY
    invented = KeptEpoch(True, key(1, 4))
    assert fault(checked(log.records, [key()], invented)) is Fault.STALE_KEY
    foreign = KeptEpoch(True, key(3))
    assert fault(checked(log.records, [key()], foreign)) is Fault.OTHER_SERIES


def test_daemon_that_seals_while_the_log_is_read_is_no_fault() -> None:
    log = sealed_log(3)
    check = SealCheck([key()])
    for record in log.records:
        check.feed(record)
    before, after = (KeptEpoch(True, _at(epoch)) for epoch in (2, 5))
    assert fault(check.report(before, after)) is None


def _at(epoch: int) -> SealingKey:
    found = key()
    for _ in range(epoch):
        found = found.next()
    return found


def renewed() -> Log:
    log = sealed_log(2)
    log.audit.renew_key()
    log.audit.emit(MINOR)
    log.audit.seal()
    return log


def test_renewed_series_is_announced_by_the_one_before() -> None:
    log = renewed()
    report = checked(log.records, [key(), key(2)], log.keeper.kept)
    assert (report.verified, report.unjoined, report.problem) == (5, (), None)
    report = checked(log.records, [key()], log.keeper.kept)
    assert (report.verified, report.unknown, report.problem) == (3, 2, None)
    report = checked(log.records, [key(2)], log.keeper.kept)
    assert (report.verified, report.unknown, report.problem) == (2, 3, None)


def test_crash_after_a_series_was_announced_goes_on_with_the_one_before_or_the_next() -> None:
    log = renewed()
    announced = log.records[:-3]
    assert announced[-1].details["next_series"] == key(2).digest
    assert fault(checked(announced, [key()], KeptEpoch(True, key(2)))) is None
    assert fault(checked(announced, [key()], KeptEpoch(True, _at(3)))) is None
    cut = KeptEpoch(True, key(2).next())
    assert fault(checked(announced, [key()], cut)) is Fault.TRUNCATED


def test_first_key_of_a_log_may_be_renewed_before_anybody_took_it() -> None:
    log = Log(taken=False)
    log.audit.renew_key()
    assert [one.epoch for one in log.seals] == [0]
    assert fault(checked(log.records, [key(2)], log.keeper.kept)) is None


def restored(*, recorded: bool) -> list[Record]:
    """Two series that nothing joins."""
    first = sealed_log(2)
    later = Audit(first.paper, first.audit.head, first.clock, keeper=(keeper := Keeper(key(2))))
    if recorded:
        later.emit(Event(BACKUP_RESTORED, details={"backup": Digest(b"")}))
    keeper.is_taken = True
    later.emit(MINOR)
    later.seal()
    return first.records


def test_series_that_nothing_announces_are_a_fault_unless_the_home_was_restored() -> None:
    assert fault(checked(restored(recorded=False))) is Fault.OTHER_SERIES
    assert fault(checked(restored(recorded=True))) is None


def test_restore_that_nobody_vouches_for_with_the_next_key_stays_a_fault() -> None:
    """Who cuts a log could also write that it was restored."""
    records = restored(recorded=True)
    assert fault(checked(records, [key()])) is Fault.OTHER_SERIES
    report = checked(records, [key(), key(2)])
    assert (report.verified, report.problem) == (3, None)
    assert report.unjoined == (records[-1].sequence,)


def test_restored_home_with_a_key_that_nobody_took_is_a_fault_for_who_holds_the_old_one() -> None:
    records = restored(recorded=True)[:-2]
    fresh = KeptEpoch(False, key(2))
    assert fault(checked(records, (), fresh)) is None
    assert fault(checked(records, [key()], fresh)) is Fault.OTHER_SERIES


def test_log_whose_first_segments_are_elsewhere_is_verified_from_its_first_seal() -> None:
    log = sealed_log(4)
    rest = log.records[3:]
    report = checked(rest, [key()], log.keeper.kept, is_whole=False)
    assert (report.first_epoch, report.verified, report.problem) == (1, 3, None)
    assert fault(checked(rest, [key()], log.keeper.kept)) is Fault.UNSEALED


def test_epoch_beyond_every_log_is_refused_instead_of_computed() -> None:
    (first, *_) = (one for one in sealed_log(1).records if one.seal)
    far = replace(first, epoch=limits.AUDIT_EPOCHS + 1)
    with pytest.raises(Refused) as refused:
        checked([far], [key()], is_whole=False)
    assert refused.value.code is codes.AUDIT_KEY_INVALID
