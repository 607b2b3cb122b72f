"""What every command shares: global options, results, talk, errors and exit codes.

A command returns nothing; it calls ``result`` once with what it has to say, as data for ``--json`` and
as text for people. Errors of the tree end it with a fact, a hint and an exit code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from skex.base.errors import ErrorCode, Family, SkexError
from skex.daemon.config import SYSTEM_HOME

USAGE: Final = 2
INTERRUPTED: Final = 130
UNREACHABLE: Final = 7
AWAITS_APPROVAL: Final = 8
EXIT_CODES: Final[Mapping[int, str]] = {
    0: "done",
    1: "a defect in skex: report it (or nobody read the output any more)",
    USAGE: "the command line itself is wrong",
    3: "refused: a rule, a setting or a file forbids it; nothing was changed",
    4: "a home, store, pad, file or medium is not what it must be",
    5: "something did not verify: the other end broke the protocol",
    6: "the hop to an application failed",
    UNREACHABLE: "a daemon could not be reached",
    AWAITS_APPROVAL: "kept until a second person approves it: nothing was done yet",
    INTERRUPTED: "interrupted",
}
"""What a command's exit code means; a code's family decides (see ``exit_code``)."""
_FAMILIES: Final = {
    Family.BUG: 1,
    Family.REFUSED: 3,
    Family.STORE: 4,
    Family.PEER: 5,
    Family.DELIVERY: 6,
}


@dataclass(slots=True)
class Settings:
    """The global options of one invocation."""

    home: Path = SYSTEM_HOME
    socket: Path | None = None
    json: bool = False
    debug: bool = False


def settings() -> Settings:
    """The options of the command that runs."""
    found: Settings = click.get_current_context().find_object(Settings) or Settings()
    return found


# ── results and talk ────────────────────────────────────────────────────────────────────────────
def result(data: Mapping[str, Any], text: str) -> None:
    """The command's result: ``data`` as one JSON document with ``--json``, else ``text``, on stdout."""
    click.echo(json.dumps(data, indent=2) if settings().json else text)


def talk(text: str) -> None:
    """Say something to people, on stderr; silent with ``--json``."""
    if not settings().json:
        click.echo(text, err=True)


def table(rows: Sequence[Sequence[object]], *, indent: int = 0) -> str:
    """Rows as aligned columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    columns = max((len(row) for row in texts), default=0)
    widths = [max(len(row[column]) for row in texts if column < len(row)) for column in range(columns)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in texts)
    return "\n".join(" " * indent + line.rstrip() for line in lines)


def duration(seconds: float) -> str:
    """A time for people: two digits suffice."""
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@contextlib.contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for long work; nothing with ``--json``, or where nobody watches."""
    if settings().json or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update


class Unreachable(click.ClickException):
    """No daemon answers where one should. Never to be taken for something that did not verify."""

    exit_code = UNREACHABLE
    code = "unreachable"


# ── errors ──────────────────────────────────────────────────────────────────────────────────────
def exit_code(code: ErrorCode) -> int:
    """What a command ends with that ran into ``code``."""
    return _FAMILIES[code.family]


def _explain(error: SkexError, options: Settings) -> int:
    """Fact, hint, code."""
    code = error.code
    number = exit_code(code)
    if options.json:
        fault = {"code": code.name, "sentence": code.sentence, "detail": error.detail, "hint": code.hint}
        click.echo(json.dumps({"error": {**fault, "exit_code": number}}), err=True)
        return number
    click.echo(f"skex: {code.sentence}" + (f"\n      {error.detail}" if error.detail else ""), err=True)
    click.echo(f"hint: {code.hint}\ncode: {code.name} (exit {number})", err=True)
    return number


def _explain_usage(error: click.ClickException, options: Settings) -> None:
    """What is wrong with the command line; how it should be is in the command's help."""
    if options.json:
        code = getattr(error, "code", "usage")
        fault = {"code": code, "sentence": error.format_message(), "detail": "", "hint": "see --help"}
        click.echo(json.dumps({"error": {**fault, "exit_code": error.exit_code}}), err=True)
    else:
        error.show()


def _traceback(options: Settings) -> None:
    """The traceback, for those who asked for it."""
    if options.debug:
        traceback.print_exc()


def _explain_unexpected(error: Exception, options: Settings) -> int:
    # Its text is left out: nobody checked that it holds no secret.
    fact = f"something unexpected happened ({type(error).__name__})"
    if options.json:
        fault = {"code": "unexpected", "sentence": fact, "detail": "", "hint": "run it again with --debug"}
        click.echo(json.dumps({"error": {**fault, "exit_code": 1}}), err=True)
    else:
        click.echo(
            f"skex: {fact}\nhint: This is a defect in skex; run it again with --debug and report it.",
            err=True,
        )
    return 1


# ── click, our way ──────────────────────────────────────────────────────────────────────────────
def _keep_home(_context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        settings().home = value


def _keep_socket(_context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        settings().socket = value


def _keep_json(_context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001  # click's shape
    if value:
        settings().json = True


def _keep_debug(_context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001  # click's shape
    if value:
        settings().debug = True


def _global_options(*, with_environment: bool) -> list[click.Parameter]:
    """--home, --json and --debug; the environment is read once, so that it never wins over a flag."""
    return [
        click.Option(
            ["--home"],
            type=click.Path(file_okay=False, path_type=Path),
            envvar="SKEX_HOME" if with_environment else None,
            metavar="DIRECTORY",
            help=f"The home to work on; SKEX_HOME says it too.  [default: {SYSTEM_HOME}]",
            callback=_keep_home,
            expose_value=False,
            is_eager=True,
        ),
        click.Option(
            ["--socket"],
            type=click.Path(dir_okay=False, readable=False, path_type=Path),
            envvar="SKEX_SOCKET" if with_environment else None,
            metavar="FILE",
            help="Ask the daemon behind this admin.socket, not that of a home; SKEX_SOCKET says it too.",
            callback=_keep_socket,
            expose_value=False,
            is_eager=True,
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="One JSON document on stdout; errors as JSON on stderr.",
            callback=_keep_json,
            expose_value=False,
            is_eager=True,
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            help="Show a traceback when something goes wrong.",
            callback=_keep_debug,
            expose_value=False,
            is_eager=True,
        ),
    ]


def _unescaped(kwargs: dict[str, Any]) -> dict[str, Any]:
    r"""Let docstrings be raw: a line of ``\b`` keeps click from filling the paragraph behind it."""
    return {**kwargs, "help": (kwargs.get("help") or "").replace("\\b\n", "\b\n")}


class Verb(click.Command):
    """A command that takes the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_unescaped(kwargs))
        self.params += _global_options(with_environment=False)


class Noun(click.Group):
    """A group of verbs; its own help needs no home."""

    command_class = Verb  # type: ignore[mutable-override]  # never assigned anywhere

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_unescaped(kwargs))
        self.params += _global_options(with_environment=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is defined, and the line that describes it."""

    module: str
    attribute: str
    summary: str


class Root(click.Group):
    """``skex`` itself: imports a noun when it is used, and turns errors into words and exit codes."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **_unescaped(kwargs))
        self._entries = entries
        self.params += _global_options(with_environment=True)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The nouns in the order of their table."""
        del ctx
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a noun."""
        del ctx
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing anything."""
        del ctx
        with formatter.section("Nouns"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._entries.items()])

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, explain what went wrong, exit."""
        kwargs["standalone_mode"] = False
        options = Settings()
        written = kwargs.get("args") or (args[0] if args else None) or sys.argv[1:]
        try:
            returned = super().main(*args, **kwargs, obj=options)
        except click.ClickException as error:
            # A line that cannot be parsed was not searched for --json either.
            options.json = options.json or "--json" in written
            _explain_usage(error, options)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except SkexError as error:
            _traceback(options)
            sys.exit(_explain(error, options))
        except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches people unasked
            _traceback(options)
            sys.exit(_explain_unexpected(error, options))
        sys.exit(returned if isinstance(returned, int) else 0)
