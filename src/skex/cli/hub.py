"""``skex hub``: make a hub's home, and give it another realm file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skex.base.errors import StoreFault
from skex.base.ids import HubName
from skex.cli import beside, running, values
from skex.cli.admin import ask, told_pending
from skex.cli.common import Noun, result, settings, talk
from skex.cli.homes import home, hub_config
from skex.cli.realm import as_data, as_text, read_realm
from skex.daemon.enrolment import open_hub
from skex.daemon.homes import init_hub
from skex.daemon.options import Endpoint
from skex.policy.rules import OperatorCommand


@click.group(cls=Noun)
def hub() -> None:
    """Hubs: relay shares of keys between KMEs that they enrolled.

    Each hub of a realm should have an operator of its own: a key is as safe as the number of hubs
    that would have to work together to learn it.
    """


@hub.command("init")
@click.argument("name", type=values.HUB_NAME)
@click.option(
    "--realm",
    "realm_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The realm file; it must list NAME as an active hub.",
)
@click.option("--listen", type=values.LISTEN, help="Where KMEs connect; port 0 lets the system choose.")
def init(*, name: HubName, realm_file: Path, listen: Endpoint | None) -> None:
    r"""Make the home of the hub NAME: its configuration, policy, store and master key.

    \b
    Example:
      skex hub init hub-1 --realm realm.cbor --home /var/lib/skex

    The home must not exist, or be empty. Everything in it is readable by its owner only. Its policy
    allows nothing yet: say in policy.toml which KMEs may establish keys.
    """
    realm = read_realm(realm_file)
    stated: dict[str, Any] = {} if listen is None else {"listen.address": listen}
    init_hub(home(), name, realm.to_bytes(), stated)
    talk(f"Made {home()}. Compare the realm's words with the other operators.")
    talk("Next: policy.toml, then 'skex kit create' for each KME.")
    result({"hub": name, "home": str(home()), **as_data(realm)}, as_text(realm))


@hub.command("update-realm")
@click.argument("realm_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@values.BREAK_GLASS
def update_realm(realm_file: Path, break_glass: str | None) -> int | None:
    """Serve the later epoch in REALM_FILE; the hub may run, and then serves it at once.

    The file must follow the one that the hub serves: same realm, a higher epoch, every hub at its
    coordinate. KMEs use it once enough hubs serve the same bytes.
    """
    realm = read_realm(realm_file)
    at = settings().socket
    if at is None:
        config = hub_config()
        try:
            with open_hub(config) as opened:
                opened.alone(OperatorCommand.REALM_UPDATE, break_glass)
                opened.update_realm(realm)
            talk("Start the hub; KMEs hear of the new epoch when they connect.")
        except StoreFault as fault:
            beside.require_daemon(config.home, fault)
            at = config.home
        if realm.hub_named(config.name) is None:
            talk(f"{config.name} is no active hub in it: it will not start again once it stops.")
    if at is not None:
        waits = told_pending(ask(at, "realm", {"realm": realm.to_bytes().hex()}))
        if waits is not None:
            return waits
        talk("The hub serves it now; KMEs that are connected have been sent it.")
    result(as_data(realm), as_text(realm))
    return None


for command in running.HUB_COMMANDS:
    hub.add_command(command)
