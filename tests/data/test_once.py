"""overture.data.once: one makes, the others wait and find it; what fails leaves nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from overture.data.once import made_once
from overture.errors import OvertureError


def test_it_is_made_once_and_who_comes_meanwhile_waits(tmp_path: Path) -> None:
    begun, go_on, written = threading.Event(), threading.Event(), list[Path]()

    def write(part: Path) -> None:
        written.append(part)
        begun.set()
        assert go_on.wait(30)
        (part / "source.json").write_text("{}")

    def make() -> Path:
        return made_once(tmp_path / "home" / "made", write, "the cache")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make)
        assert begun.wait(30)
        second = pool.submit(make)
        with pytest.raises(TimeoutError):
            second.result(0.3)
        go_on.set()
        folder = first.result(30)
        assert second.result(30) == make() == folder and len(written) == 1
    assert [p.name for p in folder.parent.glob("[!.]*")] == ["made"]


def test_what_fails_leaves_nothing_and_is_made_anew(tmp_path: Path) -> None:
    def full(part: Path) -> None:
        (part / "half").write_text("")
        raise OSError(28, "No space left on device")

    with pytest.raises(OvertureError, match=r"the cache .*made cannot be written: .*No space left"):
        made_once(tmp_path / "made", full, "the cache")
    assert list(tmp_path.glob("[!.]*")) == []
    folder = made_once(tmp_path / "made", lambda part: (part / "source.json").touch(), "the cache")
    assert [p.name for p in folder.iterdir()] == ["source.json"]
