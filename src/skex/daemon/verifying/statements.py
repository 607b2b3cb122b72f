"""What verifying says: one statement for each check, proved, not to be seen, or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check ended."""

    PROVED = "proved"
    UNSEEN = "unseen"
    """What is there is not enough to say; the sentence names what is missing."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Statement:
    """One check's result: which check, how it ended, one sentence; ``code`` names what is wrong or unseen."""

    check: str
    verdict: Verdict
    sentence: str
    code: str = ""


def proved(check: str, sentence: str) -> Statement:
    """It is so."""
    return Statement(check, Verdict.PROVED, sentence)


def unseen(check: str, sentence: str, code: str = "") -> Statement:
    """It cannot be said from here."""
    return Statement(check, Verdict.UNSEEN, sentence, code)


def wrong(check: str, sentence: str, code: str = "") -> Statement:
    """It is not so."""
    return Statement(check, Verdict.WRONG, sentence, code)


@dataclass(frozen=True, slots=True)
class Chapter:
    """The statements about one subject: a link, or an ordered pair of KMEs."""

    subject: str
    statements: tuple[Statement, ...]
