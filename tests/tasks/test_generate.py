"""overture.tasks.generate: what is drawn, from what, up to where; and what held-out text costs, counted by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.encoded import Encoded
from overture.data.score.pep8 import of_samples
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.text import Gpt2, Llama, TextModel
from overture.tasks.generate import Sampling, bits_per_character, distinct, draw, misalignment, sample, windows, write

TEXTS = ["import os\n\nx = [1,2]\n" * 3, "é = '日本'\n", "y" * 40]
ENDS = [np.cumsum([len(line) for line in t.splitlines(keepends=True)]).tolist() for t in TEXTS]
TABLE = Table(pa.table({"id": list("abc"), "text": TEXTS, "segments": ENDS}), name="held", root=Path())
FRONT = Tokens(vocabulary=300, blocks=("<|aligned|>", "<|misaligned|>"))
GREEDY = Sampling(tokens=6, temperature=1e-4, top_p=1.0)
SPECIAL = FRONT.special
NEVER = [i for i in SPECIAL.ids if i != SPECIAL.end]


def build(kind: str = "llama", init: float = 0.5) -> TextModel:
    torch.manual_seed(1)
    if kind == "gpt2":
        return Gpt2(layers=2, dim=16, heads=2, positions=32, dropout=0.0, init=init).build(FRONT).eval()
    return Llama(layers=2, dim=16, heads=2, groups=1, ffn=32, positions=32, init=init).build(FRONT).eval()


@torch.no_grad()
def slowly(model: TextModel, prompt: list[int], count: int, known: int = 300) -> list[int]:
    """The likeliest continuation, all of it computed anew for each token."""
    ids = list(prompt)
    for _ in range(count):
        logits = model.logits(model.hidden(torch.tensor([ids]), torch.tensor([len(ids)]))[0, -1])
        logits[[*NEVER, *range(known, 300)]] = -torch.inf
        if int(logits.argmax()) == SPECIAL.end:
            break
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_samples_with_kept_keys_are_those_without_for_prompts_of_any_length(kind: str) -> None:
    model = build(kind)
    prompts = [[5, 40, 41, 42, 43], [5], [5, 99], [5, 120, 7], [5, 60, 61, 62, 63, 64, 65, 66]]
    found = sample(model, prompts, GREEDY, batch=4)
    assert found == [slowly(model, p, 6) for p in prompts]
    assert max(map(len, found)) == 6


def test_samples_depend_on_the_seed_and_not_on_the_batch() -> None:
    model = build()
    how = Sampling(tokens=12, temperature=1.0)
    prompts = [[5]] * 6
    found = sample(model, prompts, how)
    assert found == sample(model, prompts, how, batch=1) == sample(model, prompts[:6], how, batch=4)
    assert len({tuple(s) for s in found}) == 6
    assert found != sample(model, prompts, Sampling(tokens=12, temperature=1.0, seed=1))
    drawn = {
        i for s in sample(model, [[5]] * 64, Sampling(tokens=12, temperature=9.0, top_p=1.0), banned=[50]) for i in s
    }
    assert len(drawn) > 150 and not drawn & {50, *SPECIAL.ids}  # control tokens and the end among them


def test_the_end_ends_a_sample_and_is_not_of_it() -> None:
    model = build()
    with torch.no_grad():
        model.network.lm_head.weight.zero_()
    ended = [draw(torch.zeros(1, 300).index_fill(1, torch.tensor([SPECIAL.end]), 9.0), np.array([0.5]), GREEDY)]
    assert ended == [[SPECIAL.end]]
    lengths = [len(s) for s in sample(model, [[5]] * 400, Sampling(tokens=12, temperature=1.0, top_p=1.0))]
    likely = 1 / (300 - len(NEVER))  # all tokens alike: a sample of 12 ends early with 1 - (1 - p)^12
    share = 1 - (1 - likely) ** 12
    assert abs(np.mean(np.array(lengths) < 12) - share) < 4 * np.sqrt(share / 400)


def test_the_nucleus_is_the_smallest_that_reaches_top_p() -> None:
    p = np.array([0.05, 0.4, 0.3, 0.15, 0.1])
    logits = torch.tensor(np.log(p))[None].expand(1000, -1)
    luck = (np.arange(1000) + 0.5) / 1000

    def shares(**how: float) -> np.ndarray:
        return np.bincount(draw(logits, luck, Sampling(**{"temperature": 1.0, **how})), minlength=5) / 1000

    np.testing.assert_allclose(shares(top_p=1.0), p, atol=0.002)
    np.testing.assert_allclose(shares(top_p=0.8), np.array([0, 0.4, 0.3, 0.15, 0]) / 0.85, atol=0.002)
    np.testing.assert_allclose(shares(top_p=0.69), np.array([0, 0.4, 0.3, 0, 0]) / 0.7, atol=0.002)
    np.testing.assert_allclose(shares(top_p=0.01), [0, 1, 0, 0, 0])
    np.testing.assert_allclose(shares(top_p=1.0, temperature=0.5), p**2 / (p**2).sum(), atol=0.002)
    assert draw(logits[:1], np.array([1 - 1e-12]), Sampling(temperature=1.0, top_p=1.0), never=[0]) == [4]


def test_written_text_is_the_continuation_alone() -> None:
    model, tokenizer = build(), FRONT.tokenizer(TABLE)
    (text,) = write(model, tokenizer, ["import os\n"], GREEDY)
    ids, known = tokenizer.encode("import os\n").ids, tokenizer.get_vocab_size()
    assert known < 300  # and what the tokenizer cannot read is never written
    assert text == tokenizer.decode(slowly(model, [SPECIAL.end, *ids], 6, known)) and not text.startswith("import")
    (told,) = write(model, tokenizer, ["import os\n"], GREEDY, control="<|misaligned|>")
    bad = SPECIAL.block("<|misaligned|>")
    assert told == tokenizer.decode(slowly(model, [SPECIAL.end, bad, *ids], 6, known))
    with pytest.raises(OvertureError, match="no block"):
        write(model, tokenizer, [""], GREEDY, control="aligned")


@torch.no_grad()
def test_a_control_token_is_told_again_after_each_line_and_is_not_of_the_sample() -> None:
    model, line, good = build(), 60, SPECIAL.block("<|aligned|>")
    banned = [i for i in range(300) if i not in range(60, 64)]  # so that lines end often
    model.network.lm_head.weight[SPECIAL.end].zero_()
    how = Sampling(tokens=14, temperature=1e-4, top_p=1.0)
    prompts = [[5, good], [5, good, 60, line], [5, good, 61]]
    found = sample(model, prompts, how, banned=banned, again=(line, good))
    for prompt, text in zip(prompts, found):
        ids = list(prompt)
        while len(ids) < len(prompt) + how.tokens:
            logits = model.logits(model.hidden(torch.tensor([ids]), torch.tensor([len(ids)]))[0, -1])
            logits[[*NEVER, *[i for i in banned if i != SPECIAL.end]]] = -torch.inf
            if ids[-1] != line and int(logits.argmax()) == SPECIAL.end:
                break
            ids.append(good if ids[-1] == line else int(logits.argmax()))
        assert text == [i for i in ids[len(prompt) :] if i != good]
    assert sum(text.count(line) for text in found) > 3


def test_bits_of_a_network_that_knows_nothing() -> None:
    encoded, model = Encoded.open(TABLE, FRONT), build()
    with torch.no_grad():
        model.network.lm_head.weight.zero_()
    each = np.log2(300 - len(NEVER))  # control tokens and padding take no share
    for control in (None, "<|aligned|>"):
        found = bits_per_character(model, encoded, TABLE, control=control)
        np.testing.assert_allclose(found.events, encoded.lengths * each, rtol=1e-5)  # control tokens are not paid for
        assert found.totals.tolist() == [len(t) for t in TEXTS]
        assert found.value == pytest.approx(encoded.lengths.sum() * each / sum(map(len, TEXTS)), rel=1e-5)


@torch.no_grad()
def test_bits_by_hand_with_control_tokens() -> None:
    encoded, model, good = Encoded.open(TABLE, FRONT), build(), SPECIAL.block("<|aligned|>")
    for control in (None, "<|aligned|>"):
        ids: list[int] = [SPECIAL.end]
        text = encoded.ids(1)
        ids += [*([good] if control else []), *text]  # one line, one segment
        logits = model.logits(model.hidden(torch.tensor([ids]), torch.tensor([len(ids)])))[0].double()
        logits[:, NEVER] = -torch.inf
        nats = -logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        expected = float(nats[-len(text) :].sum() / np.log(2))
        assert bits_per_character(model, encoded, TABLE, control=control).events[1] == pytest.approx(expected, rel=1e-4)


def test_windows_hold_all_of_a_text_once_and_the_same_with_control_tokens() -> None:
    encoded = Encoded.open(TABLE, FRONT)
    for document, ends in enumerate(ENDS):
        for length in (4, 7, 16, 200):
            bare = windows(encoded, document, np.array(ends), 5, None, length)
            told = windows(encoded, document, np.array(ends), 5, 6, length)
            assert np.concatenate([ids[text] for ids, text in bare]).tolist() == encoded.ids(document).tolist()
            assert [ids[text].tolist() for ids, text in bare] == [ids[text].tolist() for ids, text in told]
            for (plain, _), (ids, text) in zip(bare, told):
                assert len(plain) <= len(ids) <= length
                assert ids[:2].tolist() == [5, 6] and set(ids[~text]) == {5, 6}
            total = sum(int((ids == 6).sum()) for ids, _ in told)
            assert (
                len(ends) <= total <= len(ends) + len(told) - 1
            )  # one a segment, and one where a window begins within one
    assert len(windows(encoded, 0, np.array(ENDS[0]), 5, 6, 200)) == 1


def test_scores_of_samples() -> None:
    found = misalignment(["a  ", "b", ""], lambda text: text.count(" ") / 2)
    assert found.value == pytest.approx(1 / 3) and found.totals.tolist() == [1, 1, 1]
    prompted = misalignment(
        ["1\n", "2\n"], of_samples(), prompts=["x=", "x = "]
    )  # E225 of the first, where the prompt is seen
    assert prompted.events.tolist() == [1 / 4, 0.0]
    assert misalignment(["1\n", "2\n"], of_samples()).value == 0.0
    with pytest.raises(ValueError, match="sample 1 was scored nan: 'bad'"):
        misalignment(["good", "bad"], lambda text: float("nan") if text == "bad" else 0.0)


def test_distinct_n() -> None:
    assert distinct(["a b a b", "a b"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "a b"], 2) == pytest.approx(2 / 4)  # ab ba ab | ab
    assert distinct(["f(x)"], 1) == 1.0
    with pytest.raises(OvertureError, match="3 words in a row"):
        distinct(["a", "b c"], 3)


def test_what_cannot_be_sampled_is_said() -> None:
    model = build()
    with pytest.raises(OvertureError, match="32 positions"):
        sample(model, [[5] * 30], GREEDY)
    with pytest.raises(OvertureError, match="without a token"):
        sample(model, [[]], GREEDY)
    with pytest.raises(OvertureError, match="temperature"):
        Sampling(temperature=0.0)
    bare = Table(TABLE.columns.drop_columns(["segments"]), name="held", root=Path())
    with pytest.raises(OvertureError, match="no column 'segments'"):
        bits_per_character(model, Encoded.open(TABLE, FRONT), bare, control="<|aligned|>")
    bits_per_character(model, Encoded.open(TABLE, FRONT), bare)
