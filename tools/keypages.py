"""Writes the generated parts of docs/keys.md and docs/rekeying.md.

python tools/keypages.py            write them
python tools/keypages.py --check    say which are not current, change nothing
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from generated import command, with_parts

from skex.keys.explaining import class_word, reason_word
from skex.keys.guide import CONSUMERS, reserve_snippet
from skex.keys.states import INITIAL, MEANINGS, PHASES, TABLE, KeyState
from skex.keys.uses import USES
from skex.protocol.states import mermaid
from skex.wire.claim import ClaimClass
from skex.wire.peer import RevokeReason

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("keys.md", "rekeying.md")

_REASONS = {
    RevokeReason.UNSPECIFIED: "none is stated",
    RevokeReason.KEY_COMPROMISE: "somebody may know the keys",
    RevokeReason.ROLLBACK: "a KME was found to be restored or cloned; by itself, never by an operator",
    RevokeReason.SUPERSEDED: "others take their place: a drained reserve, or one that grew too old",
    RevokeReason.CESSATION_OF_OPERATION: "a site or an application ends",
    RevokeReason.HUB_COMPROMISE: "hubs that relayed their shares may be in other hands",
    RevokeReason.PRIVILEGE_WITHDRAWN: "somebody may not have them any more",
}


def _states() -> str:
    rows = "".join(f"| {state.value} | {PHASES[state].value} | {MEANINGS[state]} |\n" for state in KeyState)
    return f"| State | NIST SP 800-57 | Meaning |\n| --- | --- | --- |\n{rows}"


def _reasons() -> str:
    rows = "".join(
        f"| `{reason_word(reason.name)}` | {_REASONS[reason]} | {'yes' if reason.is_compromise else 'no'} |\n"
        for reason in RevokeReason
    )
    return f"| Reason | When | Delivered keys count as compromised |\n| --- | --- | --- |\n{rows}"


def _uses() -> str:
    rows = "".join(
        f"| `{use.name}` | {use.title} | {class_word(use.result(ClaimClass.INFORMATION_THEORETIC))}"
        f" | {use.rests} | {use.second_leg or '-'} | {use.notes} | {use.source} |\n"
        for use in USES.values()
    )
    head = "| Name | Use | Class with an information-theoretic key | Rests also on | Still to break |"
    return f"{head} Notes | Source |\n| --- | --- | --- | --- | --- | --- | --- |\n{rows}"


def _table() -> str:
    rows = "".join(
        f"| `{one.name}` | {one.title} | {one.use} | {one.use_seconds:,} | "
        f"{'as many as there are' if one.uses is None else f'{one.uses:,}'} | {one.wait_seconds:,} |\n"
        for one in CONSUMERS.values()
    )
    head = "| Consumer | For | A use is | Seconds of use | Uses | Seconds it may wait |"
    return f"{head}\n| --- | --- | --- | --- | --- | --- |\n{rows}"


def _limits() -> str:
    rows = "".join(
        f"| `{one.name}` | {what} | {number:,} |\n"
        for one in CONSUMERS.values()
        for what, number in one.limits.items()
    )
    return f"| Consumer | Bound | Number |\n| --- | --- | --- |\n{rows}"


def _consumers() -> str:
    return "\n".join(
        f"### {one.title}\n\n{one.why}\n\nSources: {'; '.join(one.sources)}.\n\n```toml\n{one.snippet()}```\n"
        for one in CONSUMERS.values()
    )


PARTS: dict[str, Callable[[], str]] = {
    "key-states": _states,
    "key-diagram": lambda: f"```mermaid\n{mermaid(TABLE, INITIAL)}```\n",
    "revoke-reasons": _reasons,
    "key-uses": _uses,
    "rekeying-table": _table,
    "rekeying-limits": _limits,
    "rekeying-reserves": lambda: f"```toml\n{reserve_snippet()}```\n",
    "rekeying-consumers": _consumers,
}


def regenerate(text: str) -> str:
    """``text`` with every part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return with_parts(text, PARTS)


if __name__ == "__main__":
    sys.exit(command([DOCS / name for name in PAGES], PARTS))
