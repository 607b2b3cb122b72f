"""The policy in force, as a daemon tells it to its operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skex.policy import language
from skex.policy.evaluate import PolicySet
from skex.wire.independence import COUNTED, Attribute, collusion
from skex.wire.realm import Realm


def effective_threshold_of(realm: Realm) -> Mapping[str, Any]:
    """How many parties must collude while all hubs are up, which do, and by which attributes they count."""
    found = collusion([hub.attributes for hub in realm.active_hubs], realm.threshold, COUNTED)
    return {
        "parties": found.count,
        "such_as": [str(one) for one in found.parties],
        "counted": [one.value for one in Attribute if one in COUNTED],
    }


def in_force(policy: PolicySet, realm: Realm | None, kmes: Sequence[str] | None) -> Mapping[str, Any]:
    """The policy in its canonical form, its digest, the realm file, and whom a hub enrolled."""
    return {
        "policy": language.render(policy.policy),
        "digest": policy.digest,
        "realm": None if realm is None else realm.to_bytes().hex(),
        "kmes": None if kmes is None else list(kmes),
    }
