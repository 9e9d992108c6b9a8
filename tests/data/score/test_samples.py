"""overture.data.score.pep8.of_samples: a number for whatever a language model may write."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.score.pep8 import of_samples


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("x = 1\n", 0),
        ("x=1\n", 1),  # E225
        ("x = 1", 1),  # W292
        ("def f(a,b):\n    return (a\n", 2),  # E231, and the bracket that is left open
        ("if x:\n    y = 1\n  z = 2\nq=1\n", 1),  # an indentation that is none; nothing is read behind it
    ],
)
def test_violations_of_a_sample(text: str, count: int) -> None:
    assert of_samples()(text) * len(text) == pytest.approx(count)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab1 =(,:)'\"\\\n\t#\r\x00é", max_size=40))
def test_every_text_has_a_score(text: str) -> None:
    score = of_samples()(text)
    assert math.isfinite(score) and score >= 0
