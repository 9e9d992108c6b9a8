"""Alphabets of any script, the loss, decoding, transcripts that do not fit."""

import unicodedata

import pytest
import torch
import torch.nn.functional as F

from overture.errors import OvertureError
from overture.tasks.ctc import (
    Alphabet,
    CTCHead,
    Infeasible,
    ctc_loss_sum,
    ctc_losses,
    frames_needed,
    greedy_decode,
    infeasible,
    normalise,
)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Hello,\tWORLD!  It’s well-known. ", "hello world it's well known"),
        ("Cafe\u0301 Stra\u00dfe", "caf\u00e9 stra\u00dfe"),  # NFC
        ("ÇA VA, İSTANBUL", "ça va, i̇stanbul".replace(",", "")),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),  # vowel signs and virama are marks
        ("می‌خواهم", "میخواهم"),  # zero-width non-joiner
        ("co\u00adop", "coop"),
        ("你好，世界 123", "你好 世界"),
        ("...", ""),
    ],
)
def test_normalise(raw, clean):
    assert normalise(raw) == unicodedata.normalize("NFC", clean) and normalise(normalise(raw)) == normalise(raw)


def test_alphabet_round_trip(tmp_path):
    texts = ["Привет, мир", "नमस्ते दुनिया", "It's a test"]
    alphabet = Alphabet.of(texts)
    assert len(alphabet) == len(set("".join(map(normalise, texts)))) + 1
    for text in texts:
        ids = alphabet.encode(text, row="r")
        assert min(ids) >= 1 and max(ids) < len(alphabet) and alphabet.decode(ids) == normalise(text)
    alphabet.save(tmp_path / "alphabet.json")
    assert Alphabet.load(tmp_path / "alphabet.json") == alphabet
    assert [p.name for p in tmp_path.iterdir()] == ["alphabet.json"]


def test_unknown_characters_name_the_row():
    alphabet = Alphabet.of(["abc"])
    with pytest.raises(OvertureError, match=r"row 'utt-7'.*'ж' \(CYRILLIC SMALL LETTER ZHE\)"):
        alphabet.encode("abж", row="utt-7")
    assert alphabet.decode(alphabet.encode("a ж b", row="utt-7", drop=True)) == "ab"


@pytest.mark.parametrize("content", ["[]", "{", '{"characters": ["ab"]}', '{"characters": ["a", "a"]}', '{"other": 1}'])
def test_damaged_alphabet(tmp_path, content):
    path = tmp_path / "alphabet.json"
    path.write_text(content)
    with pytest.raises(OvertureError, match=r"alphabet\.json"):
        Alphabet.load(path)


def test_alphabet_needs_letters():
    with pytest.raises(OvertureError, match="no letters"):
        Alphabet.of(["12 3", "..."])


def test_greedy_decoding_merges_and_stops_at_the_length():
    path = torch.tensor([[1, 1, 0, 1, 2, 2, 3, 3], [0, 0, 0, 0, 4, 4, 4, 4], [2, 2, 0, 2, 0, 0, 0, 0]])
    scores = F.one_hot(path, 5).float()
    assert greedy_decode(scores, torch.tensor([6, 4, 8])) == [[1, 1, 2], [], [2, 2]]


def test_loss_is_a_sum_over_characters_and_ignores_padding():
    torch.manual_seed(0)
    logits = torch.randn(3, 12, 6)
    targets, sizes = torch.tensor([[1, 2, 3], [4, 4, 0], [0, 0, 0]]), torch.tensor([3, 2, 0])
    lengths = torch.tensor([12, 9, 5])
    total, count = ctc_loss_sum(logits, lengths, targets, sizes)
    assert count == 3 + 2 + 1  # an empty transcript counts as one
    alone = [
        ctc_losses(logits[i : i + 1, :n], lengths[i : i + 1], targets[i : i + 1], sizes[i : i + 1])
        for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(total, torch.cat(alone).sum())
    empty = -logits[2, :5].log_softmax(-1)[:, 0].sum()
    torch.testing.assert_close(alone[2][0], empty)


def test_infeasible_transcripts_are_exactly_those_of_infinite_loss():
    alphabet = Alphabet.of(["abl"])
    rows = []
    for text in ("ball", "baal", "bbaall", "lab", ""):
        ids = alphabet.encode(text, row=text)
        for frames in range(1, 10):
            loss = ctc_losses(
                torch.zeros(1, frames, len(alphabet)),
                torch.tensor([frames]),
                torch.tensor([ids]).long(),
                torch.tensor([len(ids)]),
            )
            assert bool(torch.isinf(loss)) == bool(infeasible([(text, frames, ids)])), (text, frames)
        rows.append((text, 5, ids))
    assert frames_needed(alphabet.encode("ball", row="")) == 5
    assert infeasible(rows) == [Infeasible("bbaall", 5, 9)]


def test_head_fine_tunes_an_encoder_on_a_planted_alignment():
    torch.manual_seed(0)
    alphabet = Alphabet.of(["abcd"])
    encoder, head = torch.nn.Linear(8, 16), CTCHead(16, alphabet, dropout=0.0)
    codes = torch.randn(len(alphabet), 8)
    targets = torch.randint(1, len(alphabet), (6, 4))
    frames = torch.stack([targets, torch.zeros_like(targets)], 2).flatten(1)  # each character, then a blank
    x = codes[frames]
    optim = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)
    lengths, sizes = torch.full((6,), 8), torch.full((6,), 4)
    for _ in range(150):
        total, count = ctc_loss_sum(head(encoder(x)), lengths, targets, sizes)
        optim.zero_grad()
        (total / count).backward()
        optim.step()
    assert greedy_decode(head(encoder(x)), lengths) == targets.tolist()
