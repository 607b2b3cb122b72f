"""What checks find, and what they are given to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from skex.audit.chain import Stamp
from skex.base.errors import SkexError
from skex.base.ids import LinkId
from skex.daemon.config import HubConfig, KmeConfig
from skex.store.links import StoredLink
from skex.wire.preface import Marks
from skex.wire.realm import Realm


class Level(Enum):
    """How a check ended. ``FAIL`` keeps a daemon from its work, or a secret from being one."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result: which check, how it ended, one sentence, and how to mend it."""

    check: str
    level: Level
    sentence: str
    mend: str = ""


def ok(check: str, sentence: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, sentence)


def warn(check: str, sentence: str, mend: str) -> Finding:
    """Works, but somebody should know."""
    return Finding(check, Level.WARN, sentence, mend)


def fail(check: str, sentence: str, mend: str) -> Finding:
    """Does not work, or must not be left so."""
    return Finding(check, Level.FAIL, sentence, mend)


def fault(check: str, error: SkexError) -> Finding:
    """What an error of the tree says."""
    detail = f" ({error.detail})" if error.detail else ""
    return fail(check, f"{error.code.sentence.rstrip('.')}{detail}.", error.code.hint)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store of a stopped daemon says. ``realm_age`` is in seconds, None at a hub.

    ``names`` are the facts that it was made with; ``awaiting`` whose kits a restored home still lacks.
    """

    links: tuple[StoredLink, ...]
    marks: Mapping[LinkId, Marks]
    realm: Realm | None
    realm_age: float | None
    names: Mapping[str, str]
    awaiting: tuple[str, ...] = ()


@dataclass(slots=True)
class Subject:
    """A home under examination; earlier checks leave here what later ones need.

    ``now`` is this moment on both clocks; ``ask`` asks the running daemon for its status and raises
    ``SkexError``. ``witnesses`` are moments (UNIX seconds) before which it cannot be now.
    """

    home: Path
    now: Stamp
    ask: Callable[[], Mapping[str, Any]]
    config: HubConfig | KmeConfig | None = None
    kept: Kept | None = None
    status: Mapping[str, Any] | None = None
    witnesses: dict[str, float] = field(default_factory=dict)

    @property
    def realm(self) -> Realm | None:
        """The realm in force, as far as it could be read."""
        return None if self.kept is None else self.kept.realm
