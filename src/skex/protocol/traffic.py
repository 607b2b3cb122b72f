"""What passes between links and the machines above them.

The link numbers requests and matches answers to them; machines above hand it a token of their own
and get it back, so they never see ordinals of requests they made. A request that *came in* has an
ordinal, and is answered by sending ``Done`` or ``Refuse`` with it on the same connection.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

from skex.base.ids import HubName, Incarnation, KmeName
from skex.wire import messages


@dataclass(frozen=True, slots=True)
class SendToHub:
    """Send a message to a hub; answers come back as ``AnsweredByHub`` with ``token``."""

    hub: HubName
    message: messages.Message
    token: Hashable = None


@dataclass(frozen=True, slots=True)
class SendToKme:
    """Send a message to a KME; refusals come back as ``AnsweredByKme`` with ``token``."""

    kme: KmeName
    message: messages.Message
    token: Hashable = None


@dataclass(frozen=True, slots=True)
class FromHub:
    """A message arrived from a hub; ``ordinal`` names it in an answer."""

    hub: HubName
    ordinal: int
    message: messages.Message


@dataclass(frozen=True, slots=True)
class FromKme:
    """A message arrived from a KME; ``ordinal`` names it in an answer."""

    kme: KmeName
    ordinal: int
    message: messages.Message


@dataclass(frozen=True, slots=True)
class AnsweredByHub:
    """A hub answered the request with ``token``: ``refusal`` is None for a DONE."""

    hub: HubName
    token: Hashable
    refusal: int | None


@dataclass(frozen=True, slots=True)
class AnsweredByKme:
    """A KME refused the request with ``token``."""

    kme: KmeName
    token: Hashable
    refusal: int


@dataclass(frozen=True, slots=True)
class HubUp:
    """The link to a hub finished its preface."""

    hub: HubName


@dataclass(frozen=True, slots=True)
class HubDown:
    """The link to a hub has no connection any more; what was sent may or may not have arrived."""

    hub: HubName


@dataclass(frozen=True, slots=True)
class KmeUp:
    """The link to a KME finished its preface; ``incarnation`` is what its frame 3 stated."""

    kme: KmeName
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class KmeDown:
    """The link to a KME has no connection any more."""

    kme: KmeName


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; the shell sends one at, or soon after, the machine's ``next_deadline``."""


HubLinkEvent: TypeAlias = FromHub | AnsweredByHub | HubUp | HubDown
KmeLinkEvent: TypeAlias = FromKme | AnsweredByKme | KmeUp | KmeDown
