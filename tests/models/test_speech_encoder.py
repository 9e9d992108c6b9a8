"""overture.models.speech_encoder: transformers' states at full length, padding, lengths, and folders in every form they come in."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from overture.errors import OvertureError
from overture.models.speech_encoder import SpeechEncoder

from . import fabricated

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    """Two layers of 16 dimensions that hear 1 s: 100 log-mel frames, 50 positions."""
    return fabricated.network(fabricated.words(english=False))


@pytest.fixture(scope="module")
def folder(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    home = tmp_path_factory.mktemp("whisper")
    whisper.save_pretrained(home / "whole")
    whisper.model.save_pretrained(home / "bare")
    whisper.model.encoder.save_pretrained(home / "encoder")
    return lambda name: home / name


def copied(folder: Path, to: Path, config: dict[str, object], **weights: Tensor | None) -> Path:
    """`folder` with changes; a weight of None is left out. Two underscores stand for a dot."""
    to.mkdir()
    given = load_file(folder / "model.safetensors")
    changed = {name.replace("__", "."): value for name, value in weights.items()}
    assert set(changed) <= set(given)
    save_file({k: v for k, v in (given | changed).items() if v is not None}, to / "model.safetensors")
    (to / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | config))
    return to


def mels(*lengths: int) -> Tensor:
    return torch.randn(len(lengths), max(lengths), 80, generator=torch.Generator().manual_seed(1))


def test_at_full_length_it_is_the_encoder_of_transformers(
    whisper: WhisperForConditionalGeneration, folder: Folder
) -> None:
    ours, x = SpeechEncoder.load(folder("whole")), mels(100, 100)
    with torch.inference_mode():
        theirs = whisper.model.encoder(x.transpose(1, 2), output_hidden_states=True)
        hidden, lengths = ours.states(x, torch.tensor([100, 100]))
    assert lengths.tolist() == [50, 50]
    assert len(hidden) == len(theirs.hidden_states) == 3
    for one, other in zip(hidden, theirs.hidden_states):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden[-1], theirs.last_hidden_state, rtol=0, atol=1e-5)
    assert theirs.last_hidden_state.std() > 0.1  # not nothing with nothing


def test_steps_are_those_the_convolutions_make(folder: Folder) -> None:
    encoder = SpeechEncoder.load(folder("whole"))
    assert encoder.frame_rate == 50.0 and encoder.dim == 16 and encoder.positions == 50
    with torch.inference_mode():
        for n in (1, 2, 3, 4, 37, 38, 99, 100):
            hidden, lengths = encoder.states(mels(n), torch.tensor([n]))
            assert hidden[-1].shape == (1, -(-n // 2), 16)
            assert lengths.tolist() == encoder.steps(torch.tensor([n])).tolist() == [-(-n // 2)]
    assert encoder.steps(torch.tensor([0])).tolist() == [0]


def test_padding_reaches_no_state_whatever_stands_in_it(folder: Folder) -> None:
    encoder, lengths = SpeechEncoder.load(folder("whole")).double(), torch.tensor([41, 22, 64, 1])
    with torch.inference_mode():
        for filling in (0.0, 50.0, float("nan")):
            x = mels(*lengths.tolist()).double()
            for b, n in enumerate(lengths.tolist()):
                x[b, n:] = filling
            together, steps = encoder.states(x, lengths)
            for b, n in enumerate(lengths.tolist()):
                alone, (count,) = encoder.states(x[b : b + 1, :n], lengths[b : b + 1])
                assert count == steps[b]
                for one, many in zip(alone, together, strict=True):
                    torch.testing.assert_close(many[b, :count], one[0], rtol=0, atol=1e-9)


def test_silence_behind_speech_would_be_heard_by_transformers(folder: Folder) -> None:
    """What honest lengths are for: of 30 s, speech attends to what was never said."""
    encoder, x = SpeechEncoder.load(folder("whole")), mels(60)
    with torch.inference_mode():
        alone, _ = encoder.states(x, torch.tensor([60]))
        padded, _ = encoder.states(torch.nn.functional.pad(x, (0, 0, 0, 40), value=-1.5), torch.tensor([100]))
    assert (alone[-1][0] - padded[-1][0, :30]).abs().max() > 0.01


def test_all_forms_of_a_folder_are_one_encoder(folder: Folder, tmp_path: Path) -> None:
    found = [SpeechEncoder.load(folder(name)) for name in ("whole", "bare", "encoder")]
    assert len({encoder.mark for encoder in found}) == 1
    for encoder in found[1:]:
        for name, value in encoder.network.state_dict().items():
            assert torch.equal(value, found[0].network.state_dict()[name]), name
    assert not any(p.requires_grad for p in found[0].parameters()) and not found[0].training
    halved = {k.replace(".", "__"): v.half() for k, v in load_file(folder("encoder") / "model.safetensors").items()}
    half = SpeechEncoder.load(copied(folder("encoder"), tmp_path / "half", {}, **halved))
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def test_the_mark_is_of_all_that_decides_the_states(folder: Folder, tmp_path: Path) -> None:
    mark, names = SpeechEncoder.load(folder("encoder")).mark, load_file(folder("encoder") / "model.safetensors")
    nudged = names["layers.1.fc2.bias"].clone()
    nudged[3] += 1e-6
    changes: list[tuple[dict[str, object], dict[str, Tensor]]] = [
        ({}, {"layers__1__fc2__bias": nudged}),
        ({"encoder_attention_heads": 4}, {}),
        ({"activation_function": "relu"}, {}),
        ({"scale_embedding": True}, {}),
    ]
    for i, (config, weights) in enumerate(changes):
        assert SpeechEncoder.load(copied(folder("encoder"), tmp_path / f"{i}", config, **weights)).mark != mark
    same = copied(folder("encoder"), tmp_path / "same", {"transformers_version": "9"})
    assert SpeechEncoder.load(same).mark == mark


def test_more_than_the_positions_is_refused(folder: Folder) -> None:
    encoder = SpeechEncoder.load(folder("whole"))
    with pytest.raises(OvertureError, match=r"1\.02 s of speech.* positions for 1 s"):
        encoder.states(mels(101), torch.tensor([101]))


def test_what_is_no_whisper_or_not_whole_is_refused(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"model_type is 'bert'"):
        SpeechEncoder.load(copied(folder("encoder"), tmp_path / "bert", {"model_type": "bert"}))
    with pytest.raises(OvertureError, match=r"conv2\.bias"):
        SpeechEncoder.load(copied(folder("encoder"), tmp_path / "part", {}, conv2__bias=None))
    with pytest.raises(OvertureError, match=r"size mismatch"):
        SpeechEncoder.load(copied(folder("encoder"), tmp_path / "wide", {"encoder_ffn_dim": 25}))
    with pytest.raises(OvertureError, match=r"config\.json cannot be read"):
        SpeechEncoder.load(tmp_path / "nowhere")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((folder("encoder") / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(OvertureError, match=r"Pickled weights are not read"):
        SpeechEncoder.load(pickled)
