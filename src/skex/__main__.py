"""``python -m skex``: the command line."""

from __future__ import annotations

from skex.cli import main

main()
