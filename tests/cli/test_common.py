"""What all commands share: results, errors, exit codes, help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest

from skex.base import codes
from skex.base.errors import DeliveryFault, LocalBug, PeerFault, Refused, SkexError, StoreFault
from skex.cli import NOUNS, common, skex_command
from skex.cli.common import EXIT_CODES, Entry, Noun, Root, Unreachable, exit_code, progress, settings, table
from skex.cli.values import SIZE
from tests.cli.transcripts import skex


def every_command() -> list[tuple[str, click.Command]]:
    context = click.Context(skex_command, info_name="skex")
    found: list[tuple[str, click.Command]] = []
    for noun in NOUNS:
        command = skex_command.get_command(context, noun)
        assert command is not None
        found.append((noun, command))
        if isinstance(command, click.Group):
            found += [(f"{noun} {name}", verb) for name, verb in command.commands.items()]
    return found


COMMANDS = every_command()


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_help_and_the_global_options(name: str, command: click.Command) -> None:
    answer = skex(*name.split(), "--help")
    assert answer.code == 0
    assert answer.stdout.startswith(f"Usage: skex {name} ")
    assert "\\b" not in answer.stdout
    for option in ("--home", "--json", "--debug"):
        assert option in answer.stdout
    assert command.help


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_no_option_takes_a_secret(name: str, command: click.Command) -> None:
    """Whatever stands in argv stands in the process list."""
    for parameter in command.params:
        if "passphrase" in (parameter.name or ""):
            assert parameter.name in {"passphrase_file", "passphrase_fd"}


def test_list_of_nouns_needs_no_import_and_each_says_what_it_is() -> None:
    script = (
        "import sys\nfrom skex.cli import skex_command\n"
        "try:\n    skex_command(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in sys.modules if name.startswith('skex.cli.')], file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stderr.strip() == "['skex.cli.common']"
    for noun, entry in NOUNS.items():
        assert noun in run.stdout
        assert entry.summary[:40] in " ".join(run.stdout.split())


def test_help_lists_every_noun_and_every_exit_code() -> None:
    text = skex("--help").stdout
    for noun in NOUNS:
        assert f"  {noun} " in text
    for code in EXIT_CODES:
        assert f"  {code}  " in text
    assert skex_command.list_commands(click.Context(skex_command)) == list(NOUNS)


def test_value_that_a_default_already_made_is_taken_as_it_is() -> None:
    assert SIZE.convert(7, None, None) == 7


def test_version_is_shown() -> None:
    assert skex("--version").stdout.startswith("skex, version ")


@pytest.mark.parametrize(
    "arguments", [["kitt"], ["kit", "creat"], ["kit", "show"], ["kit", "show", "no-such-file"], ["-x"]]
)
def test_wrong_command_line_is_explained_and_ends_with_two(arguments: list[str]) -> None:
    answer = skex(*arguments)
    assert (answer.code, answer.stdout) == (2, "")
    assert "Usage: skex" in answer.stderr
    error = skex("--json", *arguments).error
    assert (error["code"], error["exit_code"]) == ("usage", 2)


def test_noun_alone_shows_its_verbs() -> None:
    answer = skex("kit")
    assert answer.code == 2
    for verb in ("create", "show", "import"):
        assert verb in answer.stderr


# ── errors ──────────────────────────────────────────────────────────────────────────────────────
def failing(error: BaseException) -> Root:
    """A command line whose one command ends like this."""

    @click.command("fail", cls=common.Verb)
    def fail() -> NoReturn:
        raise error

    class Failing(Root):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return fail

    return Failing("skex", entries={})


def ended(root: Root, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as end:
        root.main(["fail", *arguments], prog_name="skex")
    captured = capsys.readouterr()
    assert captured.out == ""
    return end.value.code, captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LocalBug(codes.BAD_STATE, "why"), 1),
        (Refused(codes.KIT_EXPIRED, "why"), 3),
        (StoreFault(codes.STORE_IO, "why"), 4),
        (PeerFault(codes.RECORD_TAG, "why"), 5),
    ],
)
def test_error_is_a_fact_then_a_hint_then_a_code(
    error: SkexError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ending, said = ended(failing(error), capsys)
    assert ending == code == exit_code(error.code)
    assert said.splitlines() == [
        f"skex: {error.code.sentence}",
        "      why",
        f"hint: {error.code.hint}",
        f"code: {error.code.name} (exit {code})",
    ]


def test_every_family_has_an_exit_code_of_its_own() -> None:
    families = {exit_code(code) for code in codes.all_codes()}
    assert families <= set(EXIT_CODES)
    assert len({exit_code(code) for code in codes.all_codes()}) == len(
        {code.family for code in codes.all_codes()}
    )
    assert DeliveryFault.family is not None


def test_error_in_json_is_one_document_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    ending, said = ended(failing(Refused(codes.KIT_EXPIRED, "why")), capsys, "--json")
    assert json.loads(said) == {
        "error": {
            "code": "kit-expired",
            "sentence": codes.KIT_EXPIRED.sentence,
            "detail": "why",
            "hint": codes.KIT_EXPIRED.hint,
            "exit_code": 3,
        }
    }
    assert ending == 3


def test_traceback_is_shown_only_to_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (Refused(codes.KIT_EXPIRED), RuntimeError("x")):
        assert "Traceback" not in ended(failing(error), capsys)[1]
        assert "Traceback" in ended(failing(error), capsys, "--debug")[1]


def test_unexpected_error_says_its_kind_but_not_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody checked what is in them: it may be a secret."""
    ending, said = ended(failing(RuntimeError("key=00112233")), capsys)
    assert ending == 1
    assert "RuntimeError" in said
    assert "00112233" not in said
    ending, said = ended(failing(RuntimeError("key=00112233")), capsys, "--json")
    assert json.loads(said)["error"]["exit_code"] == ending == 1
    assert "00112233" not in said


def test_daemon_that_cannot_be_reached_looks_like_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    ending, said = ended(failing(Unreachable("no daemon answers in /srv")), capsys)
    assert ending == 7
    assert "no daemon answers in /srv" in said
    ending, said = ended(failing(Unreachable("no daemon")), capsys, "--json")
    assert json.loads(said)["error"]["code"] == "unreachable"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interruption_ends_with_130(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    ending, said = ended(failing(error), capsys)
    assert (ending, said.strip()) == (130, "interrupted")


def test_reader_that_goes_away_is_met_without_a_word() -> None:
    """skex … | head -c 1"""
    script = "import sys\nfrom skex.cli import main\nsys.argv = ['skex', '--version']\nmain()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────
def test_table_aligns_columns_and_ends_without_spaces() -> None:
    assert table([("a", "bb", ""), ("ccc", "d", "e")], indent=1) == " a    bb\n ccc  d   e"
    assert table([]) == ""


def test_entry_that_is_no_command_is_none() -> None:
    root = Root("skex", entries={"x": Entry("skex.cli.common", "USAGE", "")})
    assert root.get_command(click.Context(root), "x") is None
    assert root.get_command(click.Context(root), "y") is None


def test_settings_without_an_invocation_are_the_defaults() -> None:
    with click.Context(Noun("x")):
        assert settings() == common.Settings()


def test_progress_is_shown_to_people_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with click.Context(Noun("x")), progress(3, "Writing") as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with click.Context(Noun("x")), progress(3, "Writing") as advance:
        advance(3)
    assert "Writing" in capsys.readouterr().err


def test_module_runs_as_a_program() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "skex", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "version" in run.stdout
    assert Path(sys.executable).with_name("skex").exists()
