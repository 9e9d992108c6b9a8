"""Stability gap: a language model that goes on in a new domain first forgets, and three ways to keep that small.

Guo, Fu, Zhang, Zhao, Shen, "Efficient Continual Pre-training by Mitigating the Stability Gap", ACL 2025, arXiv:2406.14833. When a pre-trained model goes on with
text of a new domain, what it can do there first falls and then recovers, though its perplexity falls all the while. At a fixed budget the fall is smaller with (I) a
small subset of the domain for several epochs instead of all of it once, (II) the subset of best quality, by perplexity under an n-gram model of a clean
reference, (III) the mixture of the first pre-training kept, but for its web part, which the domain replaces.

Good for: going on with a published or own language model in a clinic's, a firm's or a dialect's text. Not for: training from nothing.

Deviations, in all sizes:
- The rate decays linearly, not by a cosine.
Deviations of `default()`, a size for a laptop: a Llama of 4 layers and D=256 for one of 26 and 3200.
"""

from dataclasses import replace

from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.text import Llama
from overture.objectives.causal import Causal
from overture.run import Data, Loop, Optim, Plan, Player, Run

OPEN_LLAMA = Llama(layers=26, dim=3200, heads=32, ffn=8640)  # OpenLlama-3B-v2, 3.4 B parameters
TINY_LLAMA = Llama(layers=22, dim=2048, heads=32, groups=4, ffn=5632)  # TinyLlama-1.1B
SMALL = Llama(layers=4, dim=256, heads=4, ffn=704, positions=256)


def published() -> Run:
    """OpenLlama-3B-v2 on 20 B tokens of medical text: 5 B of best quality with the first mixture's other 18 %, four times (section 5.2, appendix A).

    AdamW (.9, .95), weight decay .01, rate 3e-5, 10 % warm-up, contexts of 2048 tokens. The batch that the paper prints, 340 M tokens, would make 59 updates: 4 M
    tokens are ours. The vocabulary is OpenLlama's, 32,000; with `--start` its own tokenizer.
    """
    return Run(
        recipe="stability-gap",
        size="published",
        data=Data(corpus="medical-5b-and-replay", text=Pack(length=2048)),
        frontend=Tokens(kind="unigram", vocabulary=32_000),
        model=OPEN_LLAMA,
        players=(Player(objective=Causal(), optim=Optim(lr=3e-5, betas=(0.9, 0.95), warmup=0.1, clip=1.0)),),
        plan=Plan(update=4_194_304.0, micro=16_384.0, longest_squared=33_554_432.0),
        loop=Loop(updates=4_768, log_every=10, checkpoint_every=200),
    )


def default() -> Run:
    """For a laptop: 4 layers, D=256, 7.4 M parameters, updates of 4,096 tokens."""
    return Run(
        recipe="stability-gap",
        size="default",
        data=Data(corpus="embedded-text", text=Pack(length=128)),
        frontend=Tokens(vocabulary=8192),
        model=SMALL,
        players=(Player(objective=Causal(), optim=Optim(lr=1e-3, betas=(0.9, 0.95), warmup=0.1, clip=1.0)),),
        plan=Plan(update=4096.0, micro=4096.0, longest_squared=1_048_576.0),
        loop=Loop(updates=1000, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = default()
    return replace(
        base,
        size="tiny",
        data=Data(corpus="embedded-text", where="language = 'en'", text=Pack(length=32)),
        frontend=Tokens(vocabulary=400),
        model=Llama(layers=2, dim=32, heads=2, ffn=64, positions=64),
        plan=Plan(update=512.0, micro=256.0, longest_squared=32_768.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )
