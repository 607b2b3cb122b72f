"""Seals: what an intruder who has the machine today cannot forge of what was written before.

The sealing key of an epoch makes one seal, over a record and with it over the whole chain before; then
it is replaced by its successor, from which nobody computes it back, and is erased. Whoever kept the
key of epoch 0 elsewhere recomputes all of them. A run of epochs from one such key is a series.
``SealCheck`` is pure; how a key is kept, and erased, is ``SealKeeper``'s.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

from skex.audit.chain import Fault, Record
from skex.audit.events import AUDIT_SEALED, BACKUP_RESTORED
from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.secret import Secret
from skex.crypto import kdf

KEY_BYTES: Final = 64
SERIES_BYTES: Final = 16
_EPOCH_BYTES: Final = 8
_TEXT: Final = re.compile(
    r"skex audit key 1\nof (?P<owner>[a-z]+:[a-z0-9._-]{1,64})\nseries (?P<series>[0-9a-f]{32})\n"
    r"key (?P<key>[0-9a-f]{128})\ncheck (?P<check>[0-9a-f]{16})\n"
)


class AuditLabel(bytes, Enum):
    """What a derived key is for. Local to audit logs; none begins like another label."""

    SEAL = b"skex audit 1 seal"
    """Key of an epoch to the key of its one seal (HKDF-Expand)."""
    NEXT = b"skex audit 1 next"
    """Key of an epoch to that of the next one (HKDF-Expand). There is no way back."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The key of one epoch of one series. Whoever is done with it wipes it."""

    series: bytes
    epoch: int
    key: Secret

    def __post_init__(self) -> None:
        if len(self.series) != SERIES_BYTES or len(self.key) != KEY_BYTES or self.epoch < 0:
            raise LocalBug(codes.BAD_ARGUMENT, "a sealing key of another form")

    @property
    def digest(self) -> str:
        """What records name the series by: the SHA-512 of its random id, in hexadecimal."""
        return hashlib.sha512(self.series).hexdigest()

    def next(self) -> SealingKey:
        """The key of the next epoch; this one is left for the caller to wipe."""
        following = kdf.hkdf_expand_sha512(self.key.expose(), AuditLabel.NEXT, KEY_BYTES)
        return SealingKey(self.series, self.epoch + 1, Secret(following))

    def seal(self, record: Record) -> Record:
        """``record`` with this epoch and its seal: HMAC-SHA-512 over the line with an empty seal."""
        unsealed = replace(record, epoch=self.epoch, seal="")
        place = self.series + self.epoch.to_bytes(_EPOCH_BYTES, "big")
        key = kdf.hkdf_expand_sha512(self.key.expose(), AuditLabel.SEAL + place, KEY_BYTES)
        return replace(unsealed, seal=hmac.new(key, unsealed.to_line(), hashlib.sha512).hexdigest())

    def has_sealed(self, record: Record) -> bool:
        """Whether the seal is this key's; compared in constant time."""
        return hmac.compare_digest(self.seal(record).seal, record.seal)

    # ── as an auditor keeps it ──────────────────────────────────────────────────────────────────
    def to_text(self, owner: str) -> str:
        """A file of five lines. ``owner`` is whose log it proves, such as ``kme:south``."""
        body = f"skex audit key 1\nof {owner}\nseries {self.series.hex()}\nkey {self.key.expose().hex()}\n"
        return f"{body}check {_check(body)}\n"

    @classmethod
    def from_text(cls, text: str) -> SealingKey:
        """Read such a file. Raises ``Refused`` (audit-key-invalid), never quoting it."""
        match = _TEXT.fullmatch(text)
        if match is None or match["check"] != _check(text[: match.start("check") - len("check ")]):
            raise Refused(codes.AUDIT_KEY_INVALID)
        return cls(bytes.fromhex(match["series"]), 0, Secret(bytes.fromhex(match["key"])))


def _check(body: str) -> str:
    return hashlib.sha512(body.encode()).hexdigest()[:16]


class SealKeeper(Protocol):
    """Where the key of the present epoch is kept: the port of a log's writer. ``StoreFault`` (audit-io)."""

    @property
    def is_taken(self) -> bool:
        """Whether somebody has the key of epoch 0: seals that nobody could check are not made."""
        ...

    @property
    def current(self) -> SealingKey:
        """The key of the present epoch; the keeper's own, not to be wiped."""
        ...

    @property
    def sealed_to(self) -> int:
        """The number of the last sealed record; 0 for none."""
        ...

    def advance(self, sealed_to: int) -> None:
        """The seal is on the medium: keep the next epoch's key instead, and erase this one's."""
        ...

    def take(self) -> SealingKey:
        """A copy of the key of epoch 0 for the auditor; seals are made from now on.

        Raises ``Refused`` (audit-key-gone) once that key is erased.
        """
        ...

    def renewal(self) -> SealingKey:
        """A fresh key of epoch 0, not yet kept."""
        ...

    def renew(self, key: SealingKey) -> None:
        """Keep ``key``, as one that somebody takes, instead of the present one, which is erased."""
        ...


# ── checking ────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KeptEpoch:
    """What a home keeps: which epoch is next, and its key, which proves that all before were reached."""

    is_taken: bool
    key: SealingKey

    @property
    def series(self) -> str:
        """The digest of the series."""
        return self.key.digest


@dataclass(frozen=True, slots=True)
class SealProblem:
    """Why seals do not prove the log, and the number of the record where it shows."""

    sequence: int
    fault: Fault
    reason: str


@dataclass(frozen=True, slots=True)
class SealReport:
    """What the seals prove. ``verified`` seals are right under a key that was given; the last of them
    covers every record up to ``sealed_to``, which was written at ``sealed_at``.

    ``seals`` are all that stand in the log, ``first_epoch`` is that of the first one verified, and
    ``unknown`` those under keys that were not given. At ``unjoined`` records another series begins
    that no seal announces, as it is behind a restore.
    """

    seals: int
    verified: int
    first_epoch: int
    sealed_to: int
    sealed_at: str
    unknown: int
    unjoined: tuple[int, ...]
    problem: SealProblem | None


@dataclass(slots=True)
class _Series:
    """One series while its seals are read: the epoch that comes next, and its key where it is known."""

    digest: str
    epoch: int
    key: SealingKey | None
    heir: str = ""
    """The series that the last seal announces."""


class SealCheck:
    """Takes the records of a log that continue its chain, and checks its seals.

    ``keys`` are those of epoch 0 that somebody kept elsewhere; without any, only the order of epochs
    shows. ``is_whole`` is false for a log whose first segments are elsewhere.
    """

    def __init__(self, keys: Sequence[SealingKey], *, is_whole: bool = True) -> None:
        self._keys = {key.digest: key for key in keys}
        self._is_whole = is_whole
        self._series: _Series | None = None
        self._was_restored = False
        self._seals = self._verified = self._first_epoch = self._sealed_to = self._unknown = 0
        self._sealed_at = ""
        self._unjoined: list[int] = []
        self._last = 0
        self._problem: SealProblem | None = None

    def feed(self, record: Record) -> None:
        """The next record."""
        self._last = record.sequence
        if record.event == BACKUP_RESTORED.name:
            self._was_restored = True
        if not record.seal:
            return
        self._seals += 1
        series = record.details.get("series")
        if record.event != AUDIT_SEALED.name or not isinstance(series, str):
            self._wrong(Fault.FORGED, "a seal stands on a record that is no seal's")
        else:
            self._follow(self._series_of(series, record), record)

    def _series_of(self, digest: str, record: Record) -> _Series:
        """The series of the next seal: the one before, or another one that begins."""
        before = self._series
        if before is not None and before.digest == digest:
            return before
        epoch = 0
        if before is None:
            epoch = 0 if self._is_whole else record.epoch
        elif before.heir != digest:
            self._unannounced(digest)
        start = self._keys.get(digest)
        self._series = _Series(digest, epoch, None if start is None else _at_epoch(start, epoch))
        return self._series

    def _unannounced(self, digest: str) -> None:
        """Another series begins out of nothing: in a restored home, or because somebody covers traces."""
        if digest in self._keys or (not self._keys and self._was_restored):
            self._unjoined.append(self._last)
        else:
            self._wrong(
                Fault.OTHER_SERIES, "another series of seals begins, which the one before does not announce"
            )

    def _follow(self, series: _Series, record: Record) -> None:
        if record.epoch != series.epoch:
            reason = f"the seal of epoch {record.epoch} stands where that of epoch {series.epoch} belongs"
            self._wrong(Fault.UNSEALED, reason)
            series.epoch, series.key = record.epoch, None
        if series.key is None:
            self._unknown += 1
        elif not series.key.has_sealed(record):
            self._wrong(Fault.FORGED, f"the seal of epoch {record.epoch} is not genuine")
        elif self._problem is None:
            self._first_epoch = self._first_epoch if self._verified else record.epoch
            self._verified += 1
            self._sealed_to, self._sealed_at = record.sequence, record.time
        series.epoch += 1
        series.key = None if series.key is None else series.key.next()
        heir = record.details.get("next_series")
        series.heir = heir if isinstance(heir, str) else ""

    def _wrong(self, fault: Fault, reason: str) -> None:
        self._problem = self._problem or SealProblem(self._last, fault, reason)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────
    def report(self, before: KeptEpoch | None = None, after: KeptEpoch | None = None) -> SealReport:
        """What was found. The arguments are what the home keeps: read before the log, and behind it.

        They differ where a daemon was writing. None: nothing is known of a home.
        """
        if self._keys and not self._seals:
            self._wrong(Fault.UNSEALED, "not one seal stands in it")
        elif self._keys and not self._verified:
            self._wrong(Fault.OTHER_SERIES, "no seal in it was made with this key")
        if before is not None and after is not None and before.series == after.series:
            self._compare(before, after)
        return SealReport(
            self._seals,
            self._verified,
            self._first_epoch,
            self._sealed_to,
            self._sealed_at,
            self._unknown,
            tuple(self._unjoined),
            self._problem,
        )

    def _compare(self, before: KeptEpoch, after: KeptEpoch) -> None:
        """A kept key proves its epoch: nobody computes it from that of a later one."""
        epoch = 0 if self._series is None else self._series.epoch
        if self._series is not None and before.series != self._series.digest:
            if before.series != self._series.heir:
                if self._keys or not self._was_restored:
                    reason = "the key that this home keeps is of another series than the last seal"
                    self._wrong(Fault.OTHER_SERIES, reason)
                return
            epoch = 0
        if before.key.epoch > epoch:
            missing = before.key.epoch - epoch
            self._wrong(Fault.TRUNCATED, f"the last {missing} seals are missing: the end was cut off")
        elif after.key.epoch + 1 < epoch:
            reason = f"the home keeps the key of epoch {after.key.epoch}, which was erased at epoch {epoch}"
            self._wrong(Fault.STALE_KEY, reason)
        elif not self._is_genuine(before):
            self._wrong(Fault.STALE_KEY, "the key that this home keeps is not of its series")

    def _is_genuine(self, kept: KeptEpoch) -> bool:
        start = self._keys.get(kept.series)
        return start is None or _at_epoch(start, kept.key.epoch).key == kept.key.key


def _at_epoch(start: SealingKey, epoch: int) -> SealingKey:
    """The key of a later epoch. Raises ``Refused`` (audit-key-invalid) for one beyond every log."""
    if epoch > limits.AUDIT_EPOCHS:
        raise Refused(codes.AUDIT_KEY_INVALID, f"a seal claims epoch {epoch}")
    key = start
    for _ in range(epoch):
        key = key.next()
    return key
