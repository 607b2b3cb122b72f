"""Values on the command line that click does not know: names, sizes, durations, addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from skex.base import ids
from skex.base.errors import Refused
from skex.daemon import options

ValueT = TypeVar("ValueT")

_SIZE: Final = re.compile(r"([1-9][0-9]{0,12})(B|KiB|MiB|GiB|TiB)?")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,9})(s|min|h|d|w|y)?")
_BYTES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}


class Parsed(click.ParamType[ValueT]):
    """A value that ``parse`` reads from text; it raises ``ValueError`` or ``Refused``."""

    def __init__(self, name: str, parse: Callable[[str], ValueT]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ValueT:
        """Read the text; what is wrong becomes a usage error."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default, made by us
        try:
            return self._parse(value)
        except Refused as error:
            self.fail(f"{value!r}: {error.code.sentence} {error.code.hint}", param, ctx)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("is no size: write a number and B, KiB, MiB, GiB or TiB, such as 64MiB")
    return int(match[1]) * _BYTES[match[2] or "B"]


def _duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("is no duration: write a number and s, min, h, d, w or y, such as 30d")
    return int(match[1]) * _SECONDS[match[2] or "s"]


def _named_address(text: str) -> tuple[ids.HubName, str]:
    name, separator, address = text.partition("=")
    if not separator:
        raise ValueError("must be NAME=HOST:PORT")
    try:
        return ids.parse_hub_name(name), str(options.parse_endpoint(address))
    except options.Wrong as error:
        raise ValueError(f": the address {error}") from error


def _listen(text: str) -> options.Endpoint:
    endpoint: options.Endpoint = options.LISTEN.read(text)
    return endpoint


SIZE: Final = Parsed("size", _size)
DURATION: Final = Parsed("duration", _duration)
NAMED_ADDRESS: Final = Parsed("name=host:port", _named_address)
LISTEN: Final = Parsed("host:port", _listen)
BREAK_GLASS: Final = click.option(
    "--break-glass",
    metavar="REASON",
    help="With the daemon stopped: do alone what the policy says two persons must do. It is recorded.",
)
"""Of every command that works at a stopped daemon and may need two persons."""
HUB_NAME: Final = Parsed("name", ids.parse_hub_name)
KME_NAME: Final = Parsed("name", ids.parse_kme_name)
REALM_NAME: Final = Parsed("name", ids.parse_realm_name)
