"""overture.data.score.pep8.of_samples: a number for whatever a language model may write."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.score.pep8 import of_samples


@pytest.mark.parametrize(
    ("text", "count", "characters"),
    [
        ("", 0, 1),
        ("x = 1\n", 0, 6),
        ("x=1\n", 1, 4),  # E225
        ("x = 1", 0, 6),  # where it was cut is no violation
        ("x=1", 1, 4),
        ("x = 1\n\n\n", 0, 6),
        ("x=1\ny=", 1, 4),  # the line that was being written is not judged
        ("def f(a,b):\n    return (a\n", 1, 26),  # E231, and a bracket that is still open
        ("x=1\ny = '''a\n  b\n", 1, 13),  # a string that is: what is in it is not judged
        ("if x:\n    y = 1\n  z=2\nq=1\n", 0, 22),  # an indentation that is none; nothing is read behind it
    ],
)
def test_violations_of_a_sample(text: str, count: int, characters: int) -> None:
    assert of_samples()(text) == pytest.approx(count / characters)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab1 =(,:)'\"\\\n\t#\r\x00é", max_size=40))
def test_every_text_has_a_score(text: str) -> None:
    score = of_samples()(text)
    assert math.isfinite(score) and score >= 0
