"""What a home knows that its policy is read against: its realm, its KMEs, the policy in force."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from skex.base.errors import SkexError
from skex.cli.admin import ask
from skex.cli.common import Unreachable
from skex.daemon.config import HubConfig, KmeConfig
from skex.policy.evaluate import PolicySet, load
from skex.wire.realm import Realm


@dataclass(frozen=True, slots=True)
class HomeFacts:
    """``active`` is the policy of the daemon that runs, ``kmes`` all that a hub has enrolled.

    None stands for what cannot be known: no daemon, no realm file yet, a KME's peers.
    """

    config: HubConfig | KmeConfig
    active: PolicySet | None = None
    realm: Realm | None = None
    kmes: frozenset[str] | None = None

    @property
    def own(self) -> str | None:
        """The KME whose policy it is, None for a hub's."""
        return None if isinstance(self.config, HubConfig) else str(self.config.name)


def facts_of(config: HubConfig | KmeConfig) -> HomeFacts:
    """Ask the daemon, or look into the store of one that does not run; changes nothing."""
    facts = HomeFacts(config)
    with suppress(Unreachable):
        return _told(facts, ask(config.home, "policy"))
    with suppress(SkexError):
        return _read(facts)
    return facts


def _told(facts: HomeFacts, answer: dict[str, Any]) -> HomeFacts:
    realm, kmes = answer["realm"], answer["kmes"]
    return replace(
        facts,
        active=load(answer["policy"].encode(), "the policy in force"),
        realm=None if realm is None else Realm.from_bytes(bytes.fromhex(realm)),
        kmes=None if kmes is None else frozenset(kmes),
    )


def _read(facts: HomeFacts) -> HomeFacts:
    from skex.daemon.looking import look  # noqa: PLC0415  # the stores are most of a command's start

    looked = look(facts.config)
    return replace(facts, realm=looked.realm, kmes=looked.kmes)
