"""How far Python code is from PEP 8: violations that pycodestyle reports, a character, of a file and of each line.

The PEP8 score of Korbak et al. (2023, arXiv:2302.08582). pycodestyle runs once over the whole file, since most rules look at neighbouring
lines, and what it reports of a line is that line's. What it ignores by default is ignored; settings of the user's own are not read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from overture.data.score import Ready
from overture.data.score.text import are_code, column, lists, segments, texts
from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError


@dataclass(frozen=True, kw_only=True)
class Pep8:
    """`pep8` of rows of kind 'code', null for others and for files that are not Python (any more), of which the rest cannot be judged."""

    segments: bool = (
        False  # of each line too, in `pep8_segments`: a line's violations by its characters, the line feed included
    )

    @property
    def columns(self) -> tuple[str, ...]:
        return ("pep8", "pep8_segments") if self.segments else ("pep8",)

    def sources(self, table: Table) -> dict[str, Any]:
        return {"pycodestyle": str(_pycodestyle().__version__)}

    def ready(self, table: Table) -> Ready:
        """Raises OvertureError when no row is code, MissingExtra without pycodestyle."""
        check = _checker()
        if not are_code(table).any():
            raise OvertureError(
                f"no row of {table.name!r} is of kind 'code', so there are no lines to judge: when you add the corpus say --fill kind=code"
            )

        def score(rows: Table) -> dict[str, pa.Array]:
            whole: list[float | None] = []
            parts: list[list[float | None] | None] = []
            for text, code in zip(texts(rows), are_code(rows)):
                lines = segments(text, code=True) if text and code else []
                counts = check(lines) if lines else None
                whole.append(None if counts is None else sum(counts) / len(text or ""))
                parts.append(None if counts is None else [n / len(line) for n, line in zip(counts, lines)])
            return {"pep8": column(whole)} | ({"pep8_segments": lists(parts)} if self.segments else {})

        return Ready(score)


def _pycodestyle() -> Any:
    try:
        import pycodestyle
    except ImportError as error:
        raise MissingExtra("code", "the scorer pep8") from error
    return pycodestyle


def of_samples() -> Callable[[str], float]:
    """Scores texts that may be no whole programs, such as samples of a language model: violations a character, of an empty text 0.

    A sample is cut somewhere: its unfinished last line is not judged (unless it is all there is), and neither empty lines at the end nor a bracket
    or string that is still open are violations. Lines behind which Python cannot read on are the last that are judged, and counted.
    Raises MissingExtra without pycodestyle.
    """
    check = _checker(whole=False)

    def score(text: str) -> float:
        whole = (text[: text.rfind("\n") + 1] or text).rstrip("\n")
        if not whole:
            return 0.0
        lines = segments(whole + "\n", code=True)
        counts = check(lines)
        return float(sum(counts) / sum(map(len, lines[: len(counts)])))

    return score


def _checker(whole: bool = True) -> Any:
    """(lines) -> how many violations each has. Of what is not Python None, or, if it need not be `whole`, of the lines up to where that shows."""
    style = _pycodestyle()
    found: list[tuple[int, str]] = []

    class Report(style.BaseReport):  # type: ignore[name-defined]
        def error(self, line_number: int, offset: int, text: str, check: Any) -> str | None:
            code: str | None = super().error(line_number, offset, text, check)
            if code:
                found.append((line_number, code))
            return code

    options = style.StyleGuide(
        reporter=Report, ignore=style.DEFAULT_IGNORE.split(","), select=(), max_line_length=style.MAX_LINE_LENGTH,
        max_doc_length=None, indent_size=4, hang_closing=False,
    ).options  # fmt: skip

    def check(lines: list[str]) -> list[int] | None:
        found.clear()
        try:
            style.Checker(lines=list(lines), options=options).check_all()
        except IndexError:  # of pycodestyle itself, at a line that is nothing but b, f, r or u
            found.append((len(lines), "E902"))
        broken = [number for number, code in found if code.startswith("E9")]
        if whole and broken:
            return None
        counts = [0] * len(lines)
        for number, code in found:
            counts[min(max(number, 1), len(lines)) - 1] += not code.startswith("E9")
        return counts[: max(1, min(broken, default=len(lines)))]

    return check
