"""What hubs below the threshold cannot bring about, whatever they say: epochs, revocations, blame.

Who lies is the world's secret; ``liars`` is filled by it and told to no machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulation.machines import LinkEnd, Machine, SimKme, machine_of
from simulation.rules import Checker
from skex.base.ids import HubName
from skex.protocol import kme, receiver, rollback
from skex.protocol.changes import Change, RealmAccepted, RollbackFound
from skex.wire import messages
from skex.wire.realm import Realm


class BlamesLiars(Checker):
    """A name that is certain is a liar's; a suspicion may be wrong, and says so."""

    name = "blames-liars"
    rule = "4.4: whoever is named for certain lied, as long as fewer than k hubs lie"

    def __init__(self) -> None:
        self.liars: set[HubName] = set()

    def notices(self, one: SimKme, notice: kme.KmeNotice) -> None:
        """Look at each name."""
        if isinstance(notice, receiver.HubBlamed) and notice.certain and notice.hub not in self.liars:
            self.broken(f"{one.name} is certain that {notice.hub} lied about {notice.batch}")


class RealmByK(Checker):
    """Counts the hubs that sent the bytes of each later epoch."""

    name = "realm-by-k"
    rule = "4, Realm trust: a later epoch takes effect when k hubs of the current one send the same bytes"

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._sent: dict[tuple[Machine, bytes], set[HubName]] = {}

    def arrived(self, end: LinkEnd, message: messages.Message) -> None:
        """A hub sends a realm file."""
        if isinstance(message, messages.RealmFile) and end.session is not None:
            key = (machine_of(end), message.data)
            self._sent.setdefault(key, set()).add(end.session.profile.parties.hub)

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Count when one is accepted."""
        for change in changes:
            if isinstance(change, RealmAccepted):
                hubs = self._sent.get((machine, change.data), set())
                if change.data != self._realm.to_bytes() and len(hubs) < self._realm.threshold:
                    self.broken(f"{machine.name} accepts epoch {change.epoch} from {sorted(hubs)}")


class RollbackByK(Checker):
    """Remembers who ever accused a KME; its own evidence is a pad file or a store that contradicts it."""

    name = "rollback-by-k"
    rule = "3, Noticing a rollback: keys are revoked on own evidence, or when k hubs say the same"

    def __init__(self, realm: Realm) -> None:
        self._least = realm.threshold
        self._accusers: dict[str, set[HubName]] = {}
        self._own: set[str] = set()

    def asked(self, one: SimKme, event: kme.KmeEvent) -> None:
        """A hub accuses, or the KME's own files do."""
        if isinstance(event, rollback.LinkProved) and event.rolled_back:
            self._accusers.setdefault(one.name, set()).add(event.hub)
        elif isinstance(event, rollback.OwnContradiction):
            self._own.add(one.name)

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Count when a rollback is taken for found."""
        if any(isinstance(change, RollbackFound) for change in changes):
            accusers = self._accusers.get(machine.name, set())
            if len(accusers) < self._least and machine.name not in self._own:
                self.broken(f"{machine.name} believes {sorted(accusers)} that it was rolled back")
