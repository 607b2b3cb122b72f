"""A hub that lies: the product's own daemon, except that it alters every share that it relays.

A test double, for demonstrations and tests of real processes: ``python -m simulation.lying_hub --home
HOME`` runs on the home of an ordinary hub. It changes the last byte, which belongs to the batch's last
key, and leaves everything else as it was: to the receiver it looks like an honest hub.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from skex.base.errors import SkexError
from skex.daemon.config import load_hub
from skex.daemon.hub import HubDaemon
from skex.daemon.run_hub import run_hub
from skex.protocol.traffic import SendToKme
from skex.runtime import logs
from skex.wire import messages


def altered(send: SendToKme) -> SendToKme:
    """The message as a liar passes it on: shares changed, the rest untouched."""
    message = send.message
    if not isinstance(message, messages.Shared):
        return send
    share = message.share[:-1] + bytes((message.share[-1] ^ 1,))
    return replace(send, message=replace(message, share=share))


class LyingHub(HubDaemon):
    """Alters every share on its way to the receiver."""

    def _send(self, send: SendToKme) -> None:
        super()._send(altered(send))


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulation.lying_hub", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the home of a hub that was set up honestly")
    arguments = parser.parse_args(argv)
    try:
        config = load_hub(arguments.home)
        logs.configure(config.log_level)
        asyncio.run(run_hub(config, LyingHub))
    except SkexError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
