"""`--transform` on the command line."""

import json
from pathlib import Path

import pytest

from overture.cli import app
from overture.errors import OvertureError


def test_show_counts_what_a_transform_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    app(["show", "stability-gap", "--transform", "sltrain", "--set", "transform.rank=32"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    found = next(line.split() for line in lines if line.strip().startswith("parameters, M"))
    layers = 4 * (4 * 256 * 256 + 3 * 256 * 704)
    kept = 4 * (4 * (32 * 512 + int(0.03 * 256 * 256)) + 3 * (32 * 960 + int(0.03 * 256 * 704)))
    dense = float(found[2])
    assert float(found[4]) == pytest.approx(dense + (kept - layers) / 1e6, abs=0.011) and found[5] == "SparseLowRank"
    app(["show", "tera:tiny", "--transform", "lora"], standalone_mode=False)
    assert "Lora" in capsys.readouterr().out


def test_run_trains_under_it(tmp_path: Path) -> None:
    words = ["--transform", "low-rank", "--set", "transform.rank=4", "--set", "loop.updates=2", "--out", str(tmp_path)]
    app(["run", "tera:tiny", *words], standalone_mode=False)
    (folder,) = tmp_path.iterdir()
    config = json.loads((folder / "run.json").read_text())["config"]
    assert config["transform"]["rank"] == 4 and "alpha" not in config["transform"]
    with pytest.raises(OvertureError, match="'low-rank'"):
        app(["run", "tera:tiny", "--transform", "lowrank", "--out", str(tmp_path)], standalone_mode=False)
