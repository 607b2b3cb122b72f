"""``skex kit``: make kits at hubs, look at them, import them at KMEs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.base.ids import Direction, KmeName
from skex.cli import passphrases, values
from skex.cli.common import Noun, progress, result, table, talk
from skex.cli.files import PRIVATE, moment, new_file
from skex.cli.homes import hub_config, kme_config
from skex.cli.realm import fingerprint_data
from skex.daemon.enrolment import open_hub, open_kme
from skex.enrol.chunks import KitReader
from skex.enrol.creating import KitOrder
from skex.enrol.kit import KitHeader, UnderPassphrase, fingerprint_words
from skex.pad.kinds import PadKind
from skex.runtime import clock

_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Noun)
def kit() -> None:
    """Kits: what one hub and one KME share from then on, carried by hand, imported once.

    Whoever reads a kit can read everything that the link ever carries. Use a passphrase, tell it on
    another way than the kit travels, compare the words, and destroy the kit and its copies afterwards.
    """


@kit.command("create")
@click.argument("kme", type=values.KME_NAME)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The kit to write.")
@click.option(
    "--table",
    "table_bytes",
    type=values.SIZE,
    metavar="SIZE",
    help="A table pad of so many random bytes for each direction, such as 64MiB, instead of a derived one.",
)
@click.option("--table-to-hub", type=values.SIZE, metavar="SIZE", help="Another size towards the hub.")
@click.option("--table-to-kme", type=values.SIZE, metavar="SIZE", help="Another size towards the KME.")
@click.option("--valid", type=values.DURATION, default="30d", show_default=True, help="When the kit expires.")
@click.option("--in-clear", is_flag=True, help="No passphrase: whoever gets the kit can use it.")
@passphrases.passphrase_options
@click.option("--replace", is_flag=True, help="End the link that this KME has with the hub now.")
def create(
    *,
    kme: KmeName,
    output: Path,
    table_bytes: int | None,
    table_to_hub: int | None,
    table_to_kme: int | None,
    valid: int,
    in_clear: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    replace: bool,
) -> None:
    r"""Make the kit that enrols KME with this hub (--home is the hub's home; the hub must be stopped).

    \b
    Examples:
      skex kit create site-a -o /media/stick/hub-1.kit
      skex kit create site-a -o /media/stick/hub-1.kit --table 256MiB

    A derived pad costs 64 bytes and never runs out. A table pad is used up, byte by byte, and is what
    makes keys information-theoretic: then bring it under no passphrase, by a courier you trust.
    """
    if in_clear and (passphrase_file is not None or passphrase_fd is not None):
        raise click.UsageError("--in-clear and a passphrase exclude each other.")
    units = _units(table_bytes, table_to_hub, table_to_kme)
    config = hub_config()
    passphrase = None if in_clear else passphrases.ask(passphrase_file, passphrase_fd, confirm=True)
    with open_hub(config) as opened:
        order = KitOrder(
            realm=opened.realm,
            hub=opened.name,
            kme=kme,
            kind=PadKind.TABLE if any(units) else PadKind.DERIVED,
            created=clock.unix_seconds(),
            valid_seconds=valid,
            units_to_hub=units[0],
            units_to_kme=units[1],
            passphrase=passphrase,
        )
        size = sum(units) * limits.TABLE_UNIT_BYTES
        with new_file(output, PRIVATE) as file, progress(size, "Writing") as advance:
            made = opened.create_kit(order, file, file.sync, replace=replace, progress=advance)
    talk(f"Wrote {output}. It may be imported once, until {moment(made.header.expires)}.")
    talk("Tell the words to the KME's operator, and the passphrase on another way than the kit's.")
    _show(made.header, made.fingerprint, {"file": str(output)})


@kit.command("show")
@click.argument("file", type=_READABLE)
def show(file: Path) -> None:
    """Show what FILE says about itself, check it from end to end, print its words.

    Needs no passphrase and changes nothing. The same words at both ends: the same kit.
    """
    with _open(file) as source, progress(file.stat().st_size, "Checking") as advance:
        reader = KitReader(source, advance)
        digest = reader.examine()
    _show(reader.header, digest, {"file": str(file)})


@kit.command("import")
@click.argument("file", type=_READABLE)
@passphrases.passphrase_options
@click.option("--replace", is_flag=True, help="End the link that this KME has with the kit's hub now.")
def import_(
    *,
    file: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    replace: bool,
) -> None:
    r"""Import a kit (--home is the KME's home; the KME must be stopped).

    \b
    Example:
      skex kit import /media/stick/hub-1.kit

    Everything is checked before anything counts: a kit that was cut, changed, made for another KME,
    used before or expired leaves nothing behind. The realm is used once kits of enough hubs agree.
    """
    with (
        open_kme(kme_config()) as opened,
        _open(file) as source,
        progress(file.stat().st_size, "Importing") as advance,
    ):
        imported = opened.import_kit(
            source,
            lambda: passphrases.ask(passphrase_file, passphrase_fd, confirm=False),
            replace=replace,
            progress=advance,
        )
    verdict = imported.verdict
    if verdict.is_in_force:
        talk("The realm is in force: start the KME.")
    else:
        talk(f"{verdict.kits} of {verdict.needed} kits agree on the realm; import those of more hubs.")
    talk(f"Destroy {file} and every copy of it now: whoever has one can read this link.")
    extra = {"kits": verdict.kits, "needed": verdict.needed, "in_force": verdict.is_in_force}
    _show(imported.header, imported.fingerprint, extra)


def _units(both: int | None, to_hub: int | None, to_kme: int | None) -> tuple[int, int]:
    """Units of each direction's table; none for a derived pad."""
    if both is None and (to_hub is None) != (to_kme is None):
        raise click.UsageError("Give --table, or both --table-to-hub and --table-to-kme.")
    unit = limits.TABLE_UNIT_BYTES
    sizes = (to_hub or both or 0, to_kme or both or 0)
    units = tuple(-(-size // unit) for size in sizes)
    if max(units) > limits.PAD_POSITION_MAX:
        raise click.UsageError("A table has at most 16 TiB in each direction.")
    return units[0], units[1]


def _open(file: Path) -> Any:
    try:
        return file.open("rb")
    except OSError as error:
        raise StoreFault(codes.KIT_IO, f"{file}: {error.strerror}") from error


def _show(header: KitHeader, digest: bytes, extra: dict[str, Any]) -> None:
    realm = header.parsed_realm
    protection = "passphrase" if isinstance(header.protection, UnderPassphrase) else "clear"
    sizes = {f"bytes_{direction.name.lower()}": header.material_bytes(direction) for direction in Direction}
    words = fingerprint_words(digest)
    data = {
        "kit": header.kit_id.hex(),
        "hub": header.hub,
        "kme": header.kme,
        "link": header.link_id.hex(),
        "pad": header.kind.name.lower(),
        **sizes,
        "protection": protection,
        "created": header.created,
        "expires": header.expires,
        "expired": clock.unix_seconds() >= header.expires,
        "words": words,
        "sha512": digest.hex(),
        "realm": {"realm": realm.name, "epoch": realm.epoch, **fingerprint_data(realm)},
        **extra,
    }
    rows = [
        ("kit", f"{header.kme} with {header.hub}, link {header.link_id.hex()}"),
        ("pad", _pad_text(header)),
        ("carried", "under a passphrase" if protection == "passphrase" else "in clear"),
        ("made", moment(header.created)),
        ("expires", moment(header.expires) + (" (it has)" if data["expired"] else "")),
        ("its words", words),
        (
            "realm",
            f"{realm.name}, epoch {realm.epoch}: any {realm.threshold} of {len(realm.active_hubs)} hubs",
        ),
        ("its words", fingerprint_data(realm)["words"]),
    ]
    result(data, table(rows))


def _pad_text(header: KitHeader) -> str:
    if header.kind is PadKind.DERIVED:
        return "derived: never runs out, computational"
    to_hub, to_kme = (header.material_bytes(direction) for direction in Direction)
    return f"table: {to_hub:,} bytes to the hub, {to_kme:,} bytes to the KME"
