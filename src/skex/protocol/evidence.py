"""What is kept of a share that should not have been as it was: digests, never the share itself.

A digest of a share tells whoever can compute without bound something of the batch's keys. So nothing
that follows from shares is kept of a batch whose claim is information-theoretic; the name of the hub, and
what it did, are. It must not know who is blamed, or what follows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skex.base.secret import Secret
from skex.crypto.kdf import Label
from skex.wire.codec import Fields, Value

DIGEST_BYTES: Final = 64


class Blame(Enum):
    """What a hub did wrong."""

    WRONG_SHARE = "its share is not on the accepted polynomial"
    TWO_SHARES = "it brought two different shares for one batch"
    OTHER_CONTEXT = "its context or tag differs from the accepted batch's"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Digests (labelled SHA-512, 64 bytes) of what came and of what should have come; None where unknown.

    ``expected`` is the share on the accepted polynomial, or, of two shares of one hub, the first.
    ``context`` and ``tag`` are those that came, ``accepted_context`` and ``accepted_tag`` those of the
    accepted batch; all four only where they differ.
    """

    share: bytes | None = None
    expected: bytes | None = None
    context: bytes | None = None
    accepted_context: bytes | None = None
    tag: bytes | None = None
    accepted_tag: bytes | None = None

    def to_value(self) -> Value:
        """For CBOR: every digest in its order."""
        return [getattr(self, one.name) for one in dataclasses.fields(self)]

    @classmethod
    def from_fields(cls, fields: Fields) -> Evidence:
        """What ``to_value`` made. Raises ``PeerFault``."""
        return cls(*(fields.optional_blob(DIGEST_BYTES) for _ in dataclasses.fields(cls)))


NO_EVIDENCE: Final = Evidence()


def of_share(share: Secret) -> bytes:
    """The digest of a share."""
    return hashlib.sha512(Label.EVIDENCE + b" share" + share.expose()).digest()


def of_tag(tag: bytes) -> bytes:
    """The digest of an end-to-end tag."""
    return hashlib.sha512(Label.EVIDENCE + b" tag" + tag).digest()


def of_two(share: Secret, first: Secret | None, *, shown: bool) -> Evidence:
    """Two shares of one hub for one batch; ``first`` is None where it is not known any more."""
    if not shown:
        return NO_EVIDENCE
    return Evidence(share=of_share(share), expected=None if first is None else of_share(first))


def of_group(context: bytes, tag: bytes, *, accepted_context: bytes, accepted_tag: bytes) -> Evidence:
    """Another context (SHA-512) or another tag than the accepted batch's."""
    other, retagged = context != accepted_context, tag != accepted_tag
    return Evidence(
        context=context if other else None,
        accepted_context=accepted_context if other else None,
        tag=of_tag(tag) if retagged else None,
        accepted_tag=of_tag(accepted_tag) if retagged else None,
    )
