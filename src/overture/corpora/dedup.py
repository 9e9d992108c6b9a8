"""`overture data dedup`: a corpus of text without its near duplicates.

Two documents are near when the sets of their word 5-grams (case and punctuation aside) overlap by a Jaccard similarity of `near` or more. MinHash
with locality-sensitive hashing (Broder 1997; Lee et al. 2022, "Deduplicating training data makes language models better") finds the pairs to
compare, and each is then compared exactly: what is left out is near to a document that is kept, and a near pair is overlooked with a probability
below 0.1 %. In the order of the table the first of a group stays; being near is not passed on from one document to the next.

datasketch does the hashing: it needs nothing but numpy and scipy, and the pairs it finds can be compared. datatrove (0.10) was looked at and left:
its MinHash stages take one language a run and cut it into words with spaCy, compare no pair exactly, overlook 8 % of the pairs at 0.8 by default, and
join groups by single linkage, so a document can go for one that is not near to it. At the size of a cluster datatrove is what to use: it reads
the same table.parquet.
"""

import hashlib
import importlib.util
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from overture.corpora.build import Listing, Row
from overture.corpora.text import as_read, build_text
from overture.data.table import Table, about_corpus, corpora_home, find_corpus
from overture.errors import MissingExtra, OvertureError

GRAM = 5  # words of a shingle
HASHES = 128
OVERLOOKED = 1e-3  # the share of pairs at exactly the threshold that hashing may miss
CHUNK = 8192  # shingles hashed at a time, x HASHES x 4 bytes
# scripts that write no spaces count by the character
WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]|\w+")


def dedup(
    name: str,
    parent: str,
    *,
    near: float = 0.8,
    where: str | None = None,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the corpus `name` of the rows of `parent` (for which the SQL expression `where` is true) that are near to none before them.

    Returns what its corpus.json says; dropped.tsv names each row left out, the one it is near to and how near: rows read = rows kept + rows dropped,
    or nothing is written. A row without text, or with one that cannot be used, is dropped too, as what it is. Licences are copied along.
    Raises OvertureError for a corpus of speech, a threshold outside 0.3..1; MissingExtra without datasketch.
    """
    if not 0.3 <= near <= 1:
        raise OvertureError(f"--near {near:g}: the share of word {GRAM}-grams in common, from 0.3 to 1, e.g. 0.8.")
    if not importlib.util.find_spec("datasketch"):
        raise MissingExtra("dedup", "finding near duplicates")
    table = Table.open(parent, where)
    if not table.is_text:
        raise OvertureError(
            f"{parent!r} is speech, of which exact duplicates were left out when it was made; --near is for text."
        )
    if not len(table):
        raise OvertureError(f"no row of {parent!r} is left by --where {where!r}.")
    target = corpora_home() / name
    if target.exists() and target.resolve() == find_corpus(parent).resolve():
        raise OvertureError(f"{name!r} cannot be made of itself: take another name.")

    def importer(draft: Path) -> Listing:
        licences = find_corpus(parent) / "LICENCES"
        if licences.is_dir():
            shutil.copytree(licences, draft / "LICENCES")
        ids, kept = table.numpy("id"), []
        dropped: list[tuple[Row, str, str]] = []
        for index, (other, similarity) in enumerate(nearest_before(table.numpy("text").tolist(), near)):
            if other is None:
                kept.append(as_read(table.row(index)) | {"_row": int(table.rows[index]) + 1})
            else:
                what = f"shares {similarity:.2f} of its word {GRAM}-grams with {ids[other]}"
                dropped.append(({"_row": int(table.rows[index]) + 1, "id": ids[index]}, "near duplicate", what))
            if progress is not None and (index % 200 == 0 or index == len(table) - 1):
                progress(index + 1, len(table))
        made_of = {
            "from": table.name,
            "where": where,
            "fingerprint": table.fingerprint,
            "near": near,
            "gram": GRAM,
            "hashes": HASHES,
        }
        notes = {
            "about": f"{table.name} without near duplicates",
            "dedup": made_of,
            "near_duplicates_dropped": len(dropped),
        }
        if scores := about_corpus(find_corpus(parent)).get("scores"):  # of texts that stay as they were
            notes["scores"] = scores
        return Listing(rows=kept, dropped=dropped, notes=notes)

    return build_text(name, importer, replace=replace, on_problem="skip")


def nearest_before(texts: list[str | None], near: float) -> Iterator[tuple[int | None, float]]:
    """Of each text, the number and similarity of the nearest before it among those not near to any themselves; (None, 0.0) if there is none."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=HASHES, params=bands(near))
    empty = MinHash(num_perm=HASHES, hashfunc=int, seed=1)
    kept: dict[int, np.ndarray] = {}
    for number, text in enumerate(texts):
        mine = shingles(text or "")
        hashed = empty.copy()
        for start in range(0, len(mine), CHUNK):
            hashed.update_batch((mine[start : start + CHUNK] & np.uint64(0xFFFFFFFF)).tolist())
        found = [(_jaccard(mine, kept[other]), -other) for other in index.query(hashed)]
        similarity, other = max(found, default=(0.0, 0))
        if similarity >= near:
            yield -other, similarity
        else:
            index.insert(number, hashed)
            kept[number] = mine
            yield None, 0.0


def bands(near: float) -> tuple[int, int]:
    """(bands, hashes a band): as many hashes a band as leave the probability (1 - near^rows)^bands of missing a pair below `OVERLOOKED`.

    Two bands at least, as datasketch has it.
    """
    rows = max(r for r in range(1, HASHES // 2 + 1) if r == 1 or (1 - near**r) ** (HASHES // r) <= OVERLOOKED)
    return HASHES // rows, rows


def shingles(text: str) -> np.ndarray:
    """(N,) uint64, sorted: a hash of each different word 5-gram; of a shorter text, of all its words."""
    words = WORD.findall(text.casefold()) or [text]
    grams = {" ".join(words[i : i + GRAM]) for i in range(max(len(words) - GRAM + 1, 1))}
    hashes = [int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "little") for gram in grams]
    return np.unique(np.array(hashes, dtype=np.uint64))


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)
