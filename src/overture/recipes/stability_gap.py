"""Stability gap: a language model that goes on in a new domain first forgets, and three ways to keep that small.

Guo, Fu, Zhang, Zhao, Shen, "Efficient Continual Pre-training by Mitigating the Stability Gap", ACL 2025, arXiv:2406.14833. What a
pre-trained model can do falls at first when it goes on with text of a new domain, and then recovers, though its perplexity there
falls all the while. At a fixed budget the fall is smaller with (I) a small subset of the domain several times instead of all of
it once, (II) the subset of best quality, by perplexity under an n-gram model of a clean reference, (III) the mixture of the first
pre-training kept, but for its web part, which the domain replaces.

Good for: going on with a published or own language model in a clinic's, a firm's or a dialect's text. Not for: training from nothing.

Deviations, in all sizes: the rate decays linearly, not by a cosine.
Deviations of `default()`, a size for a laptop: a Llama of 4 layers and D=256 for one of 26 and 3200.
"""

from dataclasses import replace

from overture.data.mixture import Fixed
from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.text import Llama
from overture.objectives.causal import Causal
from overture.run import Data, Loop, Optim, Plan, Player, Run, log_spaced
from overture.study import Arm, Claim, Study, Trial

OPEN_LLAMA = Llama(layers=26, dim=3200, heads=32, ffn=8640)  # OpenLlama-3B-v2, 3.4 B parameters
TINY_LLAMA = Llama(layers=22, dim=2048, heads=32, groups=4, ffn=5632)  # TinyLlama-1.1B
SMALL = Llama(layers=4, dim=256, heads=4, ffn=704, positions=256)
CORPUS = "text-and-genes"
GENES = "corpus = 'go-terms'"  # the new domain
BEST = f"{GENES} AND ppl <= (SELECT quantile_cont(ppl, 0.25) FROM rows WHERE {GENES})"  # like definitions of phenotypes, a clean reference
ANY = f"{GENES} AND substr(md5(id), 1, 1) < '4'"  # a quarter too
UPDATES = 360  # one epoch of the domain


def published() -> Run:
    """OpenLlama-3B-v2 on 20 B tokens of medical text: 5 B of best quality with the first mixture's other 18 %, four times (section 5.2).

    AdamW (.9, .95), weight decay .01, rate 3e-5, 10 % warm-up, contexts of 2048 tokens (appendix A). The batch that the paper prints,
    340 M tokens, would make 59 updates: 4 M are ours. The vocabulary has OpenLlama's 32,000 ids; with `--start` it is its own.
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


def claim() -> Claim:
    """At equal tokens: all of a domain once, a quarter of it four times (any, or the best), the best quarter within the mixture of
    before, and a tenth of replay. All arms of a seed go on from one network, trained on help, manuals
    and package descriptions, and warm up alike; the first updates that are looked at are 1, 2 and 4, where the gap is.
    """
    base = default()
    tokens, pack = replace(base.frontend, corpus=CORPUS), Pack(length=128, column="corpus")
    first = replace(
        base,
        frontend=tokens,
        data=Data(corpus=CORPUS, where=f"NOT ({GENES})", text=pack),
        loop=replace(base.loop, updates=1200),
    )
    player = replace(base.players[0], optim=replace(base.players[0].optim, lr=5e-4))
    loop = replace(base.loop, updates=UPDATES, keep_at=log_spaced(UPDATES, 9))

    def arm(name: str, where: str | None, share: float | None = None) -> Arm:
        mix = None if share is None else Fixed(column="corpus", shares=(("go-terms", share),))
        run = replace(first, data=Data(corpus=CORPUS, where=where, text=pack, mix=mix), players=(player,), loop=loop)
        return Arm(name=name, run=run, stages=(first,))

    full = arm("full", GENES)
    some, few = "substr(md5(id), 1, 2) < '08'", "substr(md5(id), 1, 2) < '10'"  # rows that trials take: 3 % and 6 %
    before, genes = f"NOT ({GENES}) AND {some}", f"{GENES} AND {few}"
    return Claim(
        recipe="stability-gap",
        text="A language model that goes on in a new domain forgets on the way, and at equal tokens less with the best quarter of it in "
        "the mixture of before than with all of it once.",
        corpora=(
            "overture data get libreoffice-help-en python-docs package-descriptions go-terms hpo-terms",
            f"overture data join {CORPUS} libreoffice-help-en python-docs package-descriptions go-terms",
            f"overture data score {CORPUS} --with ngram --set ngram.reference=hpo-terms",
        ),
        study=Study(
            corpus=CORPUS,
            arms=(
                replace(full, name="before", kind="start"),
                full,
                arm("any quarter", ANY),
                arm("best quarter", BEST),
                arm("best quarter, mixture", f"({BEST}) OR NOT ({GENES})", 0.82),
                arm("replay", None, 0.9),
            ),
            trials=(
                Trial(task="held-out-worst", where=before, called="before, at its worst"),
                Trial(task="held-out", where=genes, called="genes"),
                Trial(task="held-out", where=before, called="before"),
                Trial(task="next-sentence", where=genes, called="genes, next sentence"),
            ),
        ),
        expected=(("before", "full"), ("best quarter, mixture", "full")),
        expected_also=(
            ("before, at its worst", "replay", "full"),
            ("before, at its worst", "best quarter, mixture", "best quarter"),
            ("genes", "full", "before"),
            ("genes", "best quarter, mixture", "full"),
            ("genes", "best quarter", "any quarter"),
            ("before", "best quarter, mixture", "full"),
            ("genes, next sentence", "best quarter, mixture", "full"),
        ),
        deviations=(
            "1,200 updates of 4,096 tokens at 4 layers of D=256 stand for OpenLlama-3B, 360 of gene ontology for 20 B tokens of medical text.",
            "Bits per character of held-out text, at the update where they are worst, stand for accuracy in tasks.",
            "18 % of the mixture are what there was before; the paper keeps the proportions of LLaMA's sources but for its web.",
        ),
    )
