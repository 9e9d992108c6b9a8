"""The command line as a person types it, in this process."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from overture.cli import main


class Typed(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def overture(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Typed]:
    """`overture("run", "tera:tiny")`: its exit status and what it printed. Whatever would show as a traceback is raised."""
    monkeypatch.setenv("COLUMNS", "200")

    def go(*words: object) -> Typed:
        monkeypatch.setattr(sys, "argv", ["overture", *map(str, words)])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Typed(status, *capfd.readouterr())

    return go
