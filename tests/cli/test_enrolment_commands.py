"""From a realm on paper to an enrolled KME with nothing but commands, and everything that stops one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from skex.base import limits
from skex.cli import kit as kit_commands
from skex.cli.files import moment
from skex.delivery.etsi014.revocations import check_revocations
from skex.enrol import creating
from skex.enrol.chunks import KitWriter
from skex.enrol.passphrase import parse_passphrase
from skex.runtime import clock
from skex.wire.realm import Realm
from tests.cli.transcripts import PASSPHRASE, done, refused, skex
from tests.unit.enrol.kit_support import CHEAP

HUBS = ("hub-1", "hub-2", "hub-3")
ADDRESSES = [part for hub in HUBS for part in ("--hub", f"{hub}={hub}.example.net:7300")]


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each kit is right for operators, and a minute for these tests."""
    order = creating.KitOrder
    monkeypatch.setattr(kit_commands, "KitOrder", lambda **parts: replace(order(**parts), cost=CHEAP))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three hubs, a KME, a passphrase; the working directory of an operator of everything."""
    monkeypatch.chdir(tmp_path)
    done("realm", "init", "example", "-k", "2", *ADDRESSES)
    for hub in HUBS:
        done("hub", "init", hub, "--realm", "realm.cbor", "--home", hub)
    done("kme", "init", "site-a", "--home", "site-a")
    Path("words").write_text(PASSPHRASE + "\n")
    return tmp_path


def create(hub: str = "hub-1", *more: str, output: str | None = None) -> dict[str, Any]:
    way = () if "--in-clear" in more else ("--passphrase-file", "words")
    return done("kit", "create", "site-a", "--home", hub, "-o", output or f"{hub}.kit", *way, *more)


def bring(kit: str = "hub-1.kit", *more: str) -> dict[str, Any]:
    return done("kit", "import", kit, "--home", "site-a", "--passphrase-file", "words", *more)


def refused_import(kit: str = "hub-1.kit", *more: str, home: str = "site-a") -> tuple[int, str]:
    pads = sorted(path.name for path in Path(home, "pads").iterdir())
    outcome = refused("kit", "import", kit, "--home", home, "--passphrase-file", "words", *more)
    assert sorted(path.name for path in Path(home, "pads").iterdir()) == pads
    return outcome


# ── the whole way ───────────────────────────────────────────────────────────────────────────────
def test_three_hubs_and_a_kme_from_nothing(root: Path) -> None:
    made = [create("hub-1"), create("hub-2", "--table", "256KiB"), create("hub-3", "--in-clear")]
    imported = [bring(f"{hub}.kit") for hub in HUBS]
    assert [(one["kits"], one["needed"], one["in_force"]) for one in imported] == [
        (1, 2, False),
        (2, 2, True),
        (2, 2, True),
    ]
    for one, other in zip(made, imported, strict=True):
        assert {key: one[key] for key in ("words", "sha512", "link", "pad")} == {
            key: other[key] for key in ("words", "sha512", "link", "pad")
        }
    assert [one["pad"] for one in made] == ["derived", "table", "derived"]
    assert [one["protection"] for one in made] == ["passphrase", "passphrase", "clear"]
    assert made[1]["bytes_to_hub"] == made[1]["bytes_to_kme"] == 262_144
    words = done("realm", "show", "realm.cbor")["words"]
    assert {one["realm"]["words"] for one in made + imported} == {words}


def test_module_does_the_same_in_processes_of_its_own(tmp_path: Path) -> None:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "skex", *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "SKEX_HOME": "site-a"},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert run("realm", "init", "example", "-k", "2", *ADDRESSES).returncode == 0
    assert run("hub", "init", "hub-1", "--realm", "realm.cbor", "--home", "hub-1").returncode == 0
    assert run("kme", "init", "site-a").returncode == 0
    assert run("--home", "hub-1", "kit", "create", "site-a", "-o", "k", "--in-clear").returncode == 0
    imported = run("kit", "import", "k")
    assert imported.returncode == 0, imported.stderr
    assert "1 of 2 kits agree" in imported.stderr
    assert "site-a with hub-1" in imported.stdout
    again = run("kit", "import", "k")
    assert (again.returncode, again.stdout) == (3, "")
    assert again.stderr == (
        "skex: A link with this id was enrolled here before.\n"
        "hint: A kit is imported once: ask the hub's operator for a new one.\n"
        "code: link-known (exit 3)\n"
    )


def test_people_are_told_what_comes_next_on_stderr_only(root: Path) -> None:
    way = ("kit", "create", "site-a", "-o", "k", "--in-clear", "--home", "hub-1")
    transcript = [
        (("realm", "init", "r", "-k", "1", "--hub", "h=h:1", "-o", "r.cbor"), "Compare the words"),
        (("hub", "init", "h", "--realm", "r.cbor", "--home", "h"), "Next: policy.toml"),
        (("kme", "init", "b", "--home", "b"), "Next: policy.toml"),
        (way, "It may be imported once, until 20"),
        (("kit", "import", "k", "--home", "site-a"), "1 of 2 kits agree on the realm"),
        (("ca", "init", "-d", "ca"), "Give ca/ca.pem to the KMEs"),
    ]
    for command, talk in transcript:
        answer = skex(*command)
        assert answer.code == 0, answer.stderr
        assert talk in answer.stderr
        assert talk not in answer.stdout
        assert answer.stdout.strip()


def test_files_have_the_modes_of_their_secrets(root: Path) -> None:
    create()
    assert stat.S_IMODE(Path("hub-1.kit").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("realm.cbor").stat().st_mode) & 0o444 == 0o444


# ── kits ────────────────────────────────────────────────────────────────────────────────────────
def test_kit_is_shown_without_its_passphrase_and_unchanged(root: Path) -> None:
    made = create()
    before = Path("hub-1.kit").read_bytes()
    shown = done("kit", "show", "hub-1.kit")
    assert shown == {key: made[key] for key in shown}
    assert Path("hub-1.kit").read_bytes() == before
    text = skex("kit", "show", "hub-1.kit").stdout
    assert made["words"] in text
    assert "under a passphrase" in text


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_kit_is_refused(root: Path, cut: int) -> None:
    create()
    Path("cut.kit").write_bytes(Path("hub-1.kit").read_bytes()[:cut])
    assert refused_import("cut.kit") == (3, "kit-truncated")
    assert refused("kit", "show", "cut.kit") == (3, "kit-truncated")


def test_altered_kit_is_refused(root: Path) -> None:
    create("hub-1", "--table", "1MiB")
    data = bytearray(Path("hub-1.kit").read_bytes())
    data[len(data) // 2] ^= 1
    Path("bad.kit").write_bytes(data)
    assert refused_import("bad.kit") == (3, "kit-altered")
    assert refused("kit", "show", "bad.kit") == (3, "kit-altered")
    bring()


def test_file_that_is_no_kit_is_refused(root: Path) -> None:
    assert refused_import("realm.cbor") == (3, "kit-malformed")


def test_kit_for_another_kme_is_refused(root: Path) -> None:
    create()
    done("kme", "init", "site-b", "--home", "site-b")
    assert refused_import(home="site-b") == (3, "kit-other-kme")


def test_kit_that_was_imported_is_refused(root: Path) -> None:
    create()
    bring()
    assert refused_import() == (3, "link-known")


def test_second_link_is_refused_at_both_ends_unless_it_replaces(root: Path) -> None:
    create()
    bring()
    again = ("kit", "create", "site-a", "--home", "hub-1", "-o", "two.kit", "--in-clear")
    assert refused(*again) == (3, "link-exists")
    assert not Path("two.kit").exists()
    done(*again, "--replace")
    assert refused_import("two.kit") == (3, "link-exists")
    bring("two.kit", "--replace")


def test_expired_kit_is_refused_and_says_so_when_shown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create("hub-1", "--valid", "1h")
    assert made["expires"] - made["created"] == 3600
    monkeypatch.setattr(clock, "unix_seconds", lambda: made["expires"])
    assert refused_import() == (3, "kit-expired")
    assert done("kit", "show", "hub-1.kit")["expired"]
    assert "(it has)" in skex("kit", "show", "hub-1.kit").stdout


def test_wrong_passphrase_is_refused(root: Path) -> None:
    create()
    Path("words").write_text("some other words entirely")
    assert refused_import() == (3, "kit-passphrase")


def test_realm_that_disagrees_is_refused(root: Path) -> None:
    done("realm", "init", "example", "-k", "2", *ADDRESSES, "-o", "other.cbor", "--max-age", "2y")
    done("hub", "init", "hub-2", "--realm", "other.cbor", "--home", "other-2")
    create("hub-1")
    create("other-2", output="other.kit")
    bring("hub-1.kit")
    assert refused_import("other.kit") == (3, "realm-mismatch")


def test_threshold_below_the_floor_is_refused(root: Path) -> None:
    done("kme", "init", "site-a", "--home", "strict", "--floor", "3")
    create()
    assert refused_import(home="strict") == (3, "realm-below-floor")


@pytest.mark.parametrize("way", [("--in-clear",), ("--passphrase-file", "words")])
def test_a_passphrase_is_spoken_of_where_there_is_one(root: Path, way: tuple[str, ...]) -> None:
    answer = skex("kit", "create", "site-a", "--home", "hub-1", "-o", "k", *way)
    assert answer.code == 0
    assert ("passphrase" in answer.stderr) is ("--in-clear" not in way)


def test_existing_output_is_never_overwritten(root: Path) -> None:
    Path("hub-1.kit").write_text("precious")
    way = ("kit", "create", "site-a", "--home", "hub-1", "-o", "hub-1.kit", "--in-clear")
    assert refused(*way) == (3, "file-exists")
    assert Path("hub-1.kit").read_text() == "precious"
    assert list(Path("hub-1", "pads").iterdir()) == []


def test_medium_that_fails_leaves_no_file_no_pad_and_no_link(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stick is full, or was pulled out."""

    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(creating, "KitWriter", lambda _sink, *rest: KitWriter(Full(), *rest))
    way = ("kit", "create", "site-a", "--home", "hub-1", "-o", "hub-1.kit", "--in-clear")
    assert refused(*way) == (4, "kit-io")
    assert not Path("hub-1.kit").exists()
    assert list(Path("hub-1", "pads").iterdir()) == []
    monkeypatch.undo()
    os.chdir(root)
    done(*way)


def test_kit_that_cannot_be_opened_is_a_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create()

    def fail(*_: object, **__: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    assert refused("kit", "show", "hub-1.kit") == (4, "kit-io")


def test_realm_file_that_cannot_be_written_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refused("realm", "init", "r", "-k", "1", "--hub", "h=h:1", "-o", "r.cbor") == (4, "file-io")
    assert not Path("r.cbor").exists()


def test_time_that_no_calendar_has_is_shown_as_a_number() -> None:
    assert moment(0) == "1970-01-01 00:00 UTC"
    assert moment(2**64 - 1) == f"{2**64 - 1} seconds after 1970"


def test_directory_that_is_not_there_is_a_fault(root: Path) -> None:
    way = ("kit", "create", "site-a", "--home", "hub-1", "-o", "no/such/kit", "--in-clear")
    assert refused(*way) == (4, "file-io")


@pytest.mark.parametrize(
    "sizes",
    [
        ("--table-to-hub", "1MiB"),
        ("--table-to-kme", "1MiB"),
        ("--table", "17TiB"),
        ("--table", "1 GB"),
        ("--table", "0"),
        ("--valid", "3 days"),
    ],
)
def test_size_or_duration_that_makes_no_sense_is_a_usage_error(root: Path, sizes: tuple[str, str]) -> None:
    way = ("kit", "create", "site-a", "--home", "hub-1", "-o", "k", "--in-clear", *sizes)
    assert refused(*way) == (2, "usage")
    assert not Path("k").exists()


def test_directions_may_have_sizes_of_their_own_rounded_up_to_whole_units(root: Path) -> None:
    made = create("hub-1", "--table", "5000B", "--table-to-kme", "64KiB", "--in-clear")
    assert (made["bytes_to_hub"], made["bytes_to_kme"]) == (8192, 65_536)


# ── passphrases ─────────────────────────────────────────────────────────────────────────────────
def test_passphrase_and_in_clear_exclude_each_other(root: Path) -> None:
    way = (
        "kit",
        "create",
        "site-a",
        "--home",
        "hub-1",
        "-o",
        "k",
        "--in-clear",
        "--passphrase-file",
        "words",
    )
    assert refused(*way) == (2, "usage")


def test_no_passphrase_and_nobody_to_ask_is_refused(root: Path) -> None:
    assert refused("kit", "create", "site-a", "--home", "hub-1", "-o", "k") == (3, "kit-passphrase-missing")
    create()
    assert refused("kit", "import", "hub-1.kit", "--home", "site-a") == (3, "kit-passphrase-missing")


@pytest.mark.parametrize(
    "data",
    [b"tiny-one", b"\n" + PASSPHRASE.encode(), b"\xff" * 20, b"x" * 5000],
    ids=["short", "empty", "binary", "long"],
)
def test_weak_passphrase_is_refused_and_not_repeated(root: Path, data: bytes) -> None:
    Path("weak").write_bytes(data)
    way = ("kit", "create", "site-a", "--home", "hub-1", "-o", "k", "--passphrase-file", "weak", "--debug")
    answer = skex(*way)
    assert answer.code == 3
    assert "kit-passphrase-weak" in answer.stderr
    assert data.decode(errors="replace") not in answer.stderr
    assert not Path("k").exists()


def test_passphrase_comes_from_a_descriptor(root: Path) -> None:
    def given(text: str) -> str:
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        return str(reading)

    done(
        "kit",
        "create",
        "site-a",
        "--home",
        "hub-1",
        "-o",
        "k",
        "--passphrase-fd",
        given(PASSPHRASE + "\r\nx"),
    )
    wrong = ("kit", "import", "k", "--home", "site-a", "--passphrase-fd")
    assert refused(*wrong, given("another passphrase")) == (3, "kit-passphrase")
    done(*wrong, given(PASSPHRASE))


def test_descriptor_that_is_not_open_is_a_fault(root: Path) -> None:
    way = ("kit", "create", "site-a", "--home", "hub-1", "-o", "k", "--passphrase-fd", "987")
    assert refused(*way) == (4, "file-io")


def test_passphrase_is_asked_for_twice_at_a_terminal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    def prompt(_text: str, **options: Any) -> str:
        asked.append(options)
        return PASSPHRASE

    monkeypatch.setattr("skex.cli.passphrases.sys.stdin", Terminal)
    monkeypatch.setattr("skex.cli.passphrases.click.prompt", prompt)
    from skex.cli import passphrases  # noqa: PLC0415  # after its terminal is in place

    passphrases.ask(None, None, confirm=True)
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]


# ── realms ──────────────────────────────────────────────────────────────────────────────────────
def test_realm_file_is_made_from_a_description(root: Path) -> None:
    Path("hubs.toml").write_text(
        """
        [[hub]]
        name = "a"
        address = "a.example.net:7300"
        operator = "A Ltd"
        jurisdiction = "CH"
        [[hub]]
        name = "b"
        address = "[2001:db8::1]:7300"
        coordinate = 9
        """
    )
    made = done("realm", "init", "r", "-k", "2", "--hubs", "hubs.toml", "--hub", "c=c:1", "-o", "r.cbor")
    assert [(hub["name"], hub["coordinate"], hub["operator"]) for hub in made["hubs"]] == [
        ("c", 1, "unstated"),
        ("a", 2, "A Ltd"),
        ("b", 9, "unstated"),
    ]
    assert Realm.from_bytes(Path("r.cbor").read_bytes()).digest().hex() == made["sha512"]
    assert made["words"] in skex("realm", "show", "r.cbor").stdout


def test_mistake_in_a_description_is_named(root: Path) -> None:
    Path("hubs.toml").write_text('[[hub]]\nname = "a"\nadress = "a:1"\n')
    answer = skex("realm", "init", "r", "-k", "2", "--hubs", "hubs.toml", "-o", "r.cbor", "--json")
    assert answer.error["code"] == "config-invalid"
    assert 'hubs.toml: line 3: hub[1].adress is unknown; did you mean "address"?' in answer.error["detail"]
    assert not Path("r.cbor").exists()


@pytest.mark.parametrize("hub", ["hub-1", "Hub=h:1", "hub=h", "hub=h:0", "=h:1"])
def test_hub_of_another_form_is_a_usage_error(root: Path, hub: str) -> None:
    assert refused("realm", "init", "r", "-k", "1", "--hub", hub, "-o", "r.cbor") == (2, "usage")


def test_realm_that_contradicts_itself_is_refused(root: Path) -> None:
    assert refused("realm", "init", "r", "-k", "5", *ADDRESSES, "-o", "r") == (3, "realm-inconsistent")
    assert not Path("r").exists()


def test_later_epoch_reaches_a_hub(root: Path) -> None:
    change = ("--revoke", "hub-2", "--hub", "hub-4=hub4.example.net:7300", "-k", "3", "-o", "2.cbor")
    later = done("realm", "next", "realm.cbor", *change)
    assert (later["epoch"], later["threshold"]) == (2, 3)
    assert "revoked" in skex("realm", "show", "2.cbor").stdout
    served = done("hub", "update-realm", "2.cbor", "--home", "hub-1")
    assert served["sha512"] == later["sha512"]
    assert refused("hub", "update-realm", "realm.cbor", "--home", "hub-1") == (3, "realm-outdated")
    assert create("hub-1")["realm"]["epoch"] == 2


def test_realm_file_that_is_too_long_is_refused(root: Path) -> None:
    Path("long").write_bytes(bytes(limits.REALM_FILE_BYTES + 1))
    assert refused("realm", "show", "long") == (3, "realm-malformed")


# ── homes ───────────────────────────────────────────────────────────────────────────────────────
def test_existing_home_is_refused(root: Path) -> None:
    assert refused("kme", "init", "site-a", "--home", "site-a") == (3, "home-exists")
    assert refused("hub", "init", "hub-1", "--realm", "realm.cbor", "--home", "site-a") == (3, "home-exists")


def test_hub_that_the_realm_does_not_list_gets_no_home(root: Path) -> None:
    assert refused("hub", "init", "hub-9", "--realm", "realm.cbor", "--home", "h9") == (3, "hub-not-in-realm")
    assert not Path("h9").exists()


def test_home_of_the_other_kind_is_refused(root: Path) -> None:
    create()
    assert refused("kit", "import", "hub-1.kit", "--home", "hub-1") == (3, "home-foreign")
    assert refused("kit", "create", "x", "-o", "k", "--in-clear", "--home", "site-a") == (3, "home-foreign")


def test_place_without_a_home_is_refused(root: Path) -> None:
    assert refused("kit", "create", "x", "-o", "k", "--in-clear", "--home", "nowhere") == (
        3,
        "config-missing",
    )


def test_environment_names_the_home_and_the_flag_wins(root: Path) -> None:
    create()
    env = {"SKEX_HOME": str(root / "site-a")}
    way = ("kit", "import", "hub-1.kit", "--passphrase-file", "words")
    assert refused(*way, "--home", "hub-1", env=env) == (3, "home-foreign")
    done("--home", root / "site-a", *way, env={"SKEX_HOME": str(root / "hub-1")})
    assert refused(*way, env=env) == (3, "link-known")


def test_options_of_init_stand_in_the_configuration(root: Path) -> None:
    done("hub", "init", "hub-1", "--realm", "realm.cbor", "--home", "h", "--listen", "127.0.0.1:0")
    assert 'address = "127.0.0.1:0"' in Path("h", "hub.toml").read_text()
    options = ("--floor", "3", "--hub-address", "hub-1=127.0.0.1:7301", "--etsi014", "[::1]:0")
    done("kme", "init", "site-b", "--home", "b", *options)
    text = Path("b", "kme.toml").read_text()
    for line in (
        "threshold_floor = 3",
        '{ "hub-1" = "127.0.0.1:7301" }',
        "enabled = true",
        'listen = "[::1]:0"',
    ):
        assert line in text


def test_mistake_in_a_configuration_is_named(root: Path) -> None:
    with Path("site-a", "kme.toml").open("a") as file:
        file.write("[keyz]\nlifetime = 5\n")
    create()
    answer = skex("kit", "import", "hub-1.kit", "--home", "site-a")
    assert answer.code == 3
    assert 'keyz is unknown; did you mean "keys"?' in answer.stderr


# ── certificates ────────────────────────────────────────────────────────────────────────────────
def test_certificates_are_made_and_their_keys_are_private(root: Path) -> None:
    done("ca", "init", "-d", "ca")
    kme = done("ca", "issue", "kme", "site-a", "--host", "127.0.0.1", "--ca", "ca", "-o", "tls")
    sae = done("ca", "issue", "sae", "vpn@site-a", "--ca", "ca", "-o", "tls")
    assert kme["serial"] != sae["serial"]
    for key in (Path("ca/ca.key"), Path(kme["key"]), Path(sae["key"])):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert b"CERTIFICATE" in Path(sae["certificate"]).read_bytes()
    assert refused("ca", "init", "-d", "ca") == (3, "file-exists")
    assert refused("ca", "issue", "sae", "vpn", "--ca", "ca", "-o", "tls") == (3, "name-invalid")
    assert refused("ca", "issue", "sae", "a@b", "--ca", "tls", "-o", "tls") == (4, "file-io")


# ── several kits at once ────────────────────────────────────────────────────────────────────────
def test_several_kits_are_imported_with_one_command_and_one_passphrase(root: Path) -> None:
    made = [create(hub) for hub in HUBS]
    kits = [f"{hub}.kit" for hub in HUBS]
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE.encode())
    os.close(writing)
    imported = done("kit", "import", *kits, "--home", "site-a", "--passphrase-fd", str(reading))
    assert [one["words"] for one in imported["imported"]] == [one["words"] for one in made]
    assert (imported["kits"], imported["needed"], imported["in_force"]) == (2, 2, True)


def test_the_first_kit_that_is_refused_ends_the_command_and_those_before_it_stay(root: Path) -> None:
    create("hub-1", "--in-clear")
    create("hub-2", "--in-clear")
    Path("bad.kit").write_text("no kit")
    assert refused("kit", "import", "hub-1.kit", "bad.kit", "hub-2.kit", "--home", "site-a") == (
        3,
        "kit-truncated",
    )
    assert refused("kit", "import", "hub-1.kit", "--home", "site-a") == (3, "link-known")
    done("kit", "import", "hub-2.kit", "--home", "site-a")


def test_people_are_asked_for_the_passphrase_of_each_kit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "another passphrase altogether"
    create("hub-1")
    Path("words").write_text(other)
    create("hub-2")
    typed = iter([PASSPHRASE, other])
    monkeypatch.setattr("skex.cli.passphrases.ask", lambda *_, **__: parse_passphrase(next(typed)))
    done("kit", "import", "hub-1.kit", "hub-2.kit", "--home", "site-a")


def test_certificates_are_revoked_one_after_the_other_and_the_list_keeps_all(root: Path) -> None:
    done("ca", "init", "-d", "ca")
    serials = [
        done("ca", "issue", "sae", name, "--ca", "ca", "-o", "tls")["serial"] for name in ("a@x", "b@x")
    ]
    assert done("ca", "revoke", "--ca", "ca")["revoked"] == []
    for number, name in ((2, "a@x"), (3, "b@x"), (4, "b@x")):
        made = done("ca", "revoke", f"tls/{name}.pem", "--ca", "ca")
        assert made["number"] == number
        assert set(made["revoked"]) == set(serials[: min(number, 3) - 1])
        check_revocations(Path("ca/crl.pem"), Path("ca/ca.pem"), clock.wall())
    listed = x509.load_pem_x509_crl(Path("ca/crl.pem").read_bytes())
    assert {f"{one.serial_number:x}" for one in listed} == set(serials)
    assert stat.S_IMODE(Path("ca/crl.pem").stat().st_mode) == 0o644


def test_authority_revokes_nothing_of_others_and_builds_on_no_list_of_others(root: Path) -> None:
    for name in ("ca", "other"):
        done("ca", "init", "-d", name)
    done("ca", "issue", "sae", "a@x", "--ca", "other", "-o", "tls")
    assert refused("ca", "revoke", "tls/a@x.pem", "--ca", "ca") == (3, "ca-revocation")
    assert refused("ca", "revoke", "realm.cbor", "--ca", "ca") == (3, "ca-revocation")
    assert not Path("ca/crl.pem").exists()
    done("ca", "revoke", "tls/a@x.pem", "--ca", "other")
    for data in (Path("other/crl.pem").read_bytes(), b"no list"):
        Path("ca/crl.pem").write_bytes(data)
        assert refused("ca", "revoke", "--ca", "ca") == (3, "ca-revocation")
        assert Path("ca/crl.pem").read_bytes() == data
