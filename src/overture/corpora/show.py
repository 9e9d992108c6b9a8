"""What is in a corpus, of speech or of text: totals, groups and histograms, for `overture data show`."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overture.data.check import CLIPPED, SILENT
from overture.data.table import Table
from overture.errors import OvertureError, near

DURATIONS = (0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60)  # s, edges of the histogram's bins
LEVELS = tuple(range(-60, 1, 5))  # dBFS
CHARACTERS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
COLOUR = "#3b6ea5"
BARS = " ▏▎▍▌▋▊▉█"
FIGURES = """
    count(*) AS utterances, sum(duration) / 3600 AS hours, min(duration) AS shortest, median(duration) AS median, max(duration) AS longest,
    {speaker} AS speakers, {language} AS languages, {text} AS no_text, {level} AS level,
    {clipped} AS clipped, {silent} AS silent, {channels} AS stereo"""


FIGURES_OF_TEXT = """
    count(*) AS documents, sum({length})::BIGINT AS characters, min({length}) AS shortest, median({length}) AS median, max({length}) AS longest,
    {language} AS languages, {label} AS labels, count(*) - count(text) AS no_text, {time_min} AS earliest, {time_max} AS latest"""


def figures(table: Table, by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One dictionary a group of rows that are equal in the columns `by` (no column: one for all), most hours or characters first.

    Keys: the columns of `by`; of speech utterances, hours, shortest, median, longest (s), speakers, languages, no_text, level (median, dBFS),
    clipped, silent, stereo; of text documents, characters, shortest, median, longest (characters), languages, labels, no_text, earliest, latest.
    A figure whose column the corpus lacks is None. Raises OvertureError for an unknown column.
    """
    have = set(table.columns.column_names)
    for column in by:
        if column not in have:
            raise OvertureError(f"--by {column}: corpus {table.name!r} has no such column. {near(column, have)}")
    select, most = (_asked_of_text(have), "characters") if table.is_text else (_asked_of_speech(have), "hours")
    groups = ", ".join('"' + c.replace('"', '""') + '"' for c in by)
    grouped = f"GROUP BY {groups} ORDER BY {most} DESC, {groups}" if groups else ""
    query = f"SELECT {groups + ',' if groups else ''} {select} FROM rows {grouped}"
    return [dict(row) for row in table.sql(query).to_pylist()]


def _asked_of_speech(have: set[str]) -> str:
    asked = {
        "speaker": "count(DISTINCT speaker)",
        "language": "count(DISTINCT language)",
        "text": "count(*) - count(text)",
        "level": f"median(level) FILTER (level >= {SILENT})",
        "clipped": f"count(*) FILTER (clipped >= {CLIPPED})",
        "silent": f"count(*) FILTER (level < {SILENT})",
        "channels": "count(*) FILTER (channels > 1)",
    }
    if "level" not in have:
        asked["silent"] = "NULL"
    return FIGURES.format(**{c: sql if c in have or c == "silent" else "NULL" for c, sql in asked.items()})


def _asked_of_text(have: set[str]) -> str:
    distinct = {c: f"count(DISTINCT {c})" if c in have else "NULL" for c in ("language", "label")}
    time = {f"time_{f}": f"{f}(time)" if "time" in have else "NULL" for f in ("min", "max")}
    return FIGURES_OF_TEXT.format(
        length="length" if "length" in have else "coalesce(length(text), 0)", **distinct, **time
    )


def values(table: Table, column: str, most: int = 6) -> str:
    """The values of a column, most frequent first, with their shares of rows: 'en 62 %, fr 20 %, ...'; '' if the corpus lacks it."""
    if column not in table.columns.column_names or not len(table):
        return ""
    found = table.sql(f'SELECT "{column}" AS v, count(*) AS n FROM rows GROUP BY 1 ORDER BY n DESC, 1').to_pylist()
    words = [f"{'(none)' if r['v'] is None else r['v']} {_percent(r['n'], len(table))}" for r in found[:most]]
    return ", ".join(words) + (f", and {len(found) - most} more" if len(found) > most else "")


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 1 or part == 0 else "< 1 %"


def histogram(numbers: np.ndarray, edges: Sequence[float], unit: str, width: int = 40) -> list[tuple[str, int, str]]:
    """(bin, count, bar) for each bin from the first to the last that holds something."""
    inner = np.array(edges, dtype=float)
    counts = np.bincount(np.searchsorted(inner, numbers[np.isfinite(numbers)], side="right"), minlength=len(inner) + 1)
    if not counts.any():
        return []
    labels = [
        f"< {edges[0]:g}",
        *(f"{a:g} .. {b:g}" for a, b in itertools.pairwise(edges)),
        f">= {edges[-1]:g}",
    ]
    used = np.flatnonzero(counts)
    found = []
    for i in range(used[0], used[-1] + 1):
        eighths = round(counts[i] / counts.max() * width * 8)
        eighths = max(eighths, 1) if counts[i] else 0
        bar = BARS[8] * (eighths // 8) + (BARS[eighths % 8] if eighths % 8 else "")
        found.append((f"{labels[i]} {unit}", int(counts[i]), bar))
    return found


def histograms(table: Table) -> list[tuple[str, list[tuple[str, int, str]]]]:
    """(title, bins as of `histogram`): of lengths, and of speech of levels where they were measured."""
    if table.is_text:
        return [("characters", histogram(_characters(table), CHARACTERS, ""))]
    wanted = (("length", "duration", DURATIONS, "s"), ("level", "level", LEVELS, "dBFS"))
    return [
        (title, histogram(table.numpy(column).astype(float), edges, unit))
        for title, column, edges, unit in wanted
        if column in table.columns.column_names
    ]


def _characters(table: Table) -> np.ndarray:
    """(N,) the length of each text."""
    return np.array([len(text or "") for text in table.numpy("text")], dtype=float)


def plot(table: Table, path: Path) -> None:
    """Histograms of lengths and levels (of text: of years), and hours or characters by language and by speaker or label.

    As a PNG, or whatever the file's ending says.
    """
    from matplotlib.figure import Figure

    if not path.parent.is_dir():
        raise OvertureError(f"--plot {path}: the folder {path.parent} does not exist.")
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    if table.is_text:
        _plot_documents(table, axes[:2])
        amount, columns, size = (
            "characters",
            ("language", "label"),
            f"{len(table):,} documents, {table.characters:,} characters",
        )
    else:
        _plot_utterances(table, axes[:2])
        amount, columns, size = "hours", ("language", "speaker"), f"{len(table):,} utterances, {table.hours:.2f} h"
    for axis, column in zip(axes[2:], columns, strict=True):
        groups = figures(table, [column])[:15] if column in table.columns.column_names else []
        axis.barh(
            [str(g[column] or "(none)") for g in reversed(groups)], [g[amount] for g in reversed(groups)], color=COLOUR
        )
        axis.set(title=f"{amount.capitalize()} by {column}", xlabel="h" if amount == "hours" else amount)
        axis.tick_params(axis="y", labelsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x" if axis in axes[2:] else "y", color="#d9dee4", linewidth=0.6)
        axis.set_axisbelow(True)
    figure.suptitle(f"{table.name}: {size}")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise OvertureError(f"--plot {path}: {error}") from error


def _plot_utterances(table: Table, axes: Any) -> None:
    durations = table.numpy("duration").astype(float)
    top = float(np.quantile(durations, 0.995)) if len(durations) else 1.0
    axes[0].hist(np.clip(durations, 0, top), bins=50, color=COLOUR)
    axes[0].set(title="Length", xlabel=f"s (longest {durations.max(initial=0):.1f})", ylabel="utterances")
    if "level" in table.columns.column_names:
        axes[1].hist(np.clip(table.numpy("level").astype(float), -80, 0), bins=50, color=COLOUR)
    axes[1].set(title="Level", xlabel="dBFS, root mean square", ylabel="utterances")


def _plot_documents(table: Table, axes: Any) -> None:
    lengths = np.maximum(_characters(table), 1)
    axes[0].hist(lengths, bins=np.geomspace(lengths.min(), lengths.max() + 1, 51), color=COLOUR)
    axes[0].set(title="Length", xlabel="characters", ylabel="documents", xscale="log")
    years = [int(when[:4]) for when in table.numpy("time") if when] if "time" in table.columns.column_names else []
    if years:
        axes[1].hist(years, bins=np.arange(min(years), max(years) + 2) - 0.5, color=COLOUR)
    axes[1].set(title="Time" if years else "Time (not known)", xlabel="year", ylabel="documents")
