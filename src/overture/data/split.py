"""Dividing a corpus into parts (train, dev, test) that share no speaker, no text, or neither; recorded, so that it can be used again.

Rows that share a value of `by` go to the same part, and equal recordings (by hash) always do. Values of the column `text` are compared without
case, punctuation and spacing. With several columns in `by` the rows that no assignment can keep apart are an error, or are left out
(`cross="drop"`): in a corpus where every speaker reads the same sentences, disjoint in both means to lose some of each.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from overture import jsonfile
from overture.data.overlap import overlapping
from overture.data.table import Table, about_corpus, find_corpus
from overture.errors import OvertureError, near

PARTS = {"train": 0.7, "dev": 0.1, "test": 0.2}  # shares of the rows, wherever a task is learnt and scored


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which rows of a corpus belong to which part."""

    corpus: str
    fingerprint: str  # of the table that was divided
    rule: dict[str, Any]  # parts, by, stratify, seed, method, cross
    rows: dict[str, np.ndarray]  # part -> (N,) int64 row indices within that table, ascending
    left_out: int  # rows in no part
    counts: dict[
        str, dict[str, float]
    ]  # part -> rows, hours (of text: characters), and how many distinct speakers, languages

    def table(self, table: Table, part: str) -> Table:
        """The rows of one part. Raises OvertureError for a table other than the one that was divided, or an unknown part."""
        self._same(table)
        if part not in self.rows:
            raise OvertureError(f"the split of {self.corpus!r} has no part {part!r}. {near(part, self.rows)}")
        return table.take(self.rows[part])

    def _same(self, table: Table) -> None:
        if table.fingerprint != self.fingerprint:
            raise OvertureError(
                f"this split was made of {self.corpus!r} as it was then (fingerprint {self.fingerprint}), not of the {len(table)} "
                f"rows of {table.name!r} now ({table.fingerprint}). Use the same corpus and --where, or split again."
            )

    def save(self, path: Path, table: Table) -> None:
        """Writes the split as JSON, with the ids of its rows so that it can be read by eye and by other programs."""
        self._same(table)
        ids = table.numpy("id")
        record = {
            "corpus": self.corpus, "fingerprint": self.fingerprint, "rule": self.rule, "counts": self.counts, "left_out": self.left_out,
            "ids": {part: ids[rows].tolist() for part, rows in self.rows.items()},
        }  # fmt: skip
        jsonfile.write(path, record)

    @classmethod
    def load(cls, path: Path, table: Table) -> Self:
        """The split recorded at `path`. Raises OvertureError when it is none, or one of other data than `table`."""
        try:
            record = json.loads(path.read_text(encoding="utf8"))
            ids: dict[str, list[str]] = record["ids"]
            fields = {k: record[k] for k in ("corpus", "fingerprint", "rule", "counts", "left_out")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OvertureError(f"{path} is not a recorded split ({type(error).__name__}: {error}).") from error
        at = {key: i for i, key in enumerate(table.numpy("id"))}
        found = cls(rows={}, **fields)
        found._same(table)
        for part, keys in ids.items():
            lacking = [key for key in keys if key not in at]
            if lacking:
                raise OvertureError(
                    f"{path}, part {part!r}: {len(lacking)} ids are not in {table.name!r}, the first {lacking[0]!r}. Split again."
                )
            found.rows[part] = np.array(sorted(at[key] for key in keys), dtype=np.int64)
        return found


def same_recordings(table: Table, others: Sequence[Table]) -> np.ndarray:
    """(N,) bool: the rows of `table` that are recordings of one of `others`: of equal samples (by hash), the same row of the same corpus,
    made of one by 'overture data derive', or of the same seconds of the same file, as 'overture data cut' makes them; of text, the same
    document. So pre-training and test rows are disjoint where none is true.

    Raises OvertureError where that cannot be told, since a corpus has no hashes.
    """
    known: set[str] = set()
    for other in others:
        related = _origins(table) & _origins(other)
        lacking = [t.name for t in (table, other) if "sha1" not in t.columns.column_names and not t.is_text]
        if lacking and not related:
            raise OvertureError(
                f"whether {table.name!r} and {other.name!r} share recordings cannot be told: {lacking[0]!r} has no column 'sha1'. Import it "
                "with 'overture data add'."
            )
        known.update(*_recordings(other))
    out = np.array([not known.isdisjoint(keys) for keys in _recordings(table)], dtype=bool)
    return out if table.is_text else out | overlapping(table, [other for other in others if not other.is_text])


def _recordings(table: Table) -> list[set[str]]:
    """Of each row, what tells that two rows are the same recording: the hash of its samples, and its id in each corpus that it came through.

    Of a document, the hash of its text without case, punctuation and spacing, as a split compares texts.
    """
    names = sorted(_origins(table))
    if table.is_text:
        hashes = np.array([_text_hash(v) for v in table.numpy("text")], dtype=object)
    else:
        hashes = table.numpy("sha1") if "sha1" in table.columns.column_names else np.full(len(table), None)
    found = []
    for key, sha1 in zip(table.numpy("id"), hashes):
        found.append({f"{name}/{key}" for name in names} | ({str(sha1)} if sha1 is not None else set()))
    return found


def _text_hash(text: str | None) -> str | None:
    plain = normal(text)
    return hashlib.sha1(plain.encode()).hexdigest() if plain else None


def _origins(table: Table) -> set[str]:
    """The corpus of a table, and those that it was derived from, as far as they are here."""
    found: set[str] = set()
    waiting = {table.name}
    if "derived_from" in table.columns.column_names:
        waiting |= {v for v in table.numpy("derived_from") if v is not None}
    while waiting:
        name = waiting.pop().partition("~")[0]  # a selection that a study keeps is named so
        if name in found:
            continue
        found.add(name)
        try:
            parent = about_corpus(find_corpus(name)).get("derived", {}).get("from")
        except OvertureError:  # not here any more
            continue
        waiting |= {parent} if parent else set()
    return found


def normal(text: str | None) -> str:
    """A text without case, punctuation and spacing: 'Oh,  OK!' -> 'oh ok'."""
    plain = unicodedata.normalize("NFKC", text or "").casefold()
    plain = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain)  # M: vowel signs
    return " ".join(plain.split())


def split(
    table: Table,
    parts: Mapping[str, float],
    *,
    by: str | Sequence[str] = (),
    stratify: str | None = None,
    seed: int = 0,
    method: Literal["balanced", "hash"] = "balanced",
    cross: Literal["error", "drop"] = "error",
) -> Split:
    """Divides the rows of `table` into `parts` ({name: share}, shares of rows, summing to 1).

    `by`: columns whose values may not be in two parts, e.g. "speaker", "text", ("speaker", "text"), "prompt". `stratify`: a column whose values
    are to be in every part in equal shares, e.g. the speaker for speaker identification, together with by="text". `method`: "balanced" meets the
    shares as closely as the groups allow; "hash" draws each group by its own name alone, so that a corpus that grows keeps its old rows where they
    were. `cross`: what to do with rows that belong to two parts where `by` has several columns.
    The same arguments give the same split on every machine. Raises OvertureError when it cannot be done, with the reason.
    """
    columns = (by,) if isinstance(by, str) else tuple(by)
    if len(parts) < 2 or any(share <= 0 for share in parts.values()) or abs(sum(parts.values()) - 1) > 1e-3:
        raise OvertureError(f"parts {dict(parts)}: give two or more shares above 0 that sum to 1.")
    keys = {c: _keys(table, c) for c in columns}
    strata = np.zeros(len(table), dtype=np.int64)
    if stratify is not None:
        strata = np.unique([str(v) for v in _known(table, stratify)], return_inverse=True)[1]
    shares = np.array(list(parts.values())) / sum(parts.values())
    draw = _Draw(shares=shares, names=list(parts), seed=seed, method=method)
    same = [_keys(table, "sha1")] if "sha1" in table.columns.column_names else []
    if len(columns) > 1 and cross == "drop":
        groups = _groups([keys[columns[0]], *same])
        part = draw(groups, strata, _names(table, columns[0], groups), columns[0])
        for column in columns[1:]:
            part = _follow(part, _groups([keys[column], *same]), shares)
    else:
        groups = _groups([*keys.values(), *same])
        part = draw(
            groups, strata, _names(table, columns[0] if columns else "id", groups), " and ".join(columns) or "row"
        )
    rows = {name: np.flatnonzero(part == p) for p, name in enumerate(parts)}
    empty = [name for name in parts if len(rows[name]) == 0]
    if empty:
        raise OvertureError(
            f"no row is left for {', '.join(empty)} in a split of {table.name!r} by {' and '.join(columns)}. Take fewer parts or less in `by`."
        )
    if stratify is not None:
        _every_stratum(table, stratify, strata, part, list(parts))
    rule = {
        "parts": dict(parts),
        "by": list(columns),
        "stratify": stratify,
        "seed": seed,
        "method": method,
        "cross": cross,
    }
    counts = {name: _counts(table.take(chosen)) for name, chosen in rows.items()}
    left_out = int((part < 0).sum())
    return Split(
        corpus=table.name, fingerprint=table.fingerprint, rule=rule, rows=rows, left_out=left_out, counts=counts
    )


def divide(table: Table, parts: Mapping[str, str], *, apart: Sequence[str] = ()) -> Split:
    """Divides the rows of `table` by the SQL expression of each part, as a corpus's own train, dev and test: {name: expression}.

    Parts earlier in `parts` are what is learnt from: of these, a row is left out that is the same recording as a row of a later part, or has the same
    text where `apart` names the text. Values of the other columns in `apart` that parts do share are counted, in `rule["shared"]`.
    Raises OvertureError for rows in two parts, and a part without rows.
    """
    chosen = [set(table.where(expression).numpy("id")) for expression in parts.values()]
    names, ids = list(parts), table.numpy("id")
    part = np.full(len(table), -1, dtype=np.int64)
    for p, members in enumerate(chosen):
        inside = np.array([i in members for i in ids], dtype=bool)
        if (twice := inside & (part >= 0)).any():
            first = int(np.argmax(twice))
            raise OvertureError(
                f"row {ids[first]!r} of {table.name!r} is in two parts, {names[part[first]]} and {names[p]}"
            )
        part[inside] = p
    kept = [c for c in ("sha1", *apart) if c in ("sha1", "text") and c in table.columns.column_names]
    before = part.copy()
    for column in kept:
        values = values_of(table, column)
        for p in reversed(range(1, len(names))):
            later = set(values[part >= p]) - {""}
            part[(part >= 0) & (part < p) & np.array([v in later for v in values])] = -1
    rows = {name: np.flatnonzero(part == p) for p, name in enumerate(names)}
    if empty := [name for name in names if len(rows[name]) == 0]:
        raise OvertureError(f"no row of {table.name!r} is left for {', '.join(f'{e} ({parts[e]})' for e in empty)}")
    shared = {}
    for column in (c for c in apart if c not in kept and c in table.columns.column_names):
        values = values_of(table, column)
        inside_parts = [set(values[r]) - {""} for r in rows.values()]
        shared[column] = len({v for i, a in enumerate(inside_parts) for b in inside_parts[i + 1 :] for v in a & b})
    by = [c for c in kept if c != "sha1"] + [c for c, n in shared.items() if n == 0]
    return Split(
        corpus=table.name,
        fingerprint=table.fingerprint,
        rule={"parts": dict(parts), "by": by, "shared": shared},
        rows=rows,
        left_out=int(((before >= 0) & (part < 0)).sum()),
        counts={name: _counts(table.take(found)) for name, found in rows.items()},
    )


def values_of(table: Table, column: str) -> np.ndarray:
    """(N,) the value of each row as text, comparable between tables: of "text" as `normal` has it; "" where there is none."""
    words = ["" if v is None or v != v else normal(v) if column == "text" else str(v) for v in table.numpy(column)]
    return np.array(words, dtype=object)


def _counts(table: Table) -> dict[str, float]:
    size = {"characters": table.characters} if table.is_text else {"hours": round(table.hours, 4)}
    found: dict[str, float] = {"rows": len(table), **size}
    for column in ("speaker", "language"):
        if column in table.columns.column_names:
            found[f"{column}s"] = len({v for v in table.numpy(column) if v is not None})
    return found


def _known(table: Table, column: str) -> np.ndarray:
    values = table.numpy(column)
    lacking = sum(v is None or v != v for v in values)
    if lacking:
        raise OvertureError(
            f"{lacking} of {len(table)} rows of {table.name!r} have no {column}, so they cannot be divided by it. Leave them out: "
            f'--where "{column} IS NOT NULL".'
        )
    return values


def _keys(table: Table, column: str) -> np.ndarray:
    """(N,) the number of each row's value; -1 where a row has no text or hash and so shares it with nobody."""
    values = table.numpy(column) if column in ("text", "sha1") else _known(table, column)
    words = [normal(v) for v in values] if column == "text" else ["" if v is None else str(v) for v in values]
    codes = np.unique(words, return_inverse=True)[1].astype(np.int64)
    codes[np.array([w == "" for w in words], dtype=bool)] = -1
    return codes


def _groups(keys: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) the number of the group of each row: rows that share any key, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(keys[0]) if keys else 0
    if not n:
        raise OvertureError("there are no rows to split.")
    rows, nodes, first = [], [], n
    for codes in keys:
        known = np.flatnonzero(codes >= 0)
        rows.append(known)
        nodes.append(codes[known] + first)
        first += int(codes.max(initial=-1)) + 1
    row, node = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(row), dtype=bool), (row, node)), shape=(first, first))
    labels: np.ndarray = connected_components(graph, directed=False)[1][:n]
    return np.unique(labels, return_inverse=True)[1]


def _names(table: Table, column: str, groups: np.ndarray) -> np.ndarray:
    """A name for each group that does not depend on what else is in the corpus: the first of its values in the order of letters."""
    values = table.numpy(column)
    ids = table.numpy("id")
    words = np.array([normal(v) if column == "text" else str(v) for v in values], dtype=object)
    words = np.where(words == "", ids, words)
    order = np.lexsort((words.astype(str), groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return np.asarray(words[order][starts])


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """Gives each group a part."""

    shares: np.ndarray  # (P,) summing to 1
    names: list[str]
    seed: int
    method: str

    def __call__(self, groups: np.ndarray, strata: np.ndarray, names: np.ndarray, what: str) -> np.ndarray:
        """(N,) part of each row, from its group (N,), its stratum (N,) and the groups' names (G,)."""
        if len(names) < len(self.shares):
            raise OvertureError(
                f"{len(self.shares)} parts cannot be made of {len(names)} group{'s' * (len(names) != 1)} that differ in {what}. "
                "Take fewer parts, or split by something else."
            )
        luck = np.array([_hash(f"{self.seed}:{name}") for name in names])  # (G,) in [0, 1)
        if self.method == "hash":
            part = np.minimum(np.searchsorted(np.cumsum(self.shares), luck, side="right"), len(self.shares) - 1)
        else:
            part = self._balanced(groups, strata, np.argsort(luck, kind="stable"))
        return np.asarray(part[groups], dtype=np.int64)

    def _balanced(self, groups: np.ndarray, strata: np.ndarray, order: np.ndarray) -> np.ndarray:
        """(G,) parts: groups of several rows in the order of the draw, each where most is lacking; single rows then fill up exactly, by stratum."""
        count = int(groups.max()) + 1
        size = np.bincount(groups, minlength=count)
        want = self.shares[:, None] * np.bincount(strata)[None, :]  # (P, S) rows
        have = np.zeros_like(want)
        part = np.full(count, -1, dtype=np.int64)
        by_group = np.argsort(groups, kind="stable")
        begins = np.concatenate([[0], np.cumsum(size)])
        taken = np.zeros(len(self.shares), dtype=np.int64)
        several = order[size[order] > 1]
        smallest = want.sum(axis=1).min()  # rows; groups above it first, while the parts that can take them are empty
        large = [*several[size[several] > smallest], *several[size[several] <= smallest]]
        for left, g in zip(range(len(large), 0, -1), large, strict=True):
            inside = np.bincount(strata[by_group[begins[g] : begins[g + 1]]], minlength=want.shape[1])
            need = (((want - have) / want) * inside).sum(axis=1)
            free = np.flatnonzero(taken == 0)
            if len(large) == count and left <= len(free):  # as many groups left as parts without any
                need[taken > 0] = -np.inf
            elif (
                fits := (want - have).sum(axis=1) >= size[g]
            ).any():  # a speaker of 500 utterances is no test set of 100
                need[~fits] = -np.inf
            p = int(np.argmax(need))
            part[g], have[p], taken[p] = p, have[p] + inside, taken[p] + 1
        single = order[size[order] == 1]
        stratum = strata[by_group[begins[single]]]
        for s in np.unique(stratum):
            here = single[stratum == s]
            part[here] = np.repeat(np.arange(len(self.shares)), _quota(want[:, s] - have[:, s], len(here), have[:, s]))
        return part


def _quota(need: np.ndarray, n: int, have: np.ndarray) -> np.ndarray:
    """(P,) how many of `n` rows each part gets: by what it needs, by largest remainder, and one at least where it has none and n allows it."""
    need = np.maximum(need, 1e-9)
    exact = need / need.sum() * n
    quota: np.ndarray = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: n - quota.sum()]] += 1
    for p in np.flatnonzero((quota == 0) & (have == 0)):
        if n >= len(need):
            quota[np.argmax(quota)] -= 1
            quota[p] += 1
    return quota


def _follow(part: np.ndarray, groups: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Gives each group of rows one of the parts that they are in already, so that little is lost and the shares stay; the others become -1."""
    table = np.zeros((int(groups.max()) + 1, len(shares)), dtype=np.int64)
    np.add.at(table, (groups[part >= 0], part[part >= 0]), 1)
    only = (table > 0).sum(axis=1) == 1
    where = np.where(only, table.argmax(axis=1), -1)
    have = table[only].sum(axis=0).astype(float)
    for g in np.flatnonzero(~only & (table.sum(axis=1) > 0)):
        options = np.flatnonzero(table[g])
        p = options[np.argmin(have[options] / shares[options])]
        where[g] = p
        have[p] += table[g, p]
    return np.asarray(np.where(part == where[groups], part, -1))


def _every_stratum(table: Table, column: str, strata: np.ndarray, part: np.ndarray, names: list[str]) -> None:
    values = table.numpy(column)
    for p, name in enumerate(names):
        lacking = np.setdiff1d(np.unique(strata), strata[part == p])
        if len(lacking):
            some = [f"{values[strata == s][0]!r} ({int((strata == s).sum())} rows)" for s in lacking[:5]]
            raise OvertureError(
                f"part {name!r} got none of {len(lacking)} values of {column}: {', '.join(some)}{', ...' * (len(lacking) > 5)}. "
                f"They have too few rows to be in every part: leave them out with --where, or do not stratify."
            )


def _hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def take_minutes(table: Table, rows: np.ndarray, minutes: float, target: str | None = None) -> np.ndarray:
    """So many of `rows`, in a fixed random order, as make up `minutes`; with `target`, one of each of its values first.

    Fewer minutes are some of those of more. Raises OvertureError when the rows do not last that long.
    """
    order, classes = _drawn(table, rows, target)
    total = np.cumsum(table.numpy("duration")[order]) / 60
    if total[-1] < minutes:
        raise OvertureError(f"{minutes:g} minutes of labels were asked for, the training rows have {total[-1]:.1f}")
    count = int(np.searchsorted(total, minutes)) + 1
    if count < classes:
        raise OvertureError(
            f"{minutes:g} minutes of labels hold {count} rows, fewer than the {classes} values of {target!r}; "
            f"one of each lasts {total[classes - 1]:.2f} minutes"
        )
    return np.sort(order[:count])


def take_rows(table: Table, rows: np.ndarray, count: int, target: str | None = None) -> np.ndarray:
    """`count` of `rows`, as `take_minutes` takes them. Raises OvertureError when there are not so many, or too few for one of each value."""
    order, classes = _drawn(table, rows, target)
    if len(order) < count:
        raise OvertureError(f"{count} labelled rows were asked for, the training rows are {len(order)}")
    if count < classes:
        raise OvertureError(f"{count} labelled rows are fewer than the {classes} values of {target!r}")
    return np.sort(order[:count])


def _drawn(table: Table, rows: np.ndarray, target: str | None) -> tuple[np.ndarray, int]:
    """`rows` in a fixed random order, with one of each value of `target` first; and how many values there are (0: no target)."""
    order = np.random.default_rng(0).permutation(rows)
    if target is None:
        return order, 0
    first = np.unique([str(v) for v in table.numpy(target)[order]], return_index=True)[1]
    return np.concatenate([order[np.sort(first)], np.delete(order, first)]), len(first)
