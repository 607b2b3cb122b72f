"""What ``skex realm assess`` says of a realm."""

from __future__ import annotations

from typing import Any

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.cli.common import table
from skex.cli.homes import any_config
from skex.cli.policy_home import facts_of
from skex.daemon.config import KmeConfig
from skex.keys.settings import KeySettings
from skex.policy.assessment import CHAPTER, Assessment, assess
from skex.wire.context import KEY_PREFIX_BYTES
from skex.wire.independence import UNSTATED, Attribute, Collusion
from skex.wire.realm import Realm


def assessed(
    realm: Realm | None, counted: frozenset[Attribute], batch_keys: int | None, key_bytes: int | None
) -> Assessment:
    """The assessment of a realm file, or of a home's realm.

    Raises ``Refused``: config-*, not-enrolled where no realm is in force.
    """
    usual = KeySettings()
    if realm is None:
        config, _ = any_config()
        realm = facts_of(config).realm
        if realm is None:
            raise Refused(codes.NOT_ENROLLED)
        usual = config.keys if isinstance(config, KmeConfig) else usual
    size = key_bytes or usual.key_bytes
    room = (limits.BATCH_SECRET_BYTES - KEY_PREFIX_BYTES) // size
    return assess(realm, counted, batch_keys=min(batch_keys or usual.batch_keys, room), key_bytes=size)


# ── for machines ────────────────────────────────────────────────────────────────────────────────
def as_data(found: Assessment) -> dict[str, Any]:
    """For ``--json``."""
    realm, failing = found.realm, found.failing
    return {
        "realm": realm.name,
        "epoch": realm.epoch,
        "threshold": realm.threshold,
        "hubs": len(realm.active_hubs),
        "counted": _words(found.counted),
        "effective_threshold": _collusion(found.overall),
        "by_attribute": {one.value: _collusion(each) for one, each in found.each.items()},
        "hubs_of_a_batch": found.hubs_of_a_batch,
        "subsets_tried": found.subsets,
        "tag_blocks": found.tag_blocks,
        "failing": {
            "may_be_lost": failing.may_be_lost,
            "may_lie": failing.may_lie,
            "stopped_by": failing.stopped_by,
            "sets": failing.sets,
            "stopping": [list(one) for one in failing.stopping],
            "parties_that_stop_keys_alone": [str(one) for one in failing.alone],
            "fewest_parties_that_stop_keys": _collusion(failing.together),
            "hubs_to_deliver_after_a_start": failing.to_deliver_after_a_start,
        },
        "enough_hubs_are_up": {f"{up:g}": value for up, value in found.availability.items()},
        "bounds": [
            {"what": one.what, "log2": round(one.log2, 2), "formula": one.formula, "section": one.section}
            for one in found.bounds
        ],
        "chapter": CHAPTER,
    }


def _collusion(found: Collusion) -> dict[str, Any]:
    return {
        "parties": found.count,
        "exact": found.is_exact,
        "such_as": [{"attribute": one.attribute.value, "value": one.value} for one in found.parties],
    }


def _words(counted: frozenset[Attribute]) -> list[str]:
    return [one.value for one in Attribute if one in counted]


# ── for people ──────────────────────────────────────────────────────────────────────────────────
def as_text(found: Assessment) -> str:
    """For people."""
    return "\n".join([*_collusions(found), "", *_failures(found), "", *_forgeries(found)])


def _collusions(found: Assessment) -> list[str]:
    realm, overall = found.realm, found.overall
    rows = [("attribute", "parties", "such as", "")]
    for attribute, each in found.each.items():
        what = "" if attribute in found.counted else "not counted"
        rows.append((attribute.value, _number(each), _such_as(each), what))
    hubs = len(realm.active_hubs)
    lines = [
        f"{realm.name}, epoch {realm.epoch}: any {realm.threshold} of {hubs} hubs can learn a key.",
        f"Effective threshold: {_number(overall)}, counted by {' and '.join(_words(found.counted))}.",
        f"So many independent parties must collude to learn a key, such as {_such_as(overall)}.",
        table(rows, indent=2),
    ]
    if found.each[Attribute.IMPLEMENTATION].count == 1 and Attribute.IMPLEMENTATION not in found.counted:
        lines.append("Enough hubs run one implementation: a defect of it is theirs, whoever operates them.")
    if any(one.value == UNSTATED for each in found.each.values() for one in each.parties):
        lines.append("Hubs that do not state an attribute count as one party's: no more is known of them.")
    return lines


def _number(found: Collusion) -> str:
    return str(found.count) if found.is_exact else f"at least {found.count}"


def _such_as(found: Collusion) -> str:
    return " and ".join(map(str, found.parties))


def _failures(found: Assessment) -> list[str]:
    failing, realm = found.failing, found.realm
    listed = f": {failing.sets} sets of hubs" + (", namely" if failing.stopping else "")
    lines = [
        f"Keys flow while at most {failing.may_be_lost} hubs lie or cannot be reached (section 1.3).",
        f"Keys stay secret and equal at both ends while fewer than {realm.threshold} hubs collude.",
        f"After a start a KME delivers once {failing.to_deliver_after_a_start} hubs answered it (section 9).",
        f"Keys stop when any {failing.stopped_by} hubs are lost{listed}",
        *(f"  {', '.join(one)}" for one in failing.stopping),
    ]
    if failing.alone:
        lines.append(f"Alone able to stop keys: {', '.join(map(str, failing.alone))}.")
    lines.append(f"Fewest parties, of those counted, that stop keys: {_number(failing.together)}.")
    downs = ", ".join(f"{up:g}: {1 - value:.1e}" for up, value in found.availability.items())
    lines.append(f"How often too few hubs are up, if each by itself is up so often: {downs}.")
    return lines


def _forgeries(found: Assessment) -> list[str]:
    rows = [(f"2^{one.log2:.1f}", one.what, one.formula, f"section {one.section}") for one in found.bounds]
    used = (
        f"A batch uses up to {found.hubs_of_a_batch} hubs; a receiver tries at most {found.subsets} sets of"
        f" shares; N = {found.tag_blocks} blocks are under one tag."
    )
    return [
        used,
        f"Probabilities, at most ({CHAPTER}):",
        table(rows, indent=2),
    ]
