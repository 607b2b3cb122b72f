"""Taking keys as an application does: plain ``curl`` at a KME's ETSI GS QKD 014 door, with mutual TLS.

Key bytes come through a pipe; they are on no command line and in no file. It must not know how keys
come about.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skex.base.secret import Secret
from skex.cli.demo_processes import failed, run

CURL_SECONDS: Final = 20
"""Longer than any KME lets a request wait."""


@dataclass(frozen=True, slots=True)
class TakenKey:
    """One key as a door handed it out."""

    key_id: str
    key: Secret


@dataclass(frozen=True, slots=True)
class Refusal:
    """A door's refusal: the HTTP status, the standard's message, our stable code."""

    status: int
    message: str
    code: str


@dataclass(frozen=True, slots=True)
class Sae:
    """An application with its certificate, in front of its KME's door."""

    name: str
    port: int
    authority: Path
    certificate: Path
    key: Path

    async def take_new(self, slave: str) -> TakenKey | Refusal:
        """Ask for a new key to share with ``slave``."""
        return await self._take(f"{slave}/enc_keys")

    async def take_by_id(self, master: str, key_id: str) -> TakenKey | Refusal:
        """Ask for the key with an id that ``master`` told."""
        return await self._take(f"{master}/dec_keys?key_ID={key_id}")

    def curl(self, path: str) -> Sequence[str]:
        """The command."""
        trust = ("--cacert", str(self.authority), "--cert", str(self.certificate), "--key", str(self.key))
        url = f"https://127.0.0.1:{self.port}/api/v1/keys/{path}"
        return ("curl", "--silent", "--show-error", "--max-time", str(CURL_SECONDS), *trust, url)

    async def _take(self, path: str) -> TakenKey | Refusal:
        # The status comes on a line of its own behind the body.
        output = await run((*self.curl(path), "--write-out", "\n%{http_code}"), seconds=CURL_SECONDS + 5)
        if output.code:
            raise failed(f"{self.name}: {output.stderr.strip()}")
        body, _, status = output.stdout.rpartition(b"\n")
        try:
            return _read(int(status), json.loads(body))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise failed(f"{self.name}: an answer that is none of ETSI GS QKD 014") from error


def _read(status: int, answer: Any) -> TakenKey | Refusal:
    if status != 200:
        codes = [detail["code"] for detail in answer.get("details", ()) if "code" in detail]
        return Refusal(status, str(answer["message"]), codes[0] if codes else "")
    (one,) = answer["keys"]
    return TakenKey(one["key_ID"], Secret(base64.b64decode(one["key"], validate=True)))
