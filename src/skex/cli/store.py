"""``skex store``: what is at rest in a home, and the key that seals it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from skex.base.secret import Secret
from skex.cli import passphrases
from skex.cli.common import Noun, result, talk
from skex.cli.homes import any_config, home
from skex.daemon.config import HubConfig
from skex.daemon.enrolment import open_hub, open_kme
from skex.daemon.master import NextKey

_FILE: Final = "file"
_PASSPHRASE: Final = "passphrase"  # noqa: S105  # a word of the command line
_CREDENTIAL: Final = "credential"


@click.group(cls=Noun)
def store() -> None:
    """Stores: the state of a hub or KME, sealed under its master key."""


@store.command("rekey")
@click.option(
    "--to",
    type=click.Choice([_FILE, _PASSPHRASE, _CREDENTIAL]),
    default=_FILE,
    show_default=True,
    help="How the new key is kept: in master.key, in master.sealed under a passphrase, or nowhere here.",
)
@click.option(
    "--key-out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --to credential: the new file for the key, which the service manager is to bring.",
)
@passphrases.passphrase_options
def rekey(to: str, key_out: Path | None, passphrase_file: Path | None, passphrase_fd: int | None) -> None:
    r"""Seal the store of this home under a new master key, and erase the old key. The daemon must be stopped.

    \b
    Examples:
      skex store rekey --home site-a
      skex store rekey --home site-a --to passphrase
      skex store rekey --home site-a --to credential --key-out /run/skex-master-key

    Links, pads and keys stay what they are. A change that is cut short leaves a home that opens with one
    of the two keys: the next start or command finds out which, and erases the other.
    """
    if (key_out is not None) != (to == _CREDENTIAL):
        raise click.UsageError("--key-out and --to credential go together.")
    if to != _PASSPHRASE and (passphrase_file is not None or passphrase_fd is not None):
        raise click.UsageError("A passphrase goes with --to passphrase.")
    config, _ = any_config()
    passphrase = _asked(passphrase_file, passphrase_fd) if to == _PASSPHRASE else None
    following = _following(passphrase, key_out)
    with open_hub(config) if isinstance(config, HubConfig) else open_kme(config) as opened:
        opened.rekey(following)
    following.master.wipe()
    if key_out is not None:
        talk(f"Bring {key_out} as the credential skex-master-key, for example with systemd-creds encrypt.")
        talk(f"Then erase {key_out}: the home has no copy, and without it the store is lost.")
    result({"home": str(home()), "kept": to}, f"Sealed under a new master key, kept {_where(to)}.")


def _asked(file: Path | None, descriptor: int | None) -> Secret:
    return passphrases.ask(file, descriptor, confirm=True, of=passphrases.MASTER)


def _following(passphrase: Secret | None, key_out: Path | None) -> NextKey:
    if passphrase is not None:
        return NextKey.under_passphrase(home(), passphrase)
    return NextKey.in_file(home()) if key_out is None else NextKey.for_credential(home(), key_out)


def _where(to: str) -> str:
    places = {_FILE: "in master.key", _PASSPHRASE: "in master.sealed under the passphrase"}
    return places.get(to, "nowhere in the home")
