"""overture.data.score.continuation: what the language model writes by itself, the same in any batch, and kept when a command is killed."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from overture.config import override
from overture.data.score import continuation as module
from overture.data.score import scorer
from overture.data.score.annotate import annotate, score
from overture.data.score.continuation import STOP, TEMPLATE, Continuation, parts
from overture.data.table import Table, about_corpus, find_corpus
from overture.errors import OvertureError
from tests.models import small_lm

TEXTS = [
    "the cat sat",
    "a dog ran up",
    None,
    "press one now",
    "the cat",
    "a dog ran after the cat on the mat",
    "",
    "the cat",
]
TEMPLATE_HERE = 'one: "{text}"\nnow:'


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_lm.folder(tmp_path_factory.mktemp("lm") / "small", seed=2, tie_word_embeddings=False)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    return Table(pa.table({"id": [str(i) for i in range(len(TEXTS))], "text": TEXTS}), name="said", root=Path())


def how(small: Path, **changes: object) -> Continuation:
    fields = {"model": str(small), "template": TEMPLATE_HERE, "stop": "t", "tokens": 12, "batch": 4} | changes
    return Continuation(**fields)  # type: ignore[arg-type]


def lines(home: Path) -> list[list[object]]:
    (path,) = (home / "continuations").iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def slowly(small: Path, text: str, tokens: int, stop: str) -> tuple[str, bool]:
    """One token at a time, all of it read anew for each."""
    from overture.models.text import Pretrained

    spec = Pretrained(model=str(small)).tokens()
    tokenizer, special = spec.tokenizer(None), spec.special
    before, after = TEMPLATE_HERE.split("{text}")
    model = AutoModelForCausalLM.from_pretrained(small).eval()
    ids = [
        special.begin,
        *(i for part in (before, text, after) for i in tokenizer.encode(part, add_special_tokens=False).ids),
    ]
    new: list[int] = []
    with torch.inference_mode():
        while len(new) < tokens:
            new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
            if new[-1] == special.end:
                return tokenizer.decode(new[:-1]), True
            if stop in tokenizer.decode(new):
                return tokenizer.decode(new).partition(stop)[0], True
    return tokenizer.decode(new), False


def test_it_is_what_the_model_writes_one_by_one_in_any_batch(small: Path, table: Table, tmp_path: Path) -> None:
    of = how(small)
    ready = of.ready(table)
    found = {k: v.to_pylist() for k, v in ready.score(table).items()}
    assert list(found) == ["continuation", "continuation_ended"]
    for text, *one in zip(TEXTS, *found.values()):
        assert tuple(one) == (slowly(small, text, 12, "t") if text else (None, None))
    ended = [e for e in found["continuation_ended"] if e is not None]
    assert set(ended) == {True, False}  # or it shows nothing
    assert ready.notes == {
        "without_text": 2,
        "too_long": 0,
        "cut": ended.count(False),
        "empty": found["continuation"].count(""),
    }
    assert len(lines(tmp_path)) == 5  # a text that comes twice is gone on with once
    (tmp_path / "continuations").rename(tmp_path / "before")
    again = {k: v.to_pylist() for k, v in how(small, batch=1).ready(table).score(table).items()}
    assert again == found


def test_those_that_have_ended_are_let_go(small: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a batch costs as much as if all went on to the last token."""
    of = how(small, tokens=2 * module.STRIDE)
    writer = module._Writer(of, table)
    read: list[int] = []
    generate = writer.network.generate

    def spied(**given: torch.Tensor) -> object:
        read.append(len(given["input_ids"]))
        return generate(**given)

    monkeypatch.setattr(writer.network, "generate", spied)
    texts = [t for t in dict.fromkeys(TEXTS) if t]
    found = writer.write([writer.prompt(t) for t in texts])
    early = [slowly(small, t, module.STRIDE, "t")[1] for t in texts]
    assert 0 < sum(early) < len(early)  # or it shows nothing
    assert read == [len(early), early.count(False)] and all(ended for (_, ended), e in zip(found, early) if e)


def test_longer_prompts_get_nothing_and_are_counted(small: Path, table: Table) -> None:
    writer = module._Writer(how(small), table)
    longest = len(writer.prompt("the cat sat"))
    ready = how(small, longest=longest).ready(table)
    written = ready.score(table)["continuation"].to_pylist()
    assert [w is not None for w in written] == [bool(t) and len(writer.prompt(t)) <= longest for t in TEXTS]
    assert ready.notes["too_long"] == sum(bool(t) and len(writer.prompt(t)) > longest for t in TEXTS) > 0


class Killed(BaseException):
    pass


def test_killed_and_resumed_is_never_killed(
    small: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = how(small, batch=2)
    whole = {k: v.to_pylist() for k, v in score(of, table).items()}
    (kept,) = (tmp_path / "continuations").iterdir()
    kept.unlink()
    write, batches = module._Writer.write, []

    def dying(self: module._Writer, prompts: list[list[int]]) -> list[tuple[str, bool]]:
        batches.append(len(prompts))
        if len(batches) == 2:
            raise Killed
        return write(self, prompts)

    monkeypatch.setattr(module._Writer, "write", dying)
    with pytest.raises(Killed):
        score(of, table)
    assert len(lines(tmp_path)) == 2
    with kept.open("a") as file:
        file.write('["half of a li')  # a kill in the middle of a write
    resumed = {k: v.to_pylist() for k, v in score(of, table).items()}
    assert resumed == whole and batches == [2, 2, 2, 1] and len(lines(tmp_path)) == 5
    kept.write_text("[1]\n")
    with pytest.raises(OvertureError, match=r"is damaged .* Delete it"):
        score(of, table)


def test_in_a_corpus_with_what_made_it(small: Path, table: Table) -> None:
    table.save("said")
    done = annotate("said", {"continuation": how(small)})
    assert done.made == ("continuation", "continuation_ended")
    record = about_corpus(find_corpus("said"))["scores"]["continuation"]
    assert record["settings"]["template"] == TEMPLATE_HERE and record["notes"]["without_text"] == 2
    assert set(record["sources"]["weights"]) == {"name", "files"}
    assert annotate("said", {"continuation": how(small)}).made == ()
    other = small_lm.folder(small.parent / "other", seed=1)
    with pytest.raises(OvertureError, match=r"made by continuation with model .*other.*weights"):
        annotate("said", {"continuation": how(other)})


def test_templates() -> None:
    assert parts(TEMPLATE_HERE) == ('one: "', '"\nnow:')
    before, after = parts(TEMPLATE)
    assert before + "{text}" + after == TEMPLATE and scorer("continuation").stop == STOP  # type: ignore[attr-defined]
    for wrong in ("no place", "{text} and {text}"):
        with pytest.raises(OvertureError, match=r"the transcript stands where {text} is, once"):
            Continuation(template=wrong)
    with pytest.raises(OvertureError, match="are 1 at least"):
        override(Continuation(), {"tokens": "0"})


def test_the_index_and_the_template_need_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from overture.data.score.continuation import TEMPLATE, parts; print({'torch', 'transformers', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
