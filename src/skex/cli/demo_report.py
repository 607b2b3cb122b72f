"""The demonstration's result: a document for machines, and a closing page for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

import skex
from skex.cli.common import table
from skex.cli.demo_realm import HUBS, PEERS, REALM, THRESHOLD
from skex.cli.demo_scenes import Claim, Cost, Delivery, Outcome, Scene

WIDTH: Final = 96
_CLASSES: Final = {
    "information-theoretic": "No computing power helps an attacker",
    "computational": "An attacker has to break AES-256 or HMAC-SHA-512",
    "hybrid": "An attacker has to break every mechanism that was combined",
}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was seen. ``ailments`` are what ``skex doctor`` found wrong.

    ``seconds`` counts from the first command to the last process's end.
    """

    delivery: Delivery
    costs: Sequence[Cost]
    scenes: Sequence[Scene]
    ailments: Sequence[str]
    audit_records: int
    seconds: float
    directory: str | None

    @property
    def is_good(self) -> bool:
        """Whether nothing went wrong."""
        return self.delivery.keys_match and not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """What did not go as it should."""
        broken = tuple(scene.name for scene in self.scenes if scene.outcome is Outcome.FAILED)
        return (*broken, *self.ailments)


def claim_in_words(claim: Claim) -> str:
    """What a key rests on, as a sentence."""
    what = _CLASSES.get(claim.claim_class, "Its class is not known here")
    margin = (
        f" An attacker without any bound on computing still has to corrupt {claim.margin} hubs."
        if claim.margin
        else " Against unbounded computing it claims nothing, because north's pads are derived."
    )
    return (
        f"{claim.claim_class.replace('_', '-')}, given the operating system's generator. {what}, or"
        f" {claim.threshold} of the {len(HUBS)} hubs have to work together:"
        f" {claim.threshold - 1} of them learn nothing.{margin} No public-key cryptography was on the"
        " key's way; certificates protect the hop between an application and its own KME only."
    )


# ── for machines ────────────────────────────────────────────────────────────────────────────────
def as_data(report: Report) -> dict[str, Any]:
    """The document of ``--json``."""
    delivery = report.delivery
    return {
        "skex": skex.__version__,
        "good": report.is_good,
        "realm": {"name": REALM, "hubs": list(HUBS), "threshold": THRESHOLD, "kmes": list(PEERS)},
        "key_id": delivery.key_id,
        "key_bits": delivery.key_bits,
        "keys_match": delivery.keys_match,
        "tls": delivery.handshake.suite,
        "message": delivery.handshake.received,
        "claim": {
            "class": delivery.claim.claim_class,
            "threshold": delivery.claim.threshold,
            "margin": delivery.claim.margin,
            "words": claim_in_words(delivery.claim),
        },
        "pad_bytes_per_key": [
            {
                "kme": cost.kme,
                "pad": cost.pad,
                "keys": cost.keys,
                "links": {hub: round(spent, 2) for hub, spent in cost.bytes_per_key.items()},
            }
            for cost in report.costs
        ],
        "scenes": [scene_data(scene) for scene in report.scenes],
        "doctor": list(report.ailments),
        "audit_records": report.audit_records,
        "seconds": round(report.seconds, 1),
        "directory": report.directory,
    }


def scene_data(scene: Scene) -> dict[str, Any]:
    """One scene of the document."""
    return {
        "name": scene.name,
        "outcome": scene.outcome.value,
        "seconds": round(scene.seconds, 2),
        "seen": scene.seen,
    }


# ── for people ──────────────────────────────────────────────────────────────────────────────────
def as_text(report: Report) -> str:
    """The closing page."""
    delivery = report.delivery
    what = [
        ("realm", f"{len(HUBS)} hubs, any {THRESHOLD} of which rebuild a key, and two KMEs: a process each"),
        ("key", f"{delivery.key_id}, {delivery.key_bits} bits, the same at both ends"),
        ("tls", f"TLS 1.3, external PSK, {delivery.handshake.suite}, between two openssl processes"),
        *((scene.outcome.value, scene.title) for scene in report.scenes),
        ("doctor", "; ".join(report.ailments) or "nothing fails in seven homes"),
        ("audit", f"{report.audit_records} records in seven logs, every chain whole"),
        ("time", f"{report.seconds:.0f} seconds"),
    ]
    costs: list[Sequence[str]] = [("", "pads", *HUBS)]
    costs += [
        (cost.kme, cost.pad, *(f"{cost.bytes_per_key[hub]:.1f}" for hub in HUBS)) for cost in report.costs
    ]
    keys = report.costs[0].keys
    return "\n".join(
        [
            "",
            "What ran",
            table(what, indent=2),
            "",
            "What the key rests on",
            *paragraph(claim_in_words(delivery.claim)),
            "",
            f"Pad bytes for a 256-bit key, by link, over {keys} keys",
            table(costs, indent=2),
            "",
            "Where to go next",
            *paragraph("docs/tutorial.md does the same by hand, on separate machines."),
            *paragraph("skex --help lists the commands; skex doctor looks at a home and its host."),
            *([] if report.directory is None else paragraph(f"Everything was kept in {report.directory}.")),
        ]
    )


def scene_text(scene: Scene) -> str:
    """One scene as it ends."""
    marks = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped"}
    head = f"{scene.title}: {marks[scene.outcome]}, {scene.seconds:.1f} s"
    return "\n".join([head, *paragraph(scene.seen, indent=4)])


def say(text: str) -> None:
    """Talk goes to stderr, with --json too: it takes a while, and somebody may be watching."""
    click.echo(text, err=True)


def paragraph(text: str, indent: int = 2) -> list[str]:
    """Text in lines of the page's width."""
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)
