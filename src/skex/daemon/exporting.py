"""Hands out the records of one log in their order, also as they are written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from skex.audit.chain import Record
from skex.base import codes
from skex.base.errors import Refused
from skex.daemon.assessing import owner_of_log
from skex.daemon.verifying.logs import directory_of
from skex.runtime.auditfile import Reader

LOOK_SECONDS: Final = 0.5
"""How often a log that is followed is looked at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records: from a number on (None: from the first that is there), of some kinds, about something.

    ``follow``: those still to come, too.
    """

    first: int | None = None
    follow: bool = False
    names: frozenset[str] = frozenset()
    about: str | None = None

    def has(self, record: Record) -> bool:
        """Whether a record is among them."""
        return (
            record.sequence >= (self.first or 0)
            and (not self.names or record.event in self.names)
            and is_about(record, self.about)
        )


def is_about(record: Record, text: str | None) -> bool:
    """Whether a record's actor, subjects or details hold ``text``."""
    if text is None:
        return True
    ids = [one for found in record.subjects.values() for one in found]
    told = (record.actor, record.second, record.cause, *ids, str(dict(record.details)))
    return any(text in one for one in told)


class Export:
    """One log on its way out. ``skipped`` counts lines that are no records."""

    def __init__(self, home: Path, wanted: Wanted) -> None:
        """Raises ``StoreFault`` (home-missing, audit-io), ``Refused`` (config-*)."""
        self._wanted = wanted
        self._home = home
        self._directory = directory_of(home)
        self.skipped = 0

    @cached_property
    def owner(self) -> str:
        """Whose log it is: ``kme:north``. Raises ``Refused`` (audit-owner-unknown)."""
        return owner_of_log(self._home, self._directory)

    def records(self) -> Iterator[tuple[Record, bytes]]:
        """Every wanted record, and its line.

        Raises ``Refused`` (audit-records-elsewhere): the log begins behind the first that is wanted;
        ``StoreFault`` (audit-io).
        """
        reader, first = Reader(self._directory, self._wanted.first or 1), True
        while True:
            for line in reader.lines():
                record = Record.from_line(line)
                if record is None:
                    self.skipped += 1
                    continue
                if first and self._wanted.first is not None and record.sequence > self._wanted.first:
                    raise Refused(codes.AUDIT_RECORDS_ELSEWHERE, f"it begins with record {record.sequence}")
                first = False
                if self._wanted.has(record):
                    yield record, line
            if not self._wanted.follow:
                return
            threading.Event().wait(LOOK_SECONDS)
