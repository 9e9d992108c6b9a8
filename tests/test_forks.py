"""tests.forks: what is forked is as new as any process, and ends as it would."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .forks import Forks


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    made = Forks(tmp_path, "import sys; sys.modules['overture'] = None; import decimal; decimal.mark = 1")
    yield made
    made.end()


def test_a_fork_is_a_process_of_its_own(forks: Forks, tmp_path: Path) -> None:
    code = "import decimal, os, sys; print(decimal.mark, os.getcwd(), 'torch' in sys.modules); decimal.mark += 1"
    for _ in range(2):  # the second knows nothing of the first
        assert forks.run("-c", code, cwd=tmp_path) == (0, f"1 {tmp_path} False\n")
    assert forks.run("-c", "import os; print(os.getpid())").said != f"{os.getpid()}\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import sys; print('a'); sys.exit(3)", 3, "a"),
        ("raise SystemExit('no')", 1, ""),
        ("import overture", 1, "ModuleNotFoundError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_it_ends_as_a_process_does(forks: Forks, code: str, status: int, said: str) -> None:
    ended = forks.run("-c", code)
    assert ended.status == status and said in ended.said


def test_it_can_be_killed_and_takes_its_time(forks: Forks) -> None:
    process = forks.start("-m", "timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)")
    time.sleep(0.1)
    assert process.running
    process.send(signal.SIGKILL)
    assert process.wait() == (-signal.SIGKILL, "")
    process.send(signal.SIGKILL)  # no error
    with pytest.raises(TimeoutError):
        forks.start("-c", "import time; time.sleep(60)").wait(0.2)
    assert forks.run("-m", "timeit", "-n", "1", "-r", "1", "pass").status == 0
