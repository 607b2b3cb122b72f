from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skex.audit import events
from skex.audit.events import Event
from skex.base import codes
from skex.base.errors import Refused
from skex.base.secret import Secret
from skex.cli import demo_delivery, demo_realm, demo_trust_realms, demo_trust_report
from skex.cli.demo_delivery import Refusal, Sae, TakenKey
from skex.cli.demo_processes import Daemons
from skex.cli.demo_realm import NORTH, SOUTH, DemoRealm, Status
from skex.cli.demo_report import Report, as_data, as_text, claim_in_words, scene_text
from skex.cli.demo_scenes import Claim, Cost, Delivery, Outcome, Play, Scene, Stage, fault_scenes
from skex.cli.demo_tls import SUITE, Handshake
from skex.cli.demo_trust import TrustStage
from skex.cli.demo_trust_report import Transcript
from skex.daemon import config, homes
from skex.daemon.enrolment import open_log
from tests.cli.transcripts import done

KEY = bytes(range(32))
KEY_ID = "2655180e-715f-8177-bbd3-b031b0803215"


# ── taking keys ─────────────────────────────────────────────────────────────────────────────────
def sae(port: int) -> Sae:
    return Sae("web@north", port, Path("ca.pem"), Path("web.pem"), Path("web.key"))


def test_no_key_is_on_the_command_line_of_curl() -> None:
    argv = sae(7443).curl("db@south/enc_keys")
    assert argv[0] == "curl"
    assert argv[-1] == "https://127.0.0.1:7443/api/v1/keys/db@south/enc_keys"
    assert not {"--insecure", "-k"} & set(argv)


def test_a_door_that_is_not_there_is_named_with_what_curl_says() -> None:
    with pytest.raises(Refused, match=r"demo-failed.*web@north.*curl"):
        asyncio.run(sae(1).take_new("db@south"))


def test_delivered_key_is_read_into_a_secret() -> None:
    answer = {"keys": [{"key_ID": KEY_ID, "key": base64.b64encode(KEY).decode()}]}
    taken = demo_delivery._read(200, answer)
    assert taken == TakenKey(KEY_ID, Secret(KEY))
    assert base64.b64encode(KEY).decode() not in repr(taken)


@pytest.mark.parametrize(
    "answer",
    [{"keys": []}, {"keys": [{"key_ID": KEY_ID}]}, {"keys": [{"key_ID": KEY_ID, "key": "*"}]}, []],
    ids=["no key", "an id alone", "not base64", "a list"],
)
def test_an_answer_of_another_form_is_no_key(answer: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        demo_delivery._read(200, answer)


def test_refusal_keeps_the_status_the_message_and_our_code() -> None:
    answer = {"message": "too few", "details": [{"code": "not-enough-hubs"}]}
    assert demo_delivery._read(503, answer) == Refusal(503, "too few", "not-enough-hubs")
    assert demo_delivery._read(401, {"message": "no"}) == Refusal(401, "no", "")


# ── the realm's parts ───────────────────────────────────────────────────────────────────────────
def test_a_line_that_stands_there_once_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text('a = 1\naddress = "127.0.0.1:0"\n# address = "127.0.0.1:0"\n')
    demo_realm._replace_line(path, 'address = "127.0.0.1:0"', 'address = "127.0.0.1:81"')
    assert path.read_text() == 'a = 1\naddress = "127.0.0.1:81"\n# address = "127.0.0.1:0"\n'


@pytest.mark.parametrize("text", ["", "x = 1\nx = 1\n"], ids=["missing", "twice"])
def test_a_file_that_is_not_as_expected_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kme.toml"
    path.write_text(text)
    with pytest.raises(Refused, match=r"demo-failed.*kme.toml"):
        demo_realm._replace_line(path, "x = 1", "x = 2")
    assert path.read_text() == text


def test_first_failure_ends_what_runs_beside_it_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise Refused(codes.DEMO_FAILED, "this one")

    async def lasts() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("the other one")

    with pytest.raises(Refused, match="this one"):
        asyncio.run(demo_realm._all([lasts(), fails()]))
    assert ended == ["the other one"]


def test_status_counts_connected_hubs_only() -> None:
    def hub(name: str, *, up: bool, blamed: int) -> dict[str, Any]:
        used = {"to_hub": 10 if up else None, "to_kme": 5 if up else None}
        return {"hub": name, "pad": "table", "connected": up, "blamed": blamed, "pad_bytes_used": used}

    status = Status.of(
        {
            "ready": True,
            "filling": False,
            "hubs": [hub("hub-1", up=True, blamed=0), hub("hub-2", up=False, blamed=2)],
            "reserves": [{"keys": 3}, {"keys": 4}],
        }
    )
    assert status.hubs == {"hub-1"}
    assert status.blamed == {"hub-2"}
    assert status.reserve == 7
    assert status.pad_used == {"hub-1": 15}


# ── scenes ──────────────────────────────────────────────────────────────────────────────────────
def test_scene_of_the_liar_is_skipped_with_the_reason_where_none_is_given(tmp_path: Path) -> None:
    stage = Stage(DemoRealm(tmp_path, Daemons(tmp_path)), tmp_path)
    plays = {play.name: play for play in fault_scenes(stage, with_liar=False)}
    assert [play.name for play in plays.values() if play.act is None] == ["one-hub-lies"]
    scene = asyncio.run(plays["one-hub-lies"].run())
    assert scene.outcome is Outcome.SKIPPED
    assert "--liar" in scene.seen
    assert all(play.act for play in fault_scenes(stage, with_liar=True))


def test_scene_in_which_something_goes_wrong_has_failed_and_says_what() -> None:
    async def act() -> str:
        raise Refused(codes.DEMO_FAILED, "different keys")

    scene = asyncio.run(Play("name", "title", act).run())
    assert (scene.outcome, scene.seen) == (Outcome.FAILED, "different keys")
    assert "FAILED" in scene_text(scene)


# ── trust ───────────────────────────────────────────────────────────────────────────────────────
def test_output_is_shortened_to_the_lines_that_matter_and_says_so() -> None:
    text = "head\n\nyes 1\nno\nno\nyes 2\n"
    assert demo_trust_report.shortened(text, "yes") == ("…", "yes 1", "…", "yes 2")
    assert demo_trust_report.shortened("one\ntwo\n") == ("one", "two")
    many = demo_trust_report.shortened("line\n" * 99)
    assert many == ("line",) * demo_trust_report.LINES + ("…",)
    (cut,) = demo_trust_report.shortened("x" * 999)
    assert (len(cut), cut[-1]) == (demo_trust_report.WIDTH, "…")


def test_paragraph_is_shown_by_its_sentences() -> None:
    text = "Key 1 is of\nbatch a.b (section 1.5). So the class is\nfine. Ask."
    assert demo_trust_report.sentences(text).splitlines() == [
        "Key 1 is of batch a.b (section 1.5).",
        "So the class is fine.",
        "Ask.",
    ]


def trust_stage(root: Path) -> TrustStage:
    """The stage over a home whose log is sealed, as the demonstration leaves it."""
    homes.init_kme(root / NORTH, NORTH, {})
    done("audit", "key", "--home", root / NORTH, "--out", root / "north.auditkey")
    for _ in range(3):
        with open_log(config.load_kme(root / NORTH)) as audit:
            audit.emit(Event(events.DAEMON_STOPPED))
    realm = DemoRealm(root, Daemons(root), layout=demo_trust_realms.captured())
    return TrustStage(realm, root, Transcript())


def test_log_that_nobody_changed_fails_the_scene_of_a_changed_one(tmp_path: Path) -> None:
    stage = trust_stage(tmp_path)
    with pytest.raises(Refused, match=r"demo-failed.*ended with 0 instead of 4"):
        asyncio.run(stage._tampered("same", lambda lines: None, "altered"))


def test_log_that_is_wrong_in_another_way_fails_the_scene_too(tmp_path: Path) -> None:
    stage = trust_stage(tmp_path)
    with pytest.raises(Refused, match=r"demo-failed.*instead of altered"):
        asyncio.run(stage._tampered("short", lambda lines: lines.__delitem__(-1), "altered"))


@pytest.mark.parametrize(
    ("rule", "line"), [("sae.deny.no-payroll", 2), ("kme.deny.other", 1), ("sae.deny.no-payroll", 9)]
)
def test_rule_that_does_not_stand_in_the_line_that_is_named_fails_the_scene(
    tmp_path: Path, rule: str, line: int
) -> None:
    stage = TrustStage(DemoRealm(tmp_path, Daemons(tmp_path)), tmp_path, Transcript())
    (tmp_path / NORTH).mkdir()
    (tmp_path / NORTH / "policy.toml").write_text('[[sae.deny]]\nid = "no-payroll"\n')
    stage._check_line(NORTH, "sae.deny.no-payroll", {"rule": "sae.deny.no-payroll", "line": 1})
    with pytest.raises(Refused, match=r"demo-failed.*it should by sae.deny.no-payroll"):
        stage._check_line(NORTH, "sae.deny.no-payroll", {"rule": rule, "line": line})


def test_document_of_trust_names_a_scene_that_failed_and_is_not_good(capsys: Any) -> None:
    transcript = Transcript()

    async def act() -> str:
        transcript.add("skex something", 3, "no\n")
        raise Refused(codes.DEMO_FAILED, "another rule")

    acts = [asyncio.run(transcript.play(Play("one", "the first one", act)))]
    data, text, failures = demo_trust_report.told(acts, 1.25, "/tmp/kept")  # noqa: S108  # only shown
    assert (data["good"], failures) == (False, ("one",))
    assert data["scenes"][0]["commands"] == [{"command": "skex something", "exit_code": 3, "output": ["no"]}]
    assert data["scenes"][0]["seen"] == "another rule"
    assert "failed  the first one" in text
    assert "$ skex something" in capsys.readouterr().err


# ── the report ──────────────────────────────────────────────────────────────────────────────────
REPORT = Report(
    delivery=Delivery(
        key_id=KEY_ID,
        key_bits=256,
        keys_match=True,
        command="curl",
        claim=Claim("computational", 3, 0),
        handshake=Handshake(SUITE, "hello"),
    ),
    costs=[
        Cost(NORTH, "derived", 256, {f"hub-{number}": 34.0 for number in range(1, 6)}),
        Cost(SOUTH, "table", 256, {f"hub-{number}": 35.125 for number in range(1, 6)}),
    ],
    scenes=[Scene("one", "the first one", Outcome.PASSED, 1.0, "fine")],
    ailments=(),
    audit_records=12,
    seconds=20.04,
    directory=None,
)


def test_report_is_good_unless_a_scene_failed_or_the_doctor_found_something() -> None:
    skipped = Scene("two", "", Outcome.SKIPPED, 0.0, "")
    broken = Scene("three", "", Outcome.FAILED, 0.0, "")
    assert replace(REPORT, scenes=[*REPORT.scenes, skipped]).is_good
    assert not replace(REPORT, scenes=[*REPORT.scenes, broken]).is_good
    assert not replace(REPORT, ailments=["hub-1: a pad is missing"]).is_good
    assert replace(REPORT, scenes=[broken], ailments=["hub-1: ill"]).failures == ("three", "hub-1: ill")


def test_document_has_what_scripts_look_for() -> None:
    data = as_data(REPORT)
    assert (data["good"], data["keys_match"], data["tls"]) == (True, True, "TLS_AES_256_GCM_SHA384")
    assert data["scenes"] == [{"name": "one", "outcome": "passed", "seconds": 1.0, "seen": "fine"}]
    assert data["pad_bytes_per_key"][1]["links"]["hub-1"] == 35.12


def test_closing_page_names_what_ran_the_claim_the_cost_and_the_way_on() -> None:
    text = as_text(REPORT)
    for part in (
        "any 3 of which",
        KEY_ID,
        SUITE,
        "the first one",
        "35.1",
        "docs/tutorial.md",
        "2 of them learn nothing",
    ):
        assert part in text
    assert "/tmp/kept" in as_text(replace(REPORT, directory="/tmp/kept"))  # noqa: S108  # only shown


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (Claim("computational", 3, 0), "Against unbounded computing it claims nothing"),
        (Claim("information-theoretic", 3, 2), "still has to corrupt 2 hubs"),
    ],
)
def test_claim_says_no_more_than_was_recorded(claim: Claim, words: str) -> None:
    text = claim_in_words(claim)
    assert words in text
    assert claim.claim_class in text
    assert not {"unbreakable", "quantum-safe", "certified"} & set(text.lower().split())
