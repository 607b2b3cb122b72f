"""``skex kit``: make kits at hubs, look at them, import them at KMEs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from skex.base import limits
from skex.base.errors import StoreFault
from skex.base.ids import Direction, HubName, KmeName
from skex.base.secret import Secret
from skex.cli import beside, passphrases, values
from skex.cli.admin import talk_pending
from skex.cli.common import AWAITS_APPROVAL, Noun, progress, result, settings, table, talk
from skex.cli.files import PRIVATE, moment, new_file
from skex.cli.homes import home, hub_config, kme_config
from skex.cli.realm import fingerprint_data
from skex.daemon.enrolment import HubHome, KmeHome, open_hub, open_kme
from skex.enrol.chunks import KitReader
from skex.enrol.creating import KitOrder
from skex.enrol.kit import KitHeader, UnderPassphrase, fingerprint_words
from skex.pad.kinds import PadKind
from skex.policy.rules import OperatorCommand
from skex.runtime import clock
from skex.wire.realm import Realm

_PROGRESS: Final = ("kits", "needed", "in_force")
"""How far the realm is on its way into force after a kit."""
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
@values.BREAK_GLASS
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
    break_glass: str | None,
) -> int | None:
    r"""Make the kit that enrols KME with this hub (--home is the hub's home; the hub may run).

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
    at = settings().socket
    config = hub_config() if at is None else None
    passphrase = None if in_clear else passphrases.ask(passphrase_file, passphrase_fd, confirm=True)
    size = sum(units) * limits.TABLE_UNIT_BYTES

    def order(realm: Realm, hub: HubName) -> KitOrder:
        return KitOrder(
            realm=realm,
            hub=hub,
            kme=kme,
            kind=PadKind.TABLE if any(units) else PadKind.DERIVED,
            created=clock.unix_seconds(),
            valid_seconds=valid,
            units_to_hub=units[0],
            units_to_kme=units[1],
            passphrase=passphrase,
        )

    answer: dict[str, Any] = {}
    with ExitStack() as stack:
        opened: HubHome | None = None
        if config is not None:
            try:
                opened = stack.enter_context(open_hub(config))
            except StoreFault as fault:
                beside.require_daemon(config.home, fault)
                at = config.home
        if opened is None:
            asked = home() if at is None else at
            made, answer = beside.create(asked, kme, output, order, replace=replace, size=size)
        else:
            opened.alone(OperatorCommand.KIT_CREATE, break_glass)
            file = stack.enter_context(new_file(output, PRIVATE))
            advance = stack.enter_context(progress(size, "Writing"))
            wanted = order(opened.realm, opened.name)
            made = opened.create_kit(wanted, file, file.sync, replace=replace, progress=advance)
    talk(f"Wrote {output}. It may be imported once, until {moment(made.header.expires)}.")
    secretly = "" if in_clear else ", and the passphrase on another way than the kit's"
    talk(f"Tell the words to the KME's operator{secretly}.")
    extra: dict[str, Any] = {"file": str(output)}
    if "pending" in answer:
        talk_pending(answer["pending"])
        talk("Until then the kit opens nothing; if it is rejected, destroy it.")
        extra["pending"] = answer["pending"]
    _show(made.header, made.fingerprint, extra)
    return AWAITS_APPROVAL if "pending" in answer else None


@kit.command("show")
@click.argument("file", type=_READABLE)
def show(file: Path) -> None:
    """Show what FILE says about itself, check it from end to end, print its words.

    Needs no passphrase and changes nothing. The same words at both ends: the same kit.
    """
    with beside.opened(file) as source, progress(file.stat().st_size, "Checking") as advance:
        reader = KitReader(source, advance)
        digest = reader.examine()
    _show(reader.header, digest, {"file": str(file)})


@kit.command("import")
@click.argument("files", type=_READABLE, nargs=-1, required=True, metavar="FILE...")
@passphrases.passphrase_options
@click.option("--replace", is_flag=True, help="End the link that this KME has with the kit's hub now.")
@values.BREAK_GLASS
def import_(
    *,
    files: tuple[Path, ...],
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    replace: bool,
    break_glass: str | None,
) -> int | None:
    r"""Import kits (--home is the KME's home; the KME may run, and then uses the links at once).

    \b
    Examples:
      skex kit import /media/stick/hub-1.kit
      skex kit import /media/stick/*.kit

    Everything of a kit is checked before anything of it counts: one that was cut, changed, made for
    another KME, used before or expired leaves nothing behind. The first one that is refused ends the
    command; those before it stay imported. The realm is used once kits of enough hubs agree.
    """
    at = settings().socket
    config = kme_config() if at is None else None
    words = passphrases.Repeated(lambda: passphrases.ask(passphrase_file, passphrase_fd, confirm=False))
    # People may have another passphrase for each kit; a file or a descriptor has one.
    is_typed = passphrase_file is None and passphrase_fd is None
    imported = []
    with ExitStack() as stack:
        opened: KmeHome | None = None
        if config is not None:
            at = config.home
            try:
                opened = stack.enter_context(open_kme(config))
            except StoreFault as fault:
                beside.require_daemon(config.home, fault)
            else:
                opened.alone(OperatorCommand.KIT_IMPORT, break_glass)
        for file in files:
            if len(files) > 1:
                talk(f"Importing {file}.")
            if is_typed:
                words.forget()
            imported.append(_imported(opened, at or home(), file, words.ask, replace=replace))
        words.forget()
    documents = [data for data, _ in imported]
    last = documents[-1]
    waits = any("pending" in one for one in documents)
    if not waits:
        _tell(last, files, is_running=opened is None)
    reached: dict[str, Any] = {name: last[name] for name in _PROGRESS if name in last}
    several = {"imported": documents, **reached}
    result(last if len(files) == 1 else several, "\n\n".join(text for _, text in imported))
    return AWAITS_APPROVAL if waits else None


def _imported(
    opened: KmeHome | None, path: Path, file: Path, passphrase: Callable[[], Secret], *, replace: bool
) -> tuple[dict[str, Any], str]:
    """Import one kit, beside a running KME where ``opened`` is None; what there is to say about it."""
    if opened is None:
        answer = beside.import_kit(path, file, passphrase, replace=replace)
        with beside.opened(file) as source:
            header = KitReader(source).header
        if "pending" in answer:
            talk_pending(answer["pending"])
            with beside.opened(file) as source:
                return _said(header, KitReader(source).examine(), {"pending": answer["pending"]})
        extra: dict[str, Any] = {name: answer[name] for name in _PROGRESS}
        return _said(header, bytes.fromhex(answer["sha512"]), extra)
    with beside.opened(file) as source, progress(file.stat().st_size, "Importing") as advance:
        imported = opened.import_kit(source, passphrase, replace=replace, progress=advance)
    verdict = imported.verdict
    extra = {"kits": verdict.kits, "needed": verdict.needed, "in_force": verdict.is_in_force}
    return _said(imported.header, imported.fingerprint, extra)


def _tell(last: dict[str, Any], files: tuple[Path, ...], *, is_running: bool) -> None:
    if not last["in_force"]:
        talk(f"{last['kits']} of {last['needed']} kits agree on the realm; import those of more hubs.")
    elif is_running:
        talk("The KME connects with the hub now; 'skex kme status' shows it.")
    else:
        talk("The realm is in force: start the KME.")
    names = ", ".join(str(file) for file in files)
    talk(f"Destroy {names} and every copy now: whoever has one can read the link.")


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


def _show(header: KitHeader, digest: bytes, extra: dict[str, Any]) -> None:
    result(*_said(header, digest, extra))


def _said(header: KitHeader, digest: bytes, extra: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What there is to say about a kit, as data and as text."""
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
    return data, table(rows)


def _pad_text(header: KitHeader) -> str:
    if header.kind is PadKind.DERIVED:
        return "derived: never runs out, computational"
    to_hub, to_kme = (header.material_bytes(direction) for direction in Direction)
    return f"table: {to_hub:,} bytes to the hub, {to_kme:,} bytes to the KME"
