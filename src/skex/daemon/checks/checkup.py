"""All checks of one home, in the order in which what they say helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from skex.base.errors import SkexError
from skex.daemon.checks import foresight, home, host, outside, store
from skex.daemon.checks.findings import Finding, Level, Subject, fail, fault

Check: TypeAlias = Callable[[Subject], Iterator[Finding]]

_OF_THE_HOST: Final[tuple[Check, ...]] = (host.versions, host.bounds, host.memory, host.synchronised)
_OF_THE_HOME: Final[tuple[Check, ...]] = (
    home.configuration,
    host.user,
    home.modes,
    home.disk,
    home.policy,
    store.daemon,
    store.pads,
    store.links,
    store.realm,
    foresight.forecasts,
    foresight.reserves,
    outside.hubs,
    outside.conduct,
    outside.port,
    outside.door,
    outside.audit,
    outside.clock,
)


def examine(subject: Subject) -> list[Finding]:
    """Everything that was found. Raises nothing of the tree, and no ``OSError``."""
    found = [finding for check in _OF_THE_HOST for finding in _carefully(check, subject)]
    whole = _carefully(home.exists, subject)
    found += whole
    if all(finding.level is not Level.FAIL for finding in whole):
        found += [finding for check in _OF_THE_HOME for finding in _carefully(check, subject)]
    return found


def _carefully(check: Check, subject: Subject) -> list[Finding]:
    """A check that cannot look has found something, too; the others go on."""
    found: list[Finding] = []
    try:
        found.extend(check(subject))
    except SkexError as error:
        found.append(fault(check.__name__, error))
    except OSError as error:
        where = error.filename or subject.home
        mend = "Check the path, owner and mode; run the doctor as the home's owner."
        found.append(fail(check.__name__, f"{where} cannot be looked at: {error.strerror}.", mend))
    return found
