"""``skex pad``: prove, over the homes of both ends of links, that no pad byte was used twice."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from skex.cli.common import Noun, result
from skex.cli.homes import home
from skex.cli.statements import as_data, as_text
from skex.daemon.verifying.ends import opened
from skex.daemon.verifying.keys import compare_keys
from skex.daemon.verifying.links import compare_links
from skex.daemon.verifying.statements import Verdict

FAILED: Final = 4
"""The exit code that says: something is wrong."""


@click.group(cls=Noun)
def pad() -> None:
    """Pads: the one-time material of links."""


@pad.command("verify")
@click.argument(
    "homes", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="[HOME]..."
)
def verify(homes: tuple[Path, ...]) -> int:
    r"""Compare the homes of hubs and KMEs, changing nothing: marks, pads, and keys that KMEs share.

    \b
    Example:
      skex pad verify hub-1 hub-2 hub-3 north south

    For each link: that the marks of stores and pad files agree, that what was used is erased and what
    was not is whole, that no end was seen further than it is, that both ends hold the same material,
    and that no pad byte can have been used twice. For each pair of KMEs: that keys which both hold are
    equal, and that none may be delivered that the other lost. Each statement is proved, unseen (with
    what is missing), or wrong. Ends with 0 if nothing is wrong, with 4 otherwise.

    Of a home in which a daemon runs only the pad files are looked at: stop it to have everything
    compared. Two things no comparison shows: that both ends of a table link were restored together to
    one moment, stores, pads, logs and all; and what somebody made of a copy that is not given here.
    """
    with opened(homes or (home(),)) as found:
        links, keys = compare_links(found), compare_keys(found)
    statements = [one for chapter in (*links, *keys) for one in chapter.statements]
    counts = {verdict.value: sum(one.verdict is verdict for one in statements) for verdict in Verdict}
    data = {
        "homes": [
            {"home": str(one.path), "name": one.settings.name, "running": one.store is None} for one in found
        ],
        "counts": counts,
    }
    for name, chapters in (("links", links), ("keys", keys)):
        data[name] = [
            {"subject": chapter.subject, "statements": [as_data(one) for one in chapter.statements]}
            for chapter in chapters
        ]
    lines = [
        line
        for chapter in (*links, *keys)
        for line in (chapter.subject, *(f"  {as_text(one)}" for one in chapter.statements))
    ]
    closing = "{proved} statements are proved, {unseen} cannot be seen, {wrong} are wrong.".format(**counts)
    result(data, "\n".join([*lines, closing]))
    return FAILED if counts["wrong"] else 0
