"""Passphrases on their way in: a file, a file descriptor or a terminal, never the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused, StoreFault
from skex.base.secret import Secret
from skex.cli.files import read_bounded
from skex.enrol.passphrase import parse_passphrase

_BYTES = 4 * limits.PASSPHRASE_CHARACTERS_MAX + 2
"""The longest passphrase in UTF-8, and the end of its line."""


def passphrase_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --passphrase-file and --passphrase-fd."""
    for option in (
        click.option(
            "--passphrase-fd",
            type=click.IntRange(0),
            metavar="N",
            help="Read the passphrase from this open file descriptor; 0 is stdin.",
        ),
        click.option(
            "--passphrase-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Read the passphrase from the first line of this file.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a passphrase is for: how people are asked, and what is refused where nobody can be."""

    prompt: str
    missing: ErrorCode


KIT: Final = Sealed("Passphrase of the kit", codes.KIT_PASSPHRASE_MISSING)
MASTER: Final = Sealed("New passphrase of the master key", codes.MASTER_PASSPHRASE_MISSING)
BACKUP: Final = Sealed("Passphrase of the backup", codes.BACKUP_PASSPHRASE_MISSING)


def ask(file: Path | None, descriptor: int | None, *, confirm: bool, of: Sealed = KIT) -> Secret:
    """The passphrase, from where the options say, or from the terminal.

    Raises ``Refused``: kit-passphrase-missing or backup-passphrase-missing where nobody can be asked,
    kit-passphrase-weak; ``StoreFault`` (file-io).
    """
    if file is not None:
        return _first_line(read_bounded(file, _BYTES))
    if descriptor is not None:
        return _first_line(_drain(descriptor))
    if not sys.stdin.isatty():
        raise Refused(of.missing)
    return parse_passphrase(click.prompt(of.prompt, hide_input=True, confirmation_prompt=confirm, err=True))


class Repeated:
    """One passphrase for several files: asked for once, handed out as often as it is needed."""

    def __init__(self, first: Callable[[], Secret]) -> None:
        self._first = first
        self._kept: Secret | None = None

    def ask(self) -> Secret:
        """A copy of it, which the caller wipes."""
        if self._kept is None:
            self._kept = self._first()
        return Secret(self._kept.expose())

    def forget(self) -> None:
        """Ask anew the next time."""
        if self._kept is not None:
            self._kept.wipe()
            self._kept = None


def _drain(descriptor: int) -> bytes:
    """What stands in an open descriptor, bounded."""
    read = bytearray()
    try:
        while len(read) <= _BYTES and (piece := os.read(descriptor, _BYTES + 1 - len(read))):
            read += piece
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"descriptor {descriptor}: {error.strerror}") from error
    return bytes(read)


def _first_line(data: bytes) -> Secret:
    if len(data) > _BYTES:
        raise Refused(codes.KIT_PASSPHRASE_WEAK, "too long")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # Not "from": the decoder's error quotes the passphrase.
        raise Refused(codes.KIT_PASSPHRASE_WEAK, "not UTF-8 text") from None
    return parse_passphrase(text.split("\n", 1)[0].removesuffix("\r"))
