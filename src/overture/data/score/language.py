"""Which language a text is in, by byte n-grams and naive Bayes: py3langid, 97 languages, its model inside (Lui and Baldwin 2012)."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from overture.data.score import Ready
from overture.data.score.text import column, texts
from overture.data.table import Table
from overture.errors import MissingExtra

LOOK = 5_000  # characters of a document that are read


@dataclass(frozen=True, kw_only=True)
class Language:
    """`language_id`, an ISO 639-1 code, and `language_p`, its probability; null for a text without an n-gram that it knows.

    What the corpus says (`language`) is left alone. Of a few words the probability is low, and deserves to be.
    """

    columns = ("language_id", "language_p")

    def sources(self, table: Table) -> dict[str, Any]:
        _langid()
        return {"py3langid": version("py3langid")}

    def ready(self, table: Table) -> Ready:
        """Raises MissingExtra without py3langid."""
        langid = _langid().LanguageIdentifier
        known = langid.from_model_file("data/model.npz.xz", norm_probs=True)
        nothing = known.classify("")[1]  # the probability that it gives when it has seen nothing

        def one(text: str | None) -> tuple[str | None, float | None]:
            code, p = known.classify((text or "")[:LOOK])
            return (None, None) if p <= nothing * (1 + 1e-6) else (code, p)

        def score(rows: Table) -> dict[str, pa.Array]:
            found = [one(text) for text in texts(rows)]
            return {
                "language_id": pa.array([c for c, _ in found], pa.string()),
                "language_p": column([p for _, p in found]),
            }

        return Ready(score)


def _langid() -> Any:
    try:
        from py3langid import langid
    except ImportError as error:
        raise MissingExtra("language", "the scorer language") from error
    return langid
