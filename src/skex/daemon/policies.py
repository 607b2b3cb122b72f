"""The policy in force, as a daemon tells it to its operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skex.policy import language
from skex.policy.evaluate import PolicySet
from skex.wire.realm import Realm


def in_force(policy: PolicySet, realm: Realm | None, kmes: Sequence[str] | None) -> Mapping[str, Any]:
    """The policy in its canonical form, its digest, the realm file, and whom a hub enrolled."""
    return {
        "policy": language.render(policy.policy),
        "digest": policy.digest,
        "realm": None if realm is None else realm.to_bytes().hex(),
        "kmes": None if kmes is None else list(kmes),
    }
