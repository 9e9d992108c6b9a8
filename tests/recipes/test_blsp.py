"""overture.recipes.blsp: the published adapter, what arms share, and the traps of its sheet on published models small enough for a test."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from overture.data.render import Continuous
from overture.data.sample import Respond
from overture.data.score.continuation import Continuation, parts
from overture.data.states import EncoderStates
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.export import export, load_run
from overture.models.text import Pretrained
from overture.models.transforms import Lora
from overture.models.transforms.apply import outline
from overture.recipes import get
from overture.recipes.blsp import GO_ON, claim
from overture.run import Run
from overture.tasks.metrics import wer
from overture.train.engine import Engine
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints, read_weights
from tests.data.test_states import saved as small_whisper
from tests.models import small_lm


def test_the_published_adapter() -> None:
    run = get("blsp:published")
    assert (
        sum(p.numel() for p in outline(run).parameters()) == 47_467_520
    )  # its language model, which stays, is not counted
    assert run.model.adapter.steps(1500) == 188
    optim = run.players[0].optim
    assert (optim.lr, optim.weight_decay, optim.clip) == (5e-5, 0.05, 1.0) and round(
        optim.warmup * run.loop.updates
    ) == 997
    assert run.loop.updates * 768 == pytest.approx(8.8e6, rel=1e-4)


def test_arms_differ_in_what_they_hear_and_learn_alone() -> None:
    arms = {a.name: a.run for a in claim().study.arms}
    samples = {n: r.data.sample for n, r in arms.items()}
    bare = {replace(r, data=replace(r.data, sample=GO_ON)).fingerprint for r in arms.values()}
    assert len(bare) == 1
    assert samples["transcripts"] == replace(GO_ON, column="text")
    assert samples["continuations, exchanged"] == replace(GO_ON, exchanged=True)
    assert {s.template for s in samples.values() if isinstance(s, Respond)} == {GO_ON.template}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Whisper that hears 1 s and a Gemma, both random."""
    home = tmp_path_factory.mktemp("published")
    small_whisper(home / "whisper")
    return home / "whisper", small_lm.folder(home / "gemma")


@pytest.fixture(scope="module")
def run(published: tuple[Path, Path]) -> Run:
    whisper, gemma = published
    base, tokens = get("blsp"), Pretrained(model=str(gemma)).tokens()
    return replace(
        base,
        data=replace(base.data, where="duration BETWEEN 0.5 AND 0.99", sample=replace(GO_ON, column="text")),
        frontend=replace(base.frontend, audio=EncoderStates(model=str(whisper)), tokens=tokens),
        model=replace(base.model, lm=Pretrained(model=str(gemma))),
        plan=replace(base.plan, update=512.0, micro=512.0),
        loop=replace(base.loop, updates=3, checkpoint_every=3, precision="fp32"),
    ).settled()


def digest(tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].detach().numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / run.folder_name
    with Engine.start() as engine:
        train(run, folder, engine=engine)
    return folder


def test_the_adapter_alone_learns_and_is_stored(run: Run, trained: Path) -> None:
    with Engine.start() as engine:
        before = Trainer(run, engine).state.model
    kept = read_weights(checkpoints(trained)[-1])
    assert kept.keys() == {f"adapter.{n}" for n in before.adapter.state_dict()}
    assert all(not torch.equal(kept[f"adapter.{n}"], p) for n, p in before.adapter.named_parameters())
    _, after = load_run(trained)
    assert digest(after.lm.state_dict()) == digest(before.lm.state_dict())
    fresh = Pretrained(model=run.model.lm.model).build(run.frontend.tokens)  # type: ignore[attr-defined]
    assert digest(after.lm.state_dict()) == digest(fresh.state_dict())


def test_the_language_model_learns_by_lora(run: Run, tmp_path: Path) -> None:
    lm = replace(run.model.lm, frozen=False)  # type: ignore[attr-defined]
    player = replace(run.players[0], parameters=r"^adapter|\.(left|right)$")
    with pytest.raises(OvertureError, match=r"model\.lm\.frozen=false"):
        Trainer(replace(run, transform=Lora(rank=2)), Engine(0, 1, torch.device("cpu")))
    both = replace(run, model=replace(run.model, lm=lm), players=(player,), transform=Lora(rank=2))  # type: ignore[type-var]
    with Engine.start() as engine:
        trainer = Trainer(both, engine)
        assert {n.rpartition(".")[2] for n in trainer.parameters[0] if n.startswith("lm.")} == {"left", "right"}
        train(both, tmp_path / "run", engine=engine)
    kept, fresh = read_weights(checkpoints(tmp_path / "run")[-1]), lm.build(run.frontend.tokens).state_dict()
    moved = {n for n, v in fresh.items() if f"lm.{n}" in kept and not torch.equal(kept[f"lm.{n}"], v)}
    assert moved and all(".layers." in n and n.endswith("_proj.weight") for n in moved)


def test_a_run_is_named_after_what_it_hears_and_writes_with(
    run: Run, published: tuple[Path, Path], tmp_path: Path
) -> None:
    other = small_lm.folder(tmp_path / "gemma", seed=1)
    again = replace(run, model=replace(run.model, lm=Pretrained(model=str(other)))).settled()  # type: ignore[type-var]
    assert again.model.lm.weights != run.model.lm.weights and again.settled() == again  # type: ignore[attr-defined]
    changed = replace(run.model.lm, weights="0" * 12)  # type: ignore[attr-defined]
    with pytest.raises(OvertureError, match="has changed since"):
        changed.build(run.frontend.tokens)


def test_what_is_written_and_what_is_trained_have_one_prompt(published: tuple[Path, Path]) -> None:
    from overture.data.score.continuation import _Writer

    table = Table.open("embedded").take(np.arange(3))
    how = Continuation(model=str(published[1]))
    writer = _Writer(how, table)
    tokens = Pretrained(model=str(published[1])).tokens()
    assert parts(how.template) == (GO_ON.instruction, GO_ON.behind)
    render = Continuous(tokens.tokenizer(), tokens.special, lambda heard: 0)
    for row in (table.row(i) for i in range(3)):
        asked = render(GO_ON.like("text").prompt(row, 0))
        assert asked.ids.tolist() == writer.prompt(row["text"])


def test_targets_are_the_language_models_own(
    published: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table.open("embedded").take(np.arange(8))
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))  # what it keeps is not read again
    how = Continuation(model=str(published[1]), tokens=12, batch=3)
    found = how.ready(table).score(table)
    written, texts = (c.to_pylist() for c in (found["continuation"], table.columns.column("text")))
    assert wer(texts, written).value > 0.7
    tokens = Pretrained(model=str(published[1])).tokens()
    lm, tokenizer = Pretrained(model=str(published[1])).build(tokens).eval(), tokens.tokenizer()
    render = Continuous(tokenizer, tokens.special, lambda heard: 0)
    for i, own in enumerate(written[:3]):  # as the samples of the training ask, one token at a time
        ids = render(GO_ON.like("text").prompt(table.row(i), 0)).ids.tolist()
        new: list[int] = []
        while len(new) < 12 and tokens.special.end not in new and how.stop not in tokenizer.decode(new):
            so_far = torch.tensor([ids + new])
            new.append(int(lm.logits(lm.hidden(so_far, torch.tensor([so_far.shape[1]]))[0, -1]).argmax()))
        assert tokenizer.decode([n for n in new if n != tokens.special.end]).partition(how.stop)[0] == own


def test_chat_and_export(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer

    from overture.cli.chat import chat

    chat(trained, speech=[recording(tmp_path)] * 2, say=None, tokens=5)
    said = capsys.readouterr()
    assert len(said.out.splitlines()) >= 2
    opened, *took = said.err.splitlines()[-3:]
    assert re.fullmatch(r"ready in [\d.]+ s, [\d.]+ GB of memory", opened)
    for line in took:
        assert re.fullmatch(
            r"0\.70 s heard in [\d.]+ s, \d+ tokens read in [\d.]+ s, \d written( at [\d.]+ a second)?: [\d.]+ s; [\d.]+ GB of memory at most",
            line,
        )
    with pytest.raises(OvertureError, match="nothing-here"):
        chat(trained, speech=[tmp_path / "nothing-here.wav"], say=None, tokens=5)
    short = Table.open("embedded", "duration BETWEEN 0.5 AND 0.99")  # the encoder of this test hears no more
    monkeypatch.setattr("overture.export.speech_text.Table.open", lambda *_: short)
    out = export(trained, tmp_path / "hf")
    model = AutoModel.from_pretrained(out, trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(out, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(out)
    inputs = extractor(np.zeros(8000, np.float32), sampling_rate=16_000, padding="longest", return_tensors="pt")
    before = torch.tensor([[run.frontend.tokens.special.begin]])
    answer = model.answer(before, before[:, :0], max_new_tokens=4, **inputs)
    assert answer.shape[0] == 1 and isinstance(tokenizer.decode(answer[0]), str)
    assert "audio-text-to-text" in (out / "README.md").read_text(encoding="utf8")


def recording(folder: Path) -> Path:
    """0.7 s of noise at another rate than the encoder's."""
    path = folder / "question.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 15_435), 22_050)
    return path


def test_chat_takes_turns(trained: Path, tmp_path: Path) -> None:
    from overture.cli.chat import Conversation

    talk = Conversation(trained, "Listen:", tokens=3)
    first = talk.turn(talk.heard(recording(tmp_path)))
    assert first.audio == pytest.approx(0.7, abs=0.01) and first.hearing > 0 and first.reading > 0
    assert 1 <= first.tokens <= 3 and (first.writing > 0) == (first.tokens > 1)
    alone = Conversation(trained, "Listen:", tokens=3)
    sizes: list[int] = []
    render: Callable[..., object] = talk.render
    for one in (talk, alone):
        one.render = lambda sample, render=render: (sizes.append(len(sample)), render(sample))[1]  # type: ignore[misc, assignment]
        assert one.turn(one.read("and then")).audio == 0
    assert sizes[0] > sizes[1]  # what was said before is told again


def test_chat_is_for_runs_that_hear_and_read(tmp_path: Path) -> None:
    from overture.cli.chat import Conversation

    tera = get("tera:tiny")
    few = replace(tera.data, where="speaker = 'joe' AND duration < 1")
    tera = replace(tera, data=few, loop=replace(tera.loop, updates=1))
    with Engine.start() as engine:
        train(tera, tmp_path / "tera", engine=engine)
    with pytest.raises(OvertureError, match="does not answer to speech"):
        Conversation(tmp_path / "tera", None, 3)


def test_tokens_must_come_from_somewhere(run: Run) -> None:
    bare = replace(run.frontend, tokens=Tokens(vocabulary=300))
    with pytest.raises(OvertureError, match=r"tokens\.corpus"):
        bare.tokens.tokenizer()
