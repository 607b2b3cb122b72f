"""The benchmark: a whole realm in one process, measured for a moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from skex.cli import skex_command
from skex.cli.bench_measures import quantile

BATCH, KEY_BYTES = 8, 32


def test_establish_measures_a_whole_realm_and_leaves_nothing_behind(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    homes = tmp_path / ("deep-" * 20) / "homes"  # deeper than the path of a socket may be long
    homes.mkdir(parents=True)
    arguments = ["--batch", str(BATCH), "--depth", "2", "--seconds", "0.3", "--json"]
    places = ["--directory", str(homes), "--output", str(output)]
    done = CliRunner().invoke(skex_command, ["--debug", "bench", "establish", *arguments, *places])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert json.loads(output.read_text()) == report
    assert list(homes.iterdir()) == []
    found = report["results"]
    assert found["keys"] == BATCH * found["batches"] > 0
    assert found["batch_ms_p50"] <= found["batch_ms_p99"]
    # A share is as long as the keys: no link can carry a key for fewer pad bytes than it has.
    links = found["pad_bytes_per_key_per_link"]
    assert links["north_to_hub"] > KEY_BYTES
    assert links["south_to_kme"] > KEY_BYTES
    assert found["wire_bytes_per_key"] > found["pad_bytes_per_key"] > 10 * KEY_BYTES
    assert min(report["baselines"].values()) > 0


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.99, 10), (0.1, 1), (0.0, 1)])
def test_quantile_is_the_nearest_rank(share: float, value: int) -> None:
    assert quantile(range(1, 11), share) == value
