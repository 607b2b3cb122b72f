"""Where a world can be watched: everything that machines take, seal, say, hear and make durable.

``Watch`` sees and does nothing; checkers override what they need. What it is handed belongs to the
machines: secrets may be wiped as soon as it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skex.pad.material import GrantMaterial
from skex.protocol import kme
from skex.protocol.changes import Change
from skex.protocol.session import Session, TakeGrant
from skex.wire import messages

if TYPE_CHECKING:  # machines are watched: they import this module
    from simulation.machines import LinkEnd, Machine, SimKme


class Watch:
    """Sees a world's machines at work."""

    def started(self, machine: Machine) -> None:
        """A machine starts with what its store and disk hold."""

    def restored(self, machine: Machine) -> None:
        """A machine's disk was rolled back, or is another one's copy; it starts from it next."""

    def seen_further(self, machine: Machine) -> None:
        """Of a KME that was restored or copied: at least k hubs in reach saw it further than it is."""

    def committed(self, machine: Machine, changes: Sequence[Change]) -> None:
        """One set is durable."""

    def begun(self, end: LinkEnd) -> None:
        """A connection is there at one end; its preface begins."""

    def taken(self, end: LinkEnd, take: TakeGrant, material: GrantMaterial) -> None:
        """A grant is in memory; nothing of it was announced or used yet."""

    def sealed(self, end: LinkEnd, session: Session, record: bytes) -> None:
        """A record was sealed; whether it will ever be sent is open."""

    def said(self, end: LinkEnd, message: messages.Message) -> None:
        """A message was handed to a link."""

    def arrived(self, end: LinkEnd, message: messages.Message) -> None:
        """A message came out of a link."""

    def asked(self, one: SimKme, event: kme.KmeEvent) -> None:
        """A KME's machines get an event."""

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """A KME's machines send; a peer message is not sealed yet."""

    def notices(self, one: SimKme, notice: kme.KmeNotice) -> None:
        """A KME's machines tell the layer above."""
