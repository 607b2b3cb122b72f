"""A deep run is bounded, ends what hangs, hides no failure, and says how to see each again."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deep", ROOT / "tools" / "deep.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["deep"] = module
    spec.loader.exec_module(module)
    return module


deep: Any = _load()


def test_the_shares_of_all_stages_are_the_whole_time() -> None:
    assert list(deep.SHARES) == list(deep.STAGES)
    assert sum(deep.SHARES.values()) == pytest.approx(1)


def test_a_stage_that_fails_ends_no_other_and_is_in_exit_status_and_summary(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = deep.Result("3 worlds", ["a rule broke\nagain: this command"])
    stages = {"worlds": lambda *_: bad, "kills": lambda *_: deep.Result("20 kills")}
    monkeypatch.setattr(deep, "STAGES", stages)
    assert deep.main(["--minutes", "1", "--seed", "7", "--json"], tmp_path) == 1
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["ok"], [row["stage"] for row in report["stages"]]) == (False, ["worlds", "kills"])
    assert report["stages"][0]["asked"] + report["stages"][1]["asked"] == pytest.approx(60)
    assert deep.main(["--seed", "7", "--only", "worlds"], tmp_path) == 1
    said = capsys.readouterr()
    assert "worlds failed: a rule broke\n  again: this command" in said.out
    assert deep.main(["--seed", "7", "--only", "kills"], tmp_path) == 0


def test_an_interrupted_stage_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deep, "STAGES", {"worlds": interrupted, "kills": lambda *_: pytest.fail("ran on")})
    assert deep.main(["--seed", "7"], tmp_path) == 130


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deep, "GRACE_SECONDS", 0.0)
    run = deep.Run(1, 1, tmp_path)
    # Whoever inherits the write end holds it open: it is closed once nobody is left.
    read, write = os.pipe()
    os.set_inheritable(write, True)
    script = f"sleep 600 {write}>&{write} & sleep 600"
    original = subprocess.Popen
    monkeypatch.setattr(
        deep.subprocess, "Popen", lambda *args, **more: original(*args, **more, pass_fds=(write,))
    )
    assert run.execute("worlds", ["/bin/sh", "-c", script], 0.2)[0] is None
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)
    assert "did not end" in deep._not_done("worlds", None, run)[0]


@pytest.mark.parametrize("stage", ["worlds", "kills", "fuzz", "properties", "planted"])
@pytest.mark.parametrize("code", [None, 0, 3])
def test_a_stage_that_says_nothing_of_its_result_has_failed(
    stage: str, code: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deep.Run, "execute", lambda *_, **__: (code, "no document"))
    assert deep.STAGES[stage](deep.Run(1, 1, tmp_path), 1.0).failures


def _bounded_run(tmp_path: Path, until: str, body: str) -> dict[str, Any]:
    (tmp_path / "test_some.py").write_text(body)
    report = tmp_path / "report.json"
    paths = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    environment = {**os.environ, "PYTHONPATH": paths, "SKEX_UNTIL": until, "SKEX_REPORT": str(report)}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.bounded", "--rootdir", str(tmp_path)]
    argv += ["-c", os.devnull, "-p", "no:cacheprovider", str(tmp_path / "test_some.py")]
    subprocess.run(argv, cwd=tmp_path, env=environment, check=False, capture_output=True, timeout=120)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_tests_that_begin_in_time_are_run_and_those_that_fail_are_named(tmp_path: Path) -> None:
    found = _bounded_run(tmp_path, "inf", "def test_good(): pass\ndef test_bad(): assert False\n")
    assert (found["passed"], found["not_begun"]) == (1, 0)
    assert [one.rpartition("::")[2] for one in found["failed"]] == ["test_bad"]


def test_tests_that_did_not_begin_in_time_are_counted_as_such_and_not_run(tmp_path: Path) -> None:
    found = _bounded_run(tmp_path, "0", "def test_good(): pass\ndef test_bad(): assert False\n")
    assert (found["passed"], found["failed"], found["not_begun"]) == (0, [], 2)
