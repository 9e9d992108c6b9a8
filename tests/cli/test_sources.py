"""`overture models` as a person types it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overture.cli import app
from overture.errors import OvertureError
from overture.models import sources

run = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "110")
    return tmp_path / "models"


def test_list_says_what_is_here_and_what_can_be_got(home: Path) -> None:
    out = run.invoke(app, ["models", "list"]).output
    assert "To be got: overture models get MODEL" in out and "Here" not in out
    assert all(name in out for name in sources.SOURCES) and "72.6 M" in out and "133 MB" in out
    words = " ".join(out.split())
    assert "licence: MIT; single uploader" in words and "8-bit ONNX [needs overture[onnx]]" in words
    (home / "yamnet").mkdir(parents=True)
    for name in sources.SOURCES["yamnet"].files:
        (home / "yamnet" / name).touch()
    here, _, rest = run.invoke(app, ["models", "list"]).output.partition("To be got")
    assert "Here" in here and "yamnet" in here and "whisper-base" not in here and "whisper-base" in rest


def test_get_installs_one_after_another(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def get(name: str, replace: bool) -> Path:
        asked.append((name, replace))
        return home / name

    monkeypatch.setattr(sources, "get", get)
    out = run.invoke(app, ["models", "get", "yamnet", "whisper-base", "--replace"]).output
    assert asked == [("yamnet", True), ("whisper-base", True)]
    assert f"whisper-base: 72.6 M parameters, MIT, in {home / 'whisper-base'}" in out and "do not pass it on" in out


def test_get_of_what_is_unknown_says_what_there_is() -> None:
    result = run.invoke(app, ["models", "get", "yamnett"])
    assert isinstance(result.exception, OvertureError) and "Did you mean 'yamnet'" in str(result.exception)


def test_listing_loads_no_torch() -> None:
    code = "import sys; from overture.cli import app; app(['models', 'list'], standalone_mode=False); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
