"""The command line: ``skex NOUN VERB``. Results go to stdout, talk to stderr, secrets never to argv.

``NOUNS`` is the one place where commands are registered: a name, where its command is defined, and
the line that ``skex --help`` shows. A module is imported only when its command is used, so that a
command stays fast however many there are. What all commands share is in ``common``.
"""

from __future__ import annotations

from typing import Final

import click

import skex
from skex.cli.common import EXIT_CODES, Entry, Root

NOUNS: Final = {
    "demo": Entry("skex.cli.demo", "demo", "The whole system at work on this machine, in a minute."),
    "realm": Entry("skex.cli.realm", "realm", "Realm files: which hubs work together."),
    "hub": Entry("skex.cli.hub", "hub", "Hubs: make a home, change its realm file."),
    "kme": Entry("skex.cli.kme", "kme", "KMEs: make a home."),
    "kit": Entry("skex.cli.kit", "kit", "Kits: enrol a KME with a hub."),
    "policy": Entry("skex.cli.policy", "policy", "Policies: check one, ask it, compare two."),
    "key": Entry("skex.cli.key", "key", "Keys: what one rests on; revoke and suspend them."),
    "ca": Entry("skex.cli.ca", "ca", "Certificates for the doors of a KME."),
    "pad": Entry("skex.cli.pad", "pad", "Pads: prove that nothing was used twice."),
    "audit": Entry("skex.cli.audit", "audit", "Audit logs: what happened, and whether all of it is there."),
    "compromise": Entry("skex.cli.compromise", "compromise", "Which keys are still safe after a break-in."),
    "operator": Entry(
        "skex.cli.operator", "operator", "Operators: who may ask for what, and second persons."
    ),
    "backup": Entry("skex.cli.backup", "backup", "Backups: make one of a home, look at one."),
    "restore": Entry("skex.cli.backup", "restore", "Make a home of a backup, and say what it still needs."),
    "store": Entry("skex.cli.store", "store", "Stores: change the key that seals them."),
    "error": Entry("skex.cli.error", "error", "Error codes: what each means and what to do."),
    "bench": Entry("skex.cli.bench", "bench", "Measure what this machine does."),
    "doctor": Entry("skex.cli.doctor", "doctor", "What is wrong with this host and home, and the cure."),
}

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(cls=Root, entries=NOUNS, epilog=_EPILOG)
@click.version_option(skex.__version__, prog_name="skex")
def skex_command() -> None:
    r"""Fresh symmetric keys for any two enrolled machines, over hubs of which no minority learns them.

    \b
    A first realm, on paper:
      1. Agree on the hubs          skex realm init
      2. Each operator makes a hub  skex hub init
      3. Each site makes a KME      skex kme init
      4. Each hub makes a kit for each KME, the KME imports it
                                    skex kit create, skex kit import

    Every command takes --home, --json and --debug, before or after its verb.
    """


def main() -> None:
    """The console script."""
    skex_command()
