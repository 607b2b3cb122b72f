"""Writes docs/spec/vectors/: the test vectors of the specification.

    make vectors          write them
    make vectors-check    say which are not current, change nothing

They are made by the production code from stated random values; tests hold them to the production code
from the other side, and the main formulas to the text alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import vectors_establishment
import vectors_links
import vectors_messages
import vectors_refused
import vectors_rejected
import vectors_session
from vectors_common import Case, document

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "spec" / "vectors"
BYTES_MAX: Final = 400 * 1024
"""A reader opens a file in an editor."""


def rejected() -> Case:
    """rejected.json."""
    return document(
        "Inputs that must be refused, and how. outcome: {error: code of chapter 12}: the connection ends, "
        "or the structure is refused (a peer message: dropped and counted); {refuse}: the value of a "
        "REFUSE; {not_assigned}: the value of a NOT_ASSIGNED, with the whole answer; {ignored}: nothing "
        "follows; {dropped}: counted, and nothing else follows; {answer: VOID}; {accepted: false}: after "
        "the last input nothing was accepted, and nothing was refused. 'state' of a part holds for all of "
        "its cases; a case's own 'state' replaces single values of it. Bytes are hexadecimal, or an array "
        "of parts: hexadecimal, {repeat, times}, or {expand, bytes}. frames and records: the state is that "
        "of an end after so many frames, or steps, of a case of another file; the bytes arrive next, in one "
        "piece. 'brought' are SHAREDs that came before, by hub; 'answered' is A's answer to the CONFIRM, if "
        "there was one; 'before' are requests that came before. Names in 'gone' disconnected after these.",
        "3 to 10",
        {
            "encodings": vectors_rejected.encodings(),
            "link_messages": vectors_rejected.link_bodies(),
            "peer_messages": vectors_rejected.peer_bodies(),
            "realm_files": vectors_rejected.realm_files(),
            "realm_successions": vectors_rejected.realm_successions(),
            "contexts": vectors_rejected.contexts(),
            "frames": vectors_refused.frame_cases(),
            "records": vectors_refused.record_cases(),
            "pads": vectors_refused.pad_cases(),
            "envelopes": vectors_refused.envelope_cases(),
            "shares": vectors_refused.share_cases(),
            "confirmations": vectors_refused.confirmation_cases(),
            "hub_requests": vectors_refused.hub_cases(),
            "assignments": vectors_refused.assignment_cases(),
        },
    )


FILES: Final[dict[str, Callable[[], Case]]] = {
    "preface.json": vectors_links.preface,
    "grants.json": vectors_links.grants,
    "records.json": vectors_links.records,
    "messages.json": vectors_messages.build,
    "establishment.json": vectors_establishment.build,
    "session.json": vectors_session.build,
    "rejected.json": rejected,
}


def text(name: str) -> str:
    """The contents of one file."""
    contents = json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"
    if len(contents.encode()) > BYTES_MAX:
        raise ValueError(f"{name} has {len(contents)} bytes")
    return contents


def outdated(folder: Path) -> list[str]:
    """The files in ``folder`` that are not what the code makes, those that nobody makes included."""
    made = {name: text(name) for name in FILES}
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}
    return sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))


def main() -> int:
    """The command: exit 1 if ``--check`` finds something. Needs the top of the tree on the path."""
    if sys.argv[1:] == ["--check"]:
        stale = outdated(FOLDER)
        for name in stale:
            print(f"{name}: not current; run: make vectors")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        (FOLDER / name).write_text(text(name), encoding="utf-8")
        print(f"{name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
