"""What the three methods mean: from a parsed call and an authenticated name to keys.

Errors leave as exceptions of the tree; ``answers`` turns them into what goes out. It must not know
HTTP, TLS or how keys come about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import assert_never

from skex.base import codes
from skex.base.errors import DeliveryFault, Refused
from skex.base.ids import SaeId
from skex.delivery.etsi014 import models
from skex.delivery.etsi014.answers import OK, Answer
from skex.delivery.etsi014.extensions import SUPPORTED, Extension, requirements, unknown, wishes
from skex.delivery.etsi014.models import Call, KeyIds, KeyRequest, Operation
from skex.keys.api import DeliveredKey, KeyService


class Handlers:
    """The standard's methods over a ``KeyService``."""

    def __init__(self, service: KeyService, supported: Mapping[str, Extension] = SUPPORTED) -> None:
        self._service = service
        self._supported = supported

    def resolve(self, name: str) -> SaeId:
        """The SAE that a name stands for. Raises ``Refused`` (name-invalid)."""
        return self._service.resolve(name)

    def parse(self, method: str, call: Call, body: bytes) -> KeyRequest | KeyIds | None:
        """The request's content in either form; None where the method has none.

        Raises ``DeliveryFault`` (door-request, door-size-bits).
        """
        posted = method == "POST"
        match call.operation:
            case Operation.STATUS:
                return None
            case Operation.ENC_KEYS:
                if not posted:
                    return models.parse_key_request_query(call.query)
                request = models.parse_key_request_body(body)
                ignored = (*request.ignored, *unknown(request.optional, self._supported))
                return replace(request, ignored=ignored)
            case Operation.DEC_KEYS:
                return models.parse_key_ids_body(body) if posted else models.parse_key_ids_query(call.query)
            case _:
                assert_never(call.operation)

    async def answer(self, caller: SaeId, call: Call, content: KeyRequest | KeyIds | None) -> Answer:
        """Do it. Raises what ``KeyService`` raises, and ``DeliveryFault``."""
        other = self.resolve(call.sae)
        if other == caller:
            raise DeliveryFault(codes.DOOR_REQUEST, "master and slave are the same SAE")
        match content:
            case None:
                status = await self._service.status(caller, other)
                return Answer(OK, models.render_status(status))
            case KeyRequest():
                return _container(await self._take_new(caller, other, content))
            case KeyIds():
                return _container(await self._service.take_by_id(caller, other, content.key_ids))
            case _:
                assert_never(content)

    async def _take_new(self, caller: SaeId, slave: SaeId, request: KeyRequest) -> tuple[DeliveredKey, ...]:
        demands = requirements(request.mandatory, self._supported)
        slaves = (slave, *(self.resolve(name) for name in request.additional))
        # Two names may be one SAE, so this is asked of what they stand for.
        if len({caller, *slaves}) != len(slaves) + 1:
            raise DeliveryFault(codes.DOOR_REQUEST, "additional_slave_SAE_IDs repeats the master or a slave")
        key_bytes = request.key_bytes
        if key_bytes is None:
            key_bytes = (await self._service.status(caller, slave)).key_bytes
        wanted = wishes(demands, request.optional, self._supported)
        try:
            if wanted != demands:
                with _unless_unmet():
                    return await self._service.take_new(caller, slaves, request.number, key_bytes, wanted)
            return await self._service.take_new(caller, slaves, request.number, key_bytes, demands)
        except Refused as refused:
            if refused.code is codes.REQUIREMENTS_UNMET and request.mandatory:
                raise DeliveryFault(codes.DOOR_EXTENSION_UNMET) from refused
            raise


def _container(keys: tuple[DeliveredKey, ...]) -> Answer:
    return Answer(OK, models.render_keys(keys), keys=len(keys))


@contextmanager
def _unless_unmet() -> Iterator[None]:
    """Go on where only what was optional cannot be met, or is not allowed."""
    try:
        yield
    except Refused as refused:
        if refused.code not in {codes.REQUIREMENTS_UNMET, codes.NOT_AUTHORISED}:
            raise
