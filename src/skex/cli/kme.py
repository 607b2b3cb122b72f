"""``skex kme``: make a KME's home."""

from __future__ import annotations

from typing import Any

import click

from skex.base import limits
from skex.base.ids import HubName, KmeName
from skex.cli import blame, running, values
from skex.cli.common import Noun, result, talk
from skex.cli.homes import home, kme_config
from skex.daemon.enrolment import open_kme
from skex.daemon.homes import init_kme
from skex.daemon.options import Endpoint, parse_endpoint


@click.group(cls=Noun)
def kme() -> None:
    """KMEs: give applications on this site their keys.

    A KME is enrolled with every hub that it uses, and serves keys once kits of as many hubs as the
    realm's threshold were imported.
    """


@kme.command("init")
@click.argument("name", type=values.KME_NAME)
@click.option(
    "--floor",
    type=click.IntRange(1, limits.REALM_HUBS),
    metavar="K",
    help="Never use a lower threshold, whatever a realm file says.  [default: 2]",
)
@click.option(
    "--hub-address",
    "addresses",
    type=values.NAMED_ADDRESS,
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="Dial a hub here instead of where the realm file says; may be repeated.",
)
@click.option(
    "--etsi014", type=values.LISTEN, metavar="HOST:PORT", help="Open the ETSI GS QKD 014 door here."
)
def init(
    *,
    name: KmeName,
    floor: int | None,
    addresses: tuple[tuple[HubName, str], ...],
    etsi014: Endpoint | None,
) -> None:
    r"""Make the home of the KME NAME: its configuration, policy, store and master key.

    \b
    Example:
      skex kme init site-a --home /var/lib/skex

    The name is the same at every hub; applications at this KME are called APPLICATION@NAME. The home
    must not exist, or be empty. Its policy allows nothing yet: say in policy.toml who may have keys.
    """
    stated: dict[str, Any] = {}
    if floor is not None:
        stated["realm.threshold_floor"] = floor
    if addresses:
        stated["realm.hub_addresses"] = {hub: parse_endpoint(address) for hub, address in addresses}
    if etsi014 is not None:
        stated |= {"etsi014.enabled": True, "etsi014.listen": etsi014}
    init_kme(home(), name, stated)
    talk("Next: policy.toml, then 'skex kit import' for the kit of each hub.")
    result({"kme": name, "home": str(home())}, f"Made the home of {name} in {home()}.")


@kme.command("settle")
def settle() -> None:
    r"""Let a KME deliver keys again that was found to be rolled back (the KME must be stopped).

    \b
    After a rollback a KME delivers nothing, until somebody
      1. has found out how an older copy came to run, and that no other copy does;
      2. has enrolled every frozen link again: skex kit create and skex kit import, with --replace;
      3. says so with this command.

    Keys that were revoked stay revoked. If hubs still know of a later state, the next start finds out.
    """
    config = kme_config()
    with open_kme(config) as opened:
        opened.settle()
    talk("Start the KME: it delivers once enough hubs have shown no rollback.")
    result({"kme": config.name, "settled": True}, f"The rollback of {config.name} is settled.")


for command in (*running.KME_COMMANDS, *blame.COMMANDS):
    kme.add_command(command)
