"""Networks on tokens: vectors in place of ids, padding, and published decoders with their weights."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models import sources
from overture.models.text import Bert, Gpt2, Llama, Pretrained, TextModel

from . import small_lm

HOME = sources.home()  # the user's own: tests have another
SIZES = {"layers": 2, "dim": 32, "heads": 2, "positions": 64, "init": 0.3}
LENGTHS = torch.tensor([20, 13])  # longer than the windows of the small Gemma


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_lm.folder(tmp_path_factory.mktemp("lm") / "small")


def model(kind: str, gemma: Path) -> TextModel:
    torch.manual_seed(1)
    if kind == "gemma":
        spec = Pretrained(model=str(gemma))
        return spec.build(spec.tokens()).eval()
    of = {"bert": Bert(**SIZES, ffn=64), "llama": Llama(**SIZES, ffn=64, groups=1), "gpt2": Gpt2(**SIZES)}
    return of[kind].build(Tokens(vocabulary=small_lm.VOCABULARY)).eval()


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "gemma"])
@torch.inference_mode()
def test_vectors_in_place_of_ids_make_the_same_and_padding_reaches_nothing(kind: str, gemma: Path) -> None:
    net = model(kind, gemma)
    ids = torch.randint(6, small_lm.VOCABULARY, (2, 20))
    hidden = net.hidden(ids, LENGTHS)
    vectors = net.embed(ids)
    assert vectors.shape == (2, 20, net.dim) == hidden.shape
    torch.testing.assert_close(net.hidden_of(vectors, LENGTHS), hidden, rtol=0, atol=1e-6)
    alone = net.hidden(ids[1:, :13], LENGTHS[1:])
    torch.testing.assert_close(hidden[1:, :13], alone, rtol=0, atol=1e-5)
    vectors[1, 13:] = 1e3  # whatever stands in padding
    torch.testing.assert_close(net.hidden_of(vectors, LENGTHS)[1:, :13], alone, rtol=0, atol=1e-5)
    vectors[0, 3] += torch.randn(net.dim)
    moved = (net.hidden_of(vectors, LENGTHS)[0] - hidden[0]).abs().amax(-1) > 1e-4  # (T,)
    assert moved[3:].all() and moved[:3].all() == (not net.causal)


def test_vectors_of_gemma_are_scaled(gemma: Path) -> None:
    net = model("gemma", gemma)
    ids = torch.tensor([[7, 8]])
    torch.testing.assert_close(net.embed(ids), net.network.model.embed_tokens.weight[ids] * net.dim**0.5)


@torch.inference_mode()
def test_a_published_decoder_is_the_one_of_its_folder(gemma: Path) -> None:
    net, theirs = model("gemma", gemma), AutoModelForCausalLM.from_pretrained(gemma).eval()
    assert net.causal and net.positions == 128 and net.vocabulary == 300 and len(net.layers) == 2
    assert net.network.config._attn_implementation == "overture"
    assert (net.special.begin, net.special.end, net.special.pad) == (2, 5, 0)
    ids = torch.randint(6, small_lm.VOCABULARY, (2, 20))
    logits = net.logits(net.hidden(ids, LENGTHS))
    torch.testing.assert_close(logits[0], theirs(input_ids=ids).logits[0], rtol=0, atol=1e-5)
    with torch.device("meta"):
        shape = Pretrained(model=str(gemma)).build(Pretrained(model=str(gemma)).tokens())
    assert {n: v.shape for n, v in shape.state_dict().items()} == {n: v.shape for n, v in net.state_dict().items()}
    assert all(p.is_meta for p in shape.parameters())


def test_its_tokens_are_those_of_transformers(gemma: Path) -> None:
    ours, theirs = Pretrained(model=str(gemma)).tokens().tokenizer(None), AutoTokenizer.from_pretrained(gemma)
    assert isinstance(ours, Tokenizer)
    for text in (*small_lm.TEXTS, "été\n\n  x", ""):
        assert ours.encode(text, add_special_tokens=False).ids == theirs(text, add_special_tokens=False).input_ids


def test_what_cannot_be_opened_is_refused(tmp_path: Path, gemma: Path) -> None:
    tokens = Pretrained(model=str(gemma)).tokens()
    with pytest.raises(OvertureError, match=r"'gemma-3-270m' is not installed .*models get gemma-3-270m"):
        Pretrained().build(tokens)
    with pytest.raises(OvertureError, match=r"no model 'gemma-270m'.*'gemma-3-270m'"):
        Pretrained(model="gemma-270m").tokens()
    with pytest.raises(OvertureError, match=r"has 300 tokens, the front end 301: set frontend.vocabulary=300"):
        Pretrained(model=str(gemma)).build(Tokens(published=str(gemma), vocabulary=301))
    bare = small_lm.folder(tmp_path / "pickled", weights=False)
    torch.save({}, bare / "pytorch_model.bin")
    with pytest.raises(OvertureError, match="safetensors alone"):
        Pretrained(model=str(bare)).build(tokens)
    capped = small_lm.folder(tmp_path / "capped", final_logit_softcapping=2.0)
    with pytest.raises(OvertureError, match="a cap or a scale of logits"):
        Pretrained(model=str(capped)).build(tokens)


def test_documents_longer_than_a_window_are_refused(gemma: Path) -> None:
    net = model("gemma", gemma)
    document = torch.tensor([[0] * 4 + [1] * 4])
    ids = torch.randint(6, 300, (1, 8))
    with torch.inference_mode():
        alone = net.hidden(ids[:, :4], torch.tensor([4]))
        torch.testing.assert_close(net.hidden(ids, torch.tensor([8]), document)[:, :4], alone, rtol=0, atol=1e-5)
        with pytest.raises(OvertureError, match="windows slide over 8"):
            net.hidden(ids.repeat(1, 2), torch.tensor([16]), document.repeat(1, 2))


@pytest.mark.skipif(not (HOME / "gemma-3-270m" / "source.json").exists(), reason="the model is not installed")
def test_the_tokens_of_the_real_one() -> None:
    folder = HOME / "gemma-3-270m"
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokens(published=str(folder), vocabulary=262_144)
    special = ours.special
    assert (special.begin, special.end, special.pad) == (2, 1, 0)
    tokenizer = ours.tokenizer(None)
    for text in (
        "The capital of France is",
        "Grüße aus Köln, 2024!\n\n  und   mehr",
        "東京は 🙂",
        "def f(x):\n\treturn x",
        "  a",
    ):
        assert tokenizer.encode(text, add_special_tokens=False).ids == theirs(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text
    assert tokenizer.encode("The capital of France is", add_special_tokens=False).ids == [818, 5279, 529, 7001, 563]
