"""What goes wrong in a world, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulation.chance import Chance
from simulation.machines import Lie
from skex.wire import messages


def truthful(message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
    """No lie."""
    del chance
    return (message,)


def spoil(message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
    """Change what passes: shares, tags, contexts, confirmations, envelopes; withhold; say it twice."""
    match message:
        case messages.Shared():
            return _spoil_share(message, chance)
        case messages.Confirmed():
            return _spoil_confirmation(message, chance)
        case messages.Forwarded():
            return _spoil_envelope(message, chance)
        case _:
            return (message,)


def _spoil_share(message: messages.Shared, chance: Chance) -> Sequence[messages.Message]:
    match chance.randrange(6):
        case 0:
            return ()
        case 1:
            return (replace(message, share=_flipped(message.share, chance)), message)
        case 2:
            return (replace(message, tag=_flipped(message.tag, chance)),)
        case 3:
            context = replace(message.context, lifetime=message.context.lifetime + 1)
            return (replace(message, context=context),)
        case _:
            return (replace(message, share=_flipped(message.share, chance)),)


def _spoil_confirmation(message: messages.Confirmed, chance: Chance) -> Sequence[messages.Message]:
    match chance.randrange(3):
        case 0:
            return ()
        case 1:
            forged = replace(message.confirmation, mac=_flipped(message.confirmation.mac, chance))
            return (replace(message, confirmation=forged),)
        case _:
            return (message, message)


def _spoil_envelope(message: messages.Forwarded, chance: Chance) -> Sequence[messages.Message]:
    match chance.randrange(3):
        case 0:
            return ()
        case 1:
            return (replace(message, envelope=_flipped(message.envelope, chance)),)
        case _:
            return (message, message)


def _flipped(data: bytes, chance: Chance) -> bytes:
    """One bit is another."""
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Rates are per step. ``liars`` and ``down`` together stay within n - k.

    ``description`` is one line, said by the help of the command and by the documentation.
    ``plot`` lets the liars lie together instead of each by ``lie``.
    ``lifetime`` is that of keys, in seconds. ``tables`` are the numbers of the hubs with which the first
    and the second KME have table pads. Nobody refills a table: where hubs lie, it is with a liar, so that
    one that is used up in a long run leaves as many honest hubs within reach as before.
    """

    description: str
    liars: int = 0
    down: int = 0
    lie: Lie = truthful
    plot: bool = False
    cut_rate: float = 0.0
    crash_rate: float = 0.0
    hazard: float = 0.0
    lifetime: int = 3600
    attack_rate: float = 0.0
    disk_rate: float = 0.0
    kill_rate: float = 0.0
    outage_rate: float = 0.0
    delay_rate: float = 0.0
    restore_rate: float = 0.0
    clone_rate: float = 0.0
    clock_rate: float = 0.0
    away_rate: float = 0.0
    rot_rate: float = 0.0
    tables: tuple[int, int] = (1, 2)

    @property
    def lives(self) -> bool:
        """Whether whole machines have a fate of their own; then there is an operator, and slaves fetch."""
        fates = (self.restore_rate, self.clone_rate, self.clock_rate, self.away_rate, self.rot_rate)
        return self.plot or any(fates)

    def __post_init__(self) -> None:
        """A scenario that says nothing of itself, or too much for one line, is refused (``ValueError``)."""
        if not 0 < len(self.description) <= DESCRIPTION_CHARACTERS or "\n" in self.description:
            raise ValueError("a scenario is described in one line")


DESCRIPTION_CHARACTERS: Final = 100
"""What stands beside a scenario's name on one line of the help."""

SCENARIOS: Final[dict[str, Scenario]] = {
    "calm": Scenario("nothing goes wrong"),
    "cuts": Scenario("connections break at any byte", cut_rate=0.01),
    "crashes": Scenario("machines lose power between any two effects", crash_rate=0.001, hazard=0.0005),
    "liar": Scenario(
        "one hub changes, withholds and repeats what it relays", liars=1, lie=spoil, tables=(5, 5)
    ),
    "liars": Scenario(
        "two hubs change, withhold and repeat what they relay", liars=2, lie=spoil, tables=(5, 5)
    ),
    "colluders": Scenario(
        "two hubs lie together: about shares, answers, refusals, realms, marks and rollbacks",
        liars=2,
        plot=True,
        cut_rate=0.005,
        tables=(5, 5),
    ),
    "down": Scenario("two hubs are down", down=2),
    "short": Scenario("keys live for twenty seconds", lifetime=20),
    "attack": Scenario(
        "bytes on the wires are changed, and anything ever sent is replayed or spliced in",
        attack_rate=0.02,
    ),
    "disks": Scenario(
        "disks of stores and pads fill up, or fail a read, a write or a sync",
        disk_rate=0.004,
        cut_rate=0.005,
        crash_rate=0.001,
    ),
    "rot": Scenario(
        "single bits of stores and pads flip at rest; links are enrolled again, machines replaced",
        rot_rate=0.02,
        cut_rate=0.01,
        kill_rate=0.003,
        crash_rate=0.001,
    ),
    "kills": Scenario("daemons are killed; what they wrote stays in the caches", kill_rate=0.002),
    "partitions": Scenario(
        "machines and pairs cannot be reached, for seconds or minutes, both ways or one; bytes wait",
        outage_rate=0.004,
        delay_rate=0.004,
    ),
    "restores": Scenario(
        "disks of hubs and KMEs are put back from older images: stores, pads, or both",
        cut_rate=0.02,
        crash_rate=0.0005,
        restore_rate=0.01,
        lifetime=120,
    ),
    "clones": Scenario(
        "a copy of a KME runs beside it for a while, then one of the two is switched off for ever",
        crash_rate=0.0005,
        clone_rate=0.003,
        lifetime=120,
    ),
    "clocks": Scenario(
        "boot-time clocks differ, wall clocks are set ahead and back, machines lose power",
        crash_rate=0.004,
        kill_rate=0.001,
        clock_rate=0.02,
        lifetime=40,
    ),
    "outage": Scenario(
        "now and then more hubs are away than may be, while one lies",
        liars=1,
        lie=spoil,
        away_rate=0.002,
        crash_rate=0.0005,
        tables=(5, 5),
    ),
    "mixed": Scenario(
        "all at once: one hub lies, one is down; cuts, crashes, kills, attacks and bad disks",
        liars=1,
        down=1,
        plot=True,
        cut_rate=0.005,
        crash_rate=0.0005,
        hazard=0.0003,
        attack_rate=0.003,
        disk_rate=0.0005,
        kill_rate=0.0005,
        restore_rate=0.002,
        clone_rate=0.0004,
        clock_rate=0.001,
        outage_rate=0.0003,
        delay_rate=0.001,
        tables=(5, 5),
    ),
}
