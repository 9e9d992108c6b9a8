"""`overture finetune` as a person types it: from scratch, from a run, what it says of the data, what it leaves."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.data.table import Table
from overture.recognise.recogniser import Recogniser
from overture.tasks import decoding

from .conftest import Typed

Overture = Callable[..., Typed]
FEW = "language = 'en' and speaker in ('joe', 'bob', 'tam', 'bud', 'ed') and duration between 0.8 and 1.2"
QUICK = ("--data", "embedded", "--where", FEW, "--updates", "3", "--rates", "1e-3,3e-3")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(decoding, "TUNED_ON", 300)  # frames
    return tmp_path


def folder_in(said: str) -> Path:
    (line,) = [x for x in said.splitlines() if x.startswith("overture transcribe")]
    assert line.startswith("overture transcribe FILE... --model ")
    return Path(line.split("--model ")[1].strip())


def test_from_scratch_and_again(overture: Overture, elsewhere: Path) -> None:
    first = overture("finetune", "tera:tiny", *QUICK)
    assert first.status == 0, first.err
    folder = folder_in(first.out)
    assert folder.parent == Path("runs") and f"recogniser: {folder}" in first.out
    assert "decoding" in first.out and "greedy" in first.out and "CER" in first.out and "WER" in first.out
    assert "language model over words, order 3" in first.out and "language model over units, order 6" in first.out
    about = json.loads((folder / "recogniser.json").read_text())
    greedy = about["scores"]["greedy"]
    low, high = greedy["cer"]["ci95"]
    assert low <= greedy["cer"]["value"] <= high and f"{greedy['wer']['value']:.3f}" in first.out
    assert len(about["scores"]["dev"]["language_models"]) in (8, 11, 14) and set(about["scores"]["dev"]["rates"]) == {
        "0.001", "0.003"
    }  # fmt: skip
    loaded = Recogniser.load(folder)
    assert (loaded.lm is None) == (len(about["scores"]) == 3)
    config = json.loads((folder / "run.json").read_text())["config"]
    optim = config["players"][0]["optim"]
    assert (optim["decay"], optim["warmup"], optim["hold"], optim["final"]) == ("exponential", 0.1, 0.4, 0.05)
    assert config["start"] is None and config["players"][0]["frozen_updates"] == 0  # nothing random is kept frozen
    again = overture("finetune", "tera:tiny", *QUICK)
    assert again.status == 0 and folder_in(again.out) == folder and "update 3/3" not in again.out
    assert json.loads((folder / "recogniser.json").read_text()) == about


def test_from_a_run_that_has_heard_the_test_rows(overture: Overture, elsewhere: Path) -> None:
    ran = overture("run", "tera:tiny", "--where", FEW, "--set", "loop.updates=2", "--out", "mine")
    assert ran.status == 0, ran.err
    (start,) = (elsewhere / "mine").iterdir()
    lines = elsewhere / "more.txt"
    text = Table.open("embedded", FEW).numpy("text")
    lines.write_text("\n".join(["a line of more text", "", *text]), encoding="utf8")
    answer = overture(
        "finetune", "mine/" + start.name, *QUICK, "--updates", "10", "--label-minutes", "0.15", "--lm-text", lines,
        "--units", "pieces", "--size", "60", "--augment", "speed=[0.9,1.1]", "--seed", "3",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    folder = folder_in(answer.out)
    assert folder.parent == Path("mine")
    config = json.loads((folder / "run.json").read_text())["config"]
    assert config["start"] == start.name and config["seed"] == 3 and config["data"]["augment"]["speed"] == [0.9, 1.1]
    assert config["players"][0]["frozen_updates"] == 1 and "vocabulary" in config["model"]["units"]
    assert "pre-training has heard" in answer.out and "lines are not in the language model" in answer.out
    assert "0.2 min of training speech" in answer.out


def test_problems_are_told_by_row_and_kept(overture: Overture, elsewhere: Path) -> None:
    """A corpus of one voice, with rows that are silent, without text, and with more text than frames."""
    spoken = elsewhere / "spoken"
    spoken.mkdir()
    rng = np.random.default_rng(0)
    words = ("ba", "do", "ke", "lu", "mi", "nat")
    lines = ["audio\ttext"]
    for i in range(40):
        wave = rng.normal(size=16_000) * (1e-5 if i == 4 else 0.1)
        sf.write(spoken / f"{i}.wav", wave, 16_000)
        text = " ".join(rng.choice(words, 3)) + f" {words[i % 6]}{words[i // 6 % 6]}" + " [/3]" * (i == 4)
        lines.append(f"{i}.wav\t{'' if i == 5 else text + ' lu' * 90 if i == 6 else text}")
    (elsewhere / "spoken.tsv").write_text("\n".join(lines) + "\n", encoding="utf8")
    added = overture("data", "add", "one-voice", spoken, "--transcripts", elsewhere / "spoken.tsv")
    assert added.status == 0, added.err
    answer = overture("finetune", "tera:tiny", "--data", "one-voice", "--updates", "2", "--rates", "1e-3")
    assert answer.status == 0, answer.err
    assert "1 of 40 rows have no transcript" in answer.out and "5.wav" in answer.out
    assert "the same voices are in training and test" in answer.out
    assert "[/3]" in answer.out and "1 x digits" in answer.out
    assert "1 x silent" in answer.out or "1 x too many units" in answer.out
    problems = (folder_in(answer.out) / "problems.tsv").read_text(encoding="utf8").splitlines()
    assert problems[0].split("\t") == ["row", "file", "field", "kind", "what", "way out"]
    kinds = {line.split("\t")[3]: line.split("\t")[1] for line in problems[1:]}
    assert kinds["silent"].endswith("4.wav")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["terra:tiny", *QUICK], "no recipe 'terra'. Did you mean 'tera'"),
        (["tera:tny", *QUICK], "no size 'tny'. Did you mean 'tiny'?"),
        (["tera:tiny", *QUICK, "--units", "letters"], "no units 'letters'"),
        (["tera:tiny", *QUICK, "--units", "phones"], "need a language"),
        (["tera:tiny", *QUICK, "--rates", "fast"], "write numbers parted by commas"),
        (["tera:tiny", *QUICK, "--rates", "1e-3,1e-3"], "different numbers between 0 and 1"),
        (["tera:tiny", *QUICK, "--augment", "sped=[1.0]"], "no field 'sped'. Did you mean 'speed'"),
        (["tera:tiny", *QUICK, "--augment", "speed=[9.0]"], "augment.speed"),
        (["tera:tiny", *QUICK, "--lm-text", "nowhere.txt"], "--lm-text nowhere.txt cannot be read"),
        (["tera:tiny", *QUICK, "--label-minutes", "600"], "minutes of labels were asked for"),
        (["tera:tiny", "--data", "embeded"], "no corpus 'embeded'. Did you mean 'embedded'"),
        (["tera:tiny", "--data", "embedded", "--where", "text is null"], "has a transcript"),
        (["empty", *QUICK], "empty is not a run: it has no run.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(overture: Overture, elsewhere: Path, words: list[str], said: str) -> None:
    (elsewhere / "empty").mkdir()
    answer = overture("finetune", *words)
    assert answer.status == 1 and said in answer.err and "Traceback" not in answer.err + answer.out
    assert not list(elsewhere.rglob("run.json"))


def test_a_finetuned_model_is_no_start(overture: Overture, elsewhere: Path) -> None:
    folder = elsewhere / "tera-ctc-000000"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"size": "finetune", "config": {"start": "tera-123456"}}))
    answer = overture("finetune", folder, *QUICK)
    assert answer.status == 1 and "Start from what it was made of: tera-123456" in answer.err
    (folder / "run.json").write_text("{")
    answer = overture("finetune", folder, *QUICK)
    assert answer.status == 1 and "run.json is damaged" in answer.err


def test_from_a_checkpoint_of_transformers(overture: Overture, elsewhere: Path) -> None:
    ran = overture("run", "wav2vec2:tiny", "--where", FEW, "--set", "loop.updates=1", "--out", "mine")
    assert ran.status == 0, ran.err
    (start,) = (elsewhere / "mine").iterdir()
    assert overture("export", start, "hf").status == 0
    answer = overture("finetune", "hf", *QUICK[:4], "--updates", "10", "--micro-seconds", "20")
    assert answer.status == 0, answer.err
    folder = folder_in(answer.out)
    assert folder.parent == Path("runs") and "pre-training has heard" in answer.out and "rate 3e-05" in answer.out
    about = json.loads((folder / "run.json").read_text())
    assert about["config"]["start"] == "../hf" and about["config"]["plan"]["micro"] == 20
    assert about["start"]["kind"] == "checkpoint" and about["start"]["weights"] == about["config"]["start_weights"]
    assert about["config"]["players"][0]["parameters"] and about["config"]["players"][0]["frozen_updates"] == 1
    loaded = Recogniser.load(folder)
    assert loaded.frame_rate == 50 and loaded.model.encoder.spec.layers == 2
    (elsewhere / "other").mkdir()
    (elsewhere / "other/config.json").write_text('{"model_type": "hubert"}')
    answer = overture("finetune", "other", *QUICK)
    assert answer.status == 1 and "model_type is 'hubert'" in answer.err


def test_the_verb_is_light() -> None:
    code = "import sys, overture.cli.finetune; print(sorted(set(sys.modules) & {'torch', 'transformers', 'numpy'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
