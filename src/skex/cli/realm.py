"""``skex realm``: make realm files, and show what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from skex.base import ids, limits
from skex.base.ids import Coordinate, HubName, RealmName
from skex.cli import values
from skex.cli.common import Noun, result, table, talk
from skex.cli.files import moment, read_bounded, write_new
from skex.daemon import options
from skex.daemon.options import Entries, Layout, Option, Reader
from skex.enrol import realm as realms
from skex.enrol.realm import Changes, HubDescription
from skex.enrol.words import words_of
from skex.runtime import clock
from skex.wire.independence import COUNTED, UNKNOWN_HUB, UNSTATED, Attribute
from skex.wire.realm import HubAttributes, HubStatus, Realm

_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(path_type=Path)
_ATTRIBUTES = tuple(attribute.value for attribute in Attribute)
_REALM_FILE = "realm.cbor"


def _attribute(name: str) -> Option:
    return Option(name, options.text(limits.REALM_ATTRIBUTE_CHARACTERS), UNSTATED, "", f"its {name}")


DESCRIPTION = Layout(
    "realm",
    (),
    (
        Entries(
            "hub",
            "One hub of the realm.",
            (
                Option(
                    "name", options.name(ids.parse_hub_name, "a hub's name"), None, "", "its name, for ever"
                ),
                Option("address", options.ADDRESS, None, "", "where KMEs dial it"),
                Option(
                    "coordinate",
                    options.integer(0, 255),
                    0,
                    "",
                    "where its shares are evaluated, for ever; 0 takes the lowest free one",
                ),
                *(_attribute(name) for name in _ATTRIBUTES),
            ),
        ),
    ),
)
"""The file that ``--hubs`` reads."""


@click.group(cls=Noun)
def realm() -> None:
    """Realm files: which hubs work together, at which addresses, and how many must agree.

    A realm file is not signed. It is trusted because the kits of enough hubs bring the same bytes,
    and because operators compared its words with each other before they used it.
    """


_HUB_OPTIONS = (
    click.option(
        "--hub",
        "named",
        type=values.NAMED_ADDRESS,
        multiple=True,
        metavar="NAME=HOST:PORT",
        help="A hub and its address; may be repeated.",
    ),
    click.option(
        "--hubs",
        "described",
        type=_READABLE,
        metavar="FILE.toml",
        help="A file with a [[hub]] table for each: name, address, operator, jurisdiction, hosting, "
        "administrator, implementation.",
    ),
)


def _hub_options(command: Any) -> Any:
    for option in reversed(_HUB_OPTIONS):
        command = option(command)
    return command


@realm.command("init")
@click.argument("name", type=values.REALM_NAME)
@click.option(
    "--threshold",
    "-k",
    type=click.IntRange(1, limits.REALM_HUBS),
    required=True,
    metavar="K",
    help="How many hubs rebuild a key: with fewer nobody learns it.",
)
@_hub_options
@click.option(
    "--max-age", type=values.DURATION, default="1y", show_default=True, help="When KMEs drop the file."
)
@click.option(
    "--overlap", type=values.DURATION, default="7d", show_default=True, help="How long two epochs count."
)
@click.option("--output", "-o", type=_NEW, default=_REALM_FILE, show_default=True, help="The file to write.")
def init(
    *,
    name: RealmName,
    threshold: int,
    named: tuple[tuple[HubName, str], ...],
    described: Path | None,
    max_age: int,
    overlap: int,
    output: Path,
) -> None:
    r"""Make the first realm file of the realm NAME.

    \b
    Example: five hubs, any three of which rebuild a key
      skex realm init example -k 3 --hub hub-1=hub1.example.net:7300 \
          --hub hub-2=hub2.example.org:7300 ... -o realm.cbor

    Send the file to every hub's operator, and compare the words that this prints by voice.
    """
    made = realms.new_realm(
        name,
        threshold,
        _descriptions(named, described),
        issued=clock.unix_seconds(),
        max_age=max_age,
        overlap=overlap,
    )
    _write(made, output)


@realm.command("next")
@click.argument("current", type=_READABLE)
@_hub_options
@click.option("--revoke", type=values.HUB_NAME, multiple=True, metavar="NAME", help="A hub that leaves.")
@click.option(
    "--threshold", "-k", type=click.IntRange(1, limits.REALM_HUBS), metavar="K", help="Another threshold."
)
@click.option("--output", "-o", type=_NEW, required=True, help="The file to write.")
def following(
    *,
    current: Path,
    named: tuple[tuple[HubName, str], ...],
    described: Path | None,
    revoke: tuple[HubName, ...],
    threshold: int | None,
    output: Path,
) -> None:
    r"""Make the realm file of the epoch after CURRENT: add hubs, revoke some, change the threshold.

    Coordinates never change, and a revoked hub stays in the file. KMEs take the new epoch when enough
    hubs of the current one serve the same bytes (skex hub update-realm).

    \b
    Example:
      skex realm next realm.cbor --revoke hub-2 --hub hub-6=hub6.example.net:7300 -o realm-2.cbor
    """
    changes = Changes(_descriptions(named, described), frozenset(revoke), threshold)
    _write(realms.next_epoch(read_realm(current), changes, issued=clock.unix_seconds()), output)


@realm.command("show")
@click.argument("file", type=_READABLE, default=_REALM_FILE)
def show(file: Path) -> None:
    """Show a realm file and its fingerprint.

    The words stand for the file's SHA-512. Read them to every other operator: the same words, the
    same realm.
    """
    shown = read_realm(file)
    result(as_data(shown), as_text(shown))


@realm.command("assess")
@click.argument("file", type=_READABLE, required=False)
@click.option(
    "--count",
    "counted",
    type=click.Choice([attribute.value for attribute in Attribute]),
    multiple=True,
    help="What makes hubs depend on one party; may be repeated.  [default: operator, administrator]",
)
@click.option(
    "--batch-keys",
    type=click.IntRange(1, limits.BATCH_KEYS),
    help="Keys of one batch.  [default: the home's, else 128]",
)
@click.option(
    "--key-bytes",
    type=click.IntRange(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX),
    help="Bytes of one key.  [default: the home's, else 32]",
)
def assess(
    file: Path | None, counted: tuple[str, ...], batch_keys: int | None, key_bytes: int | None
) -> None:
    r"""Say what a realm promises: who must collude, who may fail, how likely a forgery is.

    \b
    Examples:
      skex realm assess realm.cbor
      skex realm assess --home /var/lib/skex --count operator --count jurisdiction

    Without FILE it is the realm of the home. What hubs state about themselves is not proved by anything.
    """
    from skex.cli import realm_assessment as shown  # noqa: PLC0415  # imports what other verbs do not need

    attributes = frozenset(Attribute(one) for one in counted) or COUNTED
    found = shown.assessed(None if file is None else read_realm(file), attributes, batch_keys, key_bytes)
    result(shown.as_data(found), shown.as_text(found))


def read_realm(path: Path) -> Realm:
    """A realm file. Raises ``Refused`` (realm-*), ``StoreFault`` (file-io)."""
    return Realm.from_bytes(read_bounded(path, limits.REALM_FILE_BYTES))


def as_data(shown: Realm) -> dict[str, Any]:
    """A realm for ``--json``."""
    return {
        "realm": shown.name,
        "epoch": shown.epoch,
        "threshold": shown.threshold,
        "issued": shown.issued,
        "max_age": shown.max_age,
        "overlap": shown.overlap,
        "hubs": [
            {
                "name": hub.name,
                "coordinate": hub.coordinate,
                "status": hub.status.name.lower(),
                "address": hub.address,
                **{name: getattr(hub.attributes, name) for name in _ATTRIBUTES},
            }
            for hub in shown.hubs
        ],
        **fingerprint_data(shown),
    }


def fingerprint_data(shown: Realm) -> dict[str, str]:
    """What people and machines compare."""
    digest = shown.digest()
    return {"words": words_of(digest), "sha512": digest.hex()}


def as_text(shown: Realm) -> str:
    """A realm for people."""
    active = len(shown.active_hubs)
    rows = [("hub", "x", "address", "operator", "jurisdiction", "")]
    for hub in shown.hubs:
        revoked = "revoked" if hub.status is HubStatus.REVOKED else ""
        place = hub.attributes
        rows.append((hub.name, str(hub.coordinate), hub.address, place.operator, place.jurisdiction, revoked))
    digest = shown.digest()
    return "\n".join(
        [
            f"realm {shown.name}, epoch {shown.epoch}: any {shown.threshold} of {active} hubs rebuild a key",
            f"issued {moment(shown.issued)}, used for {shown.max_age // 86_400} days",
            "",
            table(rows, indent=2),
            "",
            f"words    {words_of(digest)}",
            f"sha-512  {digest.hex()}",
        ]
    )


def _write(made: Realm, output: Path) -> None:
    write_new(output, made.to_bytes())
    talk(f"Wrote {output}. Compare the words with every operator before anybody uses it.")
    result({"file": str(output), **as_data(made)}, as_text(made))


def _descriptions(
    named: tuple[tuple[HubName, str], ...], described: Path | None
) -> tuple[HubDescription, ...]:
    found = [HubDescription(name, address, UNKNOWN_HUB) for name, address in named]
    if described is not None:
        reader = Reader(read_bounded(described, limits.CONFIG_FILE_BYTES), str(described), DESCRIPTION)
        entries = reader.read().entries["hub"]
        reader.finish()
        found += [_description(entry) for entry in entries]
    return tuple(found)


def _description(entry: Mapping[str, Any]) -> HubDescription:
    attributes = HubAttributes(*(entry[name] for name in _ATTRIBUTES))
    coordinate = Coordinate(entry["coordinate"]) if entry["coordinate"] else None
    return HubDescription(entry["name"], str(entry["address"]), attributes, coordinate)
