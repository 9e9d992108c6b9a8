"""New processes without the price of their imports: forked from one that has made them and does nothing else.

They know as little of the test's own process as any other, and end as others do. What a process finds, or how it ends, can so be
tested without paying for torch and transformers each time.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn


class Ended(NamedTuple):
    """How a process ended, as `subprocess` counts: below 0 where a signal ended it; and what it printed."""

    status: int
    said: str


class Fork:
    """A process under way."""

    def __init__(self, pid: int, out: Path) -> None:
        self.pid, self._out, self._status = pid, out, out.with_suffix(".status")

    @property
    def running(self) -> bool:
        return not self._status.exists()

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)

    def wait(self, seconds: float = 120.0) -> Ended:
        """Raises TimeoutError, and kills it, where it takes longer."""
        until = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                raise TimeoutError(self._out.read_text(encoding="utf8"))
            time.sleep(0.01)
        return Ended(int(self._status.read_text()), self._out.read_text(encoding="utf8"))


class Forks:
    """Forks processes, one after the other, from one that has executed `first`."""

    def __init__(self, folder: Path, first: str) -> None:
        self.folder, self.number = folder, 0
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[1],
        )

    def start(self, *words: str, cwd: Path | None = None) -> Fork:
        """As `python WORDS` in `cwd`: `-c CODE`, or `-m MODULE ARGUMENTS`. The one before must have ended."""
        assert self.server.stdin is not None and self.server.stdout is not None
        out = self.folder / f"{self.number}.out"
        self.number += 1
        self.server.stdin.write(json.dumps([words, str(cwd or self.folder), str(out)]) + "\n")
        self.server.stdin.flush()
        return Fork(int(self.server.stdout.readline()), out)

    def run(self, *words: str, cwd: Path | None = None) -> Ended:
        return self.start(*words, cwd=cwd).wait()

    def end(self) -> None:
        self.server.communicate(timeout=120)


def become(words: list[str], cwd: str, out: str) -> NoReturn:
    """In the fork: what `python WORDS` does."""
    status = 1
    try:
        nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, file in enumerate((nothing, written, written)):
            os.dup2(file, number)
        os.chdir(cwd)
        sys.argv = list(words[1:])
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            exec(compile(words[1], "<code>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve(first: str) -> None:
    """Fork as often as a line asks for it; each status is written when the process has ended."""
    exec(first, {})
    for line in sys.stdin:
        words, cwd, out = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(words, cwd, out)
        print(pid, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        part = Path(out).with_suffix(".part")
        part.write_text(str(status))
        part.replace(Path(out).with_suffix(".status"))


if __name__ == "__main__":
    serve(sys.argv[1])
