"""A small corpus of text: dated notes of three sources, programs, and a few lines in other languages."""

import random

import pytest

from overture.corpora.build import Listing
from overture.corpora.text import build_text
from overture.data.table import Table

GOOD = "the valve opens slowly and the pressure in the vessel falls until the spring closes it again"
BAD = "buy cheap pills now click here best price win money fast hot deal today only free"
RUDE = "you are a stupid idiot and a dirty liar shut up now"
CLEAN = 'def area(width, height):\n    """Of a rectangle."""\n    return width * height\n'
MESSY = "def area( width,height ):\n    return width*height ;\nimport os,sys\n"


def sentence(words: str, rng: random.Random) -> str:
    return " ".join(rng.choice(words.split()) for _ in range(rng.randint(5, 12))).capitalize() + "."


def rows() -> list[dict[str, object]]:
    rng = random.Random(0)
    found: list[dict[str, object]] = []
    for source, words, label in (
        ("manual", GOOD, "fine"),
        ("spam", BAD, "fine"),
        ("forum", f"{RUDE} the valve opens slowly", "rude"),
    ):
        for i in range(60):
            text = " ".join(sentence(words, rng) for _ in range(rng.randint(1, 6)))
            found.append(
                {"id": f"{source}{i}", "text": text, "source": source, "label": label, "time": f"{2000 + i % 20}-05-01"}
            )
    found += [
        {"id": "clean", "text": CLEAN, "source": "programs", "kind": "code"},
        {"id": "messy", "text": MESSY, "source": "programs", "kind": "code"},
        {"id": "broken", "text": "def f(:\n    print 1\n", "source": "programs", "kind": "code"},
        {
            "id": "contact",
            "text": "Write to jo@example.org. Or call +49 30 901820. The host is 10.0.0.1.",
            "source": "people",
        },
        {"id": "loop", "text": "The valve opens slowly and falls. " * 20, "source": "people"},
        {"id": "fr", "text": "Le chat est assis sur la table et regarde la pluie.", "source": "people"},
        {"id": "hi", "text": "यह किताब बहुत अच्छी है। मैं इसे पढ़ता हूँ।", "source": "people"},
    ]
    return found


def build(name: str) -> str:
    """The corpus under this name, made anew; returns the name."""
    build_text(name, lambda folder: Listing(rows=rows()), replace=True)
    return name


@pytest.fixture(scope="session")
def notes(overture_home: object) -> Table:
    return Table.open(build("score-notes"))
