"""N-gram models: counts by hand, sums to one, ARPA, and the numbers of KenLM."""

import math
import random
from importlib.util import find_spec

import pytest

from overture.errors import MissingExtra, OvertureError
from overture.recognise import lm as module
from overture.recognise.lm import BEGIN, END, FALLBACK, UNKNOWN, NGram, counts_units, sentences
from overture.recognise.units import make_units

with_kenlm = pytest.mark.skipif(find_spec("kenlm") is None, reason="needs the extra 'lm'")


@pytest.fixture
def no_kenlm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kenlm", None)


def corpus(n: int = 300) -> list[str]:
    draw = random.Random(0)
    words, weights = "abcdefghijklmnop", [1 / (i + 1) ** 1.5 for i in range(16)]
    return [" ".join(draw.choices(words, weights, k=draw.randint(1, 9))) for _ in range(n)]


def test_bigrams_by_hand():
    """Two sentences, so few that the discounts are the fallback ones: 1/2, 1 and 3/2."""
    model = NGram.estimate(["a b", "a c"], order=2)
    # different left neighbours: a 1 (<s>), b 1 (a), c 1 (a), </s> 2 (b, c); in all 5; a, b, c lose 1/2 each, </s> 1; 5 known words
    left = (3 * FALLBACK[0] + FALLBACK[1]) / 5
    unigram = dict.fromkeys("abc", (1 - FALLBACK[0]) / 5 + left / 5) | {
        END: (2 - FALLBACK[1]) / 5 + left / 5,
        UNKNOWN: left / 5,
    }
    assert math.isclose(sum(unigram.values()), 1)
    for word, p in unigram.items():
        assert math.isclose(10 ** model.tables[0][(word,)][0], p)
    # after a: b once, c once; both lose 1/2, so a half is left for the unigrams
    state = model.score(model.start(), "a")[1]
    assert state == ("a",)
    assert math.isclose(10 ** model.score(state, "b")[0], 0.5 / 2 + 0.5 * unigram["b"])
    assert math.isclose(10 ** model.score(state, "a")[0], 0.5 * unigram["a"])
    # after <s>: a twice, loses 1
    assert math.isclose(10 ** model.score(model.start(), "a")[0], (2 - 1) / 2 + 1 / 2 * unigram["a"])
    p, state = model.score(state, "zebra")
    assert math.isclose(10**p, 0.5 * unigram[UNKNOWN]) and state == ()


def test_discounts_by_hand():
    """Counts of counts 4, 3, 2, 1 of n-grams seen 1, 2, 3, 4 times: Y = 4 / 10."""
    table = module.Counter({(str(i),): count for i, count in enumerate([1] * 4 + [2] * 3 + [3] * 2 + [4])})
    assert module._discounts(table) == pytest.approx((0, 1 - 2 * 0.4 * 3 / 4, 2 - 3 * 0.4 * 2 / 3, 3 - 4 * 0.4 * 1 / 2))
    assert module._discounts(module.Counter({("a",): 1, ("b",): 2})) == (0, *FALLBACK)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_sum_to_one(order):
    model = NGram.estimate(corpus(), order)
    assert (
        module._discounts(module.Counter(g for t in corpus() for g in zip(*[t.split()[i:] for i in range(order)])))[1:]
        != FALLBACK
    )
    words = [gram[0] for gram in model.tables[0] if gram != (BEGIN,)]
    contexts = [(), *(gram for table in model.tables[:-1] for gram in table if END not in gram and UNKNOWN not in gram)]
    assert len(contexts) > 16
    for context in contexts[:: max(1, len(contexts) // 150)]:
        assert math.isclose(sum(10 ** model.score(context, word)[0] for word in words), 1, rel_tol=1e-9), context


def test_higher_orders_explain_the_training_text_better_and_unknown_words_are_counted():
    texts = corpus()
    found = [NGram.estimate(texts, order).perplexity(texts)[0] for order in (2, 3, 4)]
    assert found[0] > found[1] > found[2] > 1
    model = NGram.estimate(texts, 2)
    total = model.sentence("a b") + model.sentence("zebra")
    assert model.perplexity(["a b", "zebra"]) == (pytest.approx(10 ** (-total / 5)), pytest.approx(1 / 3))
    assert "a" in model and "zebra" not in model and UNKNOWN not in model


def test_arpa_round_trip(tmp_path, no_kenlm):
    model = NGram.estimate(corpus(), 3)
    model.write(tmp_path / "lm.arpa")
    assert [p.name for p in tmp_path.iterdir()] == ["lm.arpa"]
    again = NGram.read(tmp_path / "lm.arpa")
    assert type(again) is NGram and again.order == 3
    assert [t.keys() for t in again.tables] == [t.keys() for t in model.tables]
    for text in ["a b c", "p o zebra a", ""]:
        assert again.sentence(text) == pytest.approx(model.sentence(text), abs=1e-5)
    assert again.ahead == pytest.approx(model.ahead)


@with_kenlm
@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_gives_the_same_numbers(tmp_path, order):
    texts = [*corpus(), "кот сидит", "नमस्ते दुनिया"]
    model = NGram.estimate(texts, order)
    model.write(tmp_path / "lm.arpa")
    kenlm = NGram.read(tmp_path / "lm.arpa")
    assert isinstance(kenlm, module.KenLM) and kenlm.order == order
    draw = random.Random(1)
    for _ in range(200):
        text = " ".join(draw.choices([*"abcdefgh", "кот", "दुनिया", "zebra"], k=draw.randint(0, 7)))
        assert kenlm.sentence(text) == pytest.approx(model.sentence(text), abs=1e-4), text
        assert kenlm.sentence(text) == pytest.approx(kenlm.model.score(text), abs=1e-4)
    assert kenlm.perplexity(texts) == pytest.approx(model.perplexity(texts), rel=1e-4)
    assert kenlm.ahead == pytest.approx(model.ahead, abs=1e-5)
    assert "кот" in kenlm and "zebra" not in kenlm and UNKNOWN not in kenlm
    kenlm.write(tmp_path / "copy.arpa")
    assert (tmp_path / "copy.arpa").read_bytes() == (tmp_path / "lm.arpa").read_bytes()
    kenlm.write(tmp_path / "lm.arpa")  # onto itself
    assert NGram.read(tmp_path / "lm.arpa").order == order


def test_look_ahead_is_the_best_word_that_begins_so():
    model = NGram.estimate(["the then the", "the tea"], 2)
    p = {word: model.tables[0][(word,)][0] for word in ("the", "then", "tea")}
    assert model.ahead["t"] == max(p.values()) and model.ahead["then"] == p["then"] and model.ahead["te"] == p["tea"]
    assert "x" not in model.ahead and "<" not in model.ahead and model.ahead[UNKNOWN] == model.tables[0][(UNKNOWN,)][0]


def test_models_over_words_and_over_units():
    texts = ["The cat sat.", "A cat!", "the mat"]
    for units in (make_units("characters", texts), make_units("pieces", texts, size=20)):
        words, tokens = list(sentences(texts, units)), list(sentences(texts, units, "units"))
        assert words == ["the cat sat", "a cat", "the mat"]
        assert [t.replace(" ", "").replace("\u2581", " ").strip() for t in tokens] == words
        assert counts_units(NGram.estimate(tokens, 2), units) and not counts_units(NGram.estimate(words, 2), units)
    one_word = make_units("characters", ["cat", "tact"])  # no space among the units
    assert counts_units(NGram.estimate(sentences(["cat", "tact"], one_word, "units")), one_word)
    assert not counts_units(NGram.estimate(sentences(["cat", "tact"], one_word)), one_word)


@pytest.mark.parametrize(
    ("texts", "order", "why"),
    [([], 3, "no text"), (["", "  "], 3, "no text"), (["a"], 1, "least is 2"), (["a <s> b"], 2, "'<s>'")],
)
def test_what_cannot_be_estimated(texts, order, why):
    with pytest.raises(OvertureError, match=why):
        NGram.estimate(texts, order)


GOOD = "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\t-1\n-1\t</s>\n-1\ta\t0\n\n\\2-grams:\n-1\t<s> a\n\n\\end\\\n"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("-1\ta\t0", "x\ta\t0"), "line 9.*'x'"),
        (("-1\ta\t0", "-1\ta b c\t0"), "line 9: 5 fields"),
        (("-1\ta\t0\n", ""), r"announced \[4, 1\]"),
        (("\\2-grams", "\\3-grams"), r"line 11: \\3-grams: where \\2-grams:"),
        (("\\end\\", ""), "announced"),
        (("\\data\\", "some text"), "line 1: 'some text' outside"),
        (("-1\ta\t0", "-1\t\udcff\t0"), "invalid start byte"),
    ],
)
def test_damaged_arpa_names_the_line(tmp_path, no_kenlm, change, why):
    path = tmp_path / "lm.arpa"
    path.write_text(GOOD)
    assert NGram.read(path).order == 2
    path.write_bytes(GOOD.replace(*change).encode(errors="surrogateescape"))
    with pytest.raises(OvertureError, match=why) as caught:
        NGram.read(path)
    assert "lm.arpa" in str(caught.value)


@with_kenlm
def test_damaged_files_and_kenlm(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text("nothing of the kind")
    with pytest.raises(OvertureError, match=r"lm\.arpa is no language model"):
        NGram.read(path)


def test_missing_and_binary_files(tmp_path, no_kenlm):
    with pytest.raises(OvertureError, match="no such file"):
        NGram.read(tmp_path / "lm.arpa")
    (tmp_path / "lm.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(MissingExtra, match=r"overture\[lm\]"):
        NGram.read(tmp_path / "lm.bin")
