"""A language model that hears: vectors stand where slots are, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from overture.data.batch import Batch
from overture.data.features import LogMel
from overture.data.render import Rendered, SpokenText, packed
from overture.data.sample import Heard
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.adapters import ConvGlu, PoolLinear
from overture.models.speech_text import SpeechText, SpeechTextModel
from overture.models.text import Llama
from overture.objectives.answers import Answers, answer_losses
from overture.train.samples import spoken

FRONTEND = SpokenText(audio=LogMel(mels=20), tokens=Tokens(vocabulary=300))
SPEC = SpeechText(
    adapter=ConvGlu(kernels=(3, 3), bottleneck=8), lm=Llama(layers=2, dim=32, heads=2, ffn=64, positions=128)
)


@pytest.fixture
def model() -> SpeechTextModel:
    torch.manual_seed(0)
    return SPEC.build(FRONTEND).eval()


def rendered(*parts: int | list[int], learn: int = 2) -> Rendered:
    """Numbers are slots of a recording, lists are ids; the last `learn` ids are learnt."""
    ids = np.concatenate([[0] * p if isinstance(p, int) else p for p in parts]).astype(np.int64)
    numbers = iter(range(9))
    audio = np.concatenate([[next(numbers)] * p if isinstance(p, int) else [-1] * len(p) for p in parts])
    learnt = np.arange(len(ids)) >= len(ids) - learn
    heard = tuple(Heard(i) for i in range(sum(isinstance(p, int) for p in parts)))
    return Rendered(ids, learnt, audio, heard)


def features(*lengths: int) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, 20, generator=generator).numpy() for n in lengths]


def batch(*parts: Rendered, source: list[np.ndarray]) -> Batch:
    return spoken(list(parts), source, FRONTEND)


def test_vectors_stand_in_their_slots(model: SpeechTextModel) -> None:
    source = features(11, 22)
    slots = [SPEC.adapter.steps(n) for n in (11, 22)]
    both = batch(rendered([5, 9], slots[0], [7], slots[1], [8, 5]), source=source)
    found = model.vectors(both)
    assert both.audio is not None and both.audio_lengths is not None
    (heard,), steps = model.states(both.audio, both.audio_lengths)
    assert steps.tolist() == slots
    torch.testing.assert_close(found[0, 2 : 2 + slots[0]], heard[0, : slots[0]])
    first = 3 + slots[0]
    torch.testing.assert_close(found[0, first : first + slots[1]], heard[1, : slots[1]])
    words = [0, 1, 2 + slots[0], found.shape[1] - 2, found.shape[1] - 1]
    torch.testing.assert_close(found[0, words], model.lm.embed(both.x)[0, words])


def test_more_slots_than_vectors(model: SpeechTextModel) -> None:
    with pytest.raises(OvertureError, match="7 slots for 3 vectors"):
        model.vectors(batch(rendered([5], 7, [8, 5]), source=features(11)))


def test_a_batch_is_its_samples_one_by_one(model: SpeechTextModel) -> None:
    source = features(11, 30)
    parts = [
        rendered([5, 9], SPEC.adapter.steps(11), [7, 8, 5]),
        rendered([5, 60, 61], SPEC.adapter.steps(30), [99, 5]),
    ]
    parts[1] = Rendered(parts[1].ids, parts[1].learnt, parts[1].audio, (Heard(1),))
    text = rendered([5, 17, 18, 19])
    together = batch(*parts, text, source=source)
    alone = [batch(p, source=source) for p in (*parts, text)]
    _, each = answer_losses(model, model.hidden(together), together)
    single = torch.cat([answer_losses(model, model.hidden(b), b)[1] for b in alone])
    torch.testing.assert_close(each, single, rtol=1e-4, atol=1e-5)


def test_labels_that_are_not_learnt_change_nothing(model: SpeechTextModel) -> None:
    source = features(11)
    part = rendered([5, 9], SPEC.adapter.steps(11), [7, 8, 5])
    given = batch(part, source=source)
    loss = Answers()(model, given, None)  # type: ignore[arg-type]
    assert int(loss.targets) == 2
    other = given.x.clone()
    other[0, 2 : 2 + SPEC.adapter.steps(11)] = 123  # what stands at the slots of speech
    again = Answers()(model, replace(given, x=other), None)  # type: ignore[arg-type]
    torch.testing.assert_close(loss.sum, again.sum)


def test_what_is_heard_matters_and_teaches_the_adapter(model: SpeechTextModel) -> None:
    part = rendered([5, 9], SPEC.adapter.steps(11), [7, 8, 5])
    one, other = features(11, 11)
    losses = []
    for source in ([one], [other], [one * 0]):
        loss = Answers()(model, batch(part, source=source), None)  # type: ignore[arg-type]
        losses.append(loss.sum.item())
    assert len({round(x, 5) for x in losses}) == 3
    model.lm.requires_grad_(False)
    Answers()(model, batch(part, source=[one]), None).sum.backward()  # type: ignore[arg-type]
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.adapter.parameters())
    assert all(p.grad is None for p in model.lm.parameters())


def test_after_training_speech_of_another_or_silence_costs_more() -> None:
    """Four things are said, each answered its way; on utterances that were not trained. The language model stays as it is, and random,
    with weights so large that what it reads decides what it says."""
    torch.manual_seed(0)
    assert isinstance(SPEC.lm, Llama)
    model = replace(SPEC, lm=replace(SPEC.lm, init=0.4)).build(FRONTEND)
    generator = np.random.default_rng(0)
    kinds = generator.normal(0, 1, (4, 20))
    answers = generator.integers(10, 290, (4, 2)).tolist()

    def said(kind: int) -> np.ndarray:
        steps = int(generator.integers(9, 14))
        return np.asarray(kinds[kind] + generator.normal(0, 0.3, (steps, 20)), dtype=np.float32)

    def given(source: list[np.ndarray]) -> Batch:
        parts = [rendered([5, 9], SPEC.adapter.steps(len(source[i])), [7, *answers[i]]) for i in range(4)]
        return batch(*(Rendered(p.ids, p.learnt, p.audio, (Heard(i),)) for i, p in enumerate(parts)), source=source)

    def cost(source: list[np.ndarray]) -> torch.Tensor:
        loss = Answers()(model, given(source), None)  # type: ignore[arg-type]
        return loss.sum / loss.targets

    model.lm.requires_grad_(False)
    optimizer = torch.optim.Adam(model.adapter.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        cost([said(k) for k in range(4)]).backward()
        optimizer.step()
    with torch.no_grad():
        held = [said(k) for k in range(4)]
        own, other, silence = (float(cost(s)) for s in (held, held[1:] + held[:1], [h * 0 for h in held]))
    assert own + 0.3 < min(other, silence)


def test_packed_samples_do_not_see_each_other(model: SpeechTextModel) -> None:
    source = features(11, 15)
    parts = [rendered([5, 9], SPEC.adapter.steps(11), [7, 8, 5]), rendered([5, 60], SPEC.adapter.steps(15), [99, 5])]
    parts[1] = Rendered(parts[1].ids, parts[1].learnt, parts[1].audio, (Heard(1),))
    whole, document = packed(parts)
    one = spoken([whole], source, FRONTEND, [document])
    _, each = answer_losses(model, model.hidden(one), one)
    apart = batch(*parts, source=source)
    _, want = answer_losses(model, model.hidden(apart), apart)
    learnt = {int(i) for i in torch.nonzero(one.channels["learnt"][0]).flatten()}
    assert len(each) == len(learnt)
    torch.testing.assert_close(each, want, rtol=1e-4, atol=1e-5)


def test_answers_do_not_depend_on_the_batch(model: SpeechTextModel) -> None:
    source = features(11, 30)
    parts = [rendered([5, 9], SPEC.adapter.steps(11), [7]), rendered([5, 60, 61], SPEC.adapter.steps(30), [99])]
    parts[1] = Rendered(parts[1].ids, parts[1].learnt, parts[1].audio, (Heard(1),))
    together = model.answer(batch(*parts, source=source), 6)
    alone = [model.answer(batch(p, source=source), 6)[0] for p in parts]
    assert together == alone and all(0 < len(a) <= 6 for a in alone)
    # Greedy: the first is the likeliest after the last token.
    given = batch(parts[0], source=source)
    assert alone[0][0] == int(model.lm.logits(model.hidden(given)[0, -1]).argmax())


def test_pooled_vectors(model: SpeechTextModel) -> None:
    other = SpeechText(adapter=PoolLinear(pool=4), lm=SPEC.lm).build(FRONTEND)
    part = rendered([5], PoolLinear(pool=4).steps(10), [8, 5])
    assert other.hidden(batch(part, source=features(10))).shape == (1, 3 + 3, 32)


def test_the_published_adapter_has_its_parameters() -> None:
    with torch.device("meta"):
        adapter = ConvGlu().build(768, 4096)
    assert sum(p.numel() for p in adapter.parameters()) == 47_467_520 and ConvGlu().steps(1500) == 188
