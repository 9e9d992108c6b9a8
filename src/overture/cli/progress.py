"""What a person sees while a run or a study works: one live line with step, loss, targets/s, health and time left."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Live:
    """Takes the records of training and the stages of a study. Off a terminal it prints a line now and then instead."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: Any = None
        self.stage = "training"
        self.printed = 0.0
        self.ill = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def preparing(self, what: str, share: float) -> None:
        """Called while features are computed."""
        self._bar(f"computing {what}", round(share * 100), 100, "")

    def record(self, record: dict[str, Any]) -> None:
        """Called with each record of the loop and each stage of a study."""
        kind = record["kind"]
        if kind == "stage":
            self._close()
            self.ill = ""
            self.stage = record["text"]
            self.console.print(f"[dim]·[/dim] {escape(self.stage)}")
        elif kind == "note":
            self.console.print(f"  [yellow]note[/yellow] {escape(record['text'])}")
        elif kind == "health":
            self.ill = record["rule"]
            self.console.print(f"[red]health[/red] {record['rule']}: {escape(record['message'])}")
        elif kind == "update":
            left = (record["updates"] - record["update"]) * record["seconds"] / record["update"]
            numbers = (
                f"loss {record['loss']:.4f}  {record['targets_per_s']:,.0f} targets/s  "
                f"health {self.ill or 'ok'}  {left // 60:.0f}:{left % 60:02.0f} left"
            )
            self._bar(self.stage, record["update"], record["updates"], numbers)
            last = record["update"] == record["updates"]
            if not self.console.is_terminal and (
                last or record["seconds"] - self.printed > 10 or record["update"] == 1
            ):
                self.printed = record["seconds"]
                self.console.print(f"  update {record['update']}/{record['updates']}  {numbers}", highlight=False)
            if last:
                self.printed = 0.0
                self._close()

    def _bar(self, text: str, done: int, total: int, numbers: str) -> None:
        if self.task is None:
            self.task = self.progress.add_task(text, total=total, numbers=numbers)
        self.progress.update(self.task, description=text, completed=done, total=total, numbers=numbers)

    def _close(self) -> None:
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None
