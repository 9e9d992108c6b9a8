"""SLTrain: linear layers that are low-rank plus sparse on a random support that stays, for pre-training in less memory.

Han, Li, Huang, Hong, Takeda, Jawanpuria, Mishra, "SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining",
NeurIPS 2024, arXiv:2406.02214. Each matrix of attention and feed-forward is W = (alpha / r) B A + S: what the largest singular directions of a
trained matrix leave over is small and spread out, so S may stand anywhere, as long as it is learnt. Parameters, gradients and moments are
those of A, B and the numbers of S; W is built for each product and never kept. In 8 bits and stepping in the backward pass
(`optim.states`, `optim.in_backward`) it saves most of what AdamW needs; nothing gets faster.

Good for: pre-training of a language model, or with `--transform sltrain` of any other network here, where memory ends first. Not for: going on from
trained weights, of which nothing would be left (`--transform lora`), and not for speed.

Deviations, in all sizes:
- Parameters are fp32 and products bf16 where the machine has it; the paper's are bf16 throughout.
- The rate decays linearly to a tenth, not by a cosine; texts are packed, not padded to 256 tokens.
- Supports are drawn from the seed and the layer's name, and indices are int32: half of the paper's 8 bytes.
Deviations of `default()`, a size for a laptop: 4 layers and D=256 for 8 and 512, r still D/4.
"""

from dataclasses import replace

from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.text import Llama
from overture.models.transforms import LowRank, Masked, SparseLowRank, Transform
from overture.objectives.causal import Causal
from overture.quantize.gumbel import Annealing
from overture.recipes import w2v_bert
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

# Of GaLore (arXiv:2403.03507), which the paper compares with: 58, 134, 368, 1,339 M and 6.7 B parameters; r, alpha and delta by section 5.1
# and the released scripts; updates by table 2's tokens, of 131,072 an update.
SIZES: dict[str, tuple[Llama, SparseLowRank, int]] = {
    "60M": (Llama(layers=8, dim=512, heads=8, ffn=1376), SparseLowRank(rank=128, alpha=32.0), 11_000),
    "130M": (Llama(layers=12, dim=768, heads=12, ffn=2048), SparseLowRank(rank=256, alpha=16.0), 22_000),
    "350M": (Llama(layers=24, dim=1024, heads=16, ffn=2736), SparseLowRank(rank=256, alpha=16.0), 60_000),
    "1B": (Llama(layers=24, dim=2048, heads=32, ffn=5461), SparseLowRank(rank=512, alpha=8.0), 100_000),
    "7B": (
        Llama(layers=32, dim=4096, heads=32, ffn=11_008),
        SparseLowRank(rank=1024, alpha=8.0, density=0.05),
        150_000,
    ),
}
OPTIM = Optim(lr=3e-3, weight_decay=0.0, warmup=0.1, final=0.1, clip=None)
CORPUS = "package-descriptions"
SOME = "substr(md5(id), 1, 2) < '0c'"  # rows that the trial takes: a twentieth
RANK, SPARSITY = 35, 0.575  # by which low rank, and sparse alone, have as many parameters as SLTrain at D=128
ALSO = (("full", "SLTrain"), ("low rank, as many", "low rank"), ("full", "low rank, as many"))


def published(size: str = "60M") -> Run:
    """The 60M model, 43.5 M parameters of 58.1 M, on 1.1 B tokens of C4: 11,000 updates of 512 x 256 tokens, rate .003 with 10 % warm-up,
    no weight decay, no clipping (`scripts/llm_pretrain/sltrain60m.sh`). The vocabulary has T5's 32,000 ids. `size`: another of SIZES.

    7B is trained with clipping at 1 and 8 bits: `--set players.0.optim.states=8bit`.
    """
    model, transform, updates = SIZES[size]
    return Run(
        recipe="sltrain",
        size="published",
        data=Data(corpus="c4", text=Pack(length=256)),
        frontend=Tokens(kind="unigram", vocabulary=32_000),
        model=model,
        transform=transform,
        players=(Player(objective=Causal(), optim=OPTIM),),
        plan=Plan(update=512 * 256.0, micro=64 * 256.0, longest_squared=64 * 256.0**2),
        loop=Loop(updates=updates, log_every=20, checkpoint_every=1_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, D=256, r=64, 5.6 M parameters of 7.4 M, updates of 4,096 tokens."""
    return Run(
        recipe="sltrain",
        size="default",
        data=Data(corpus="embedded-text", text=Pack(length=128)),
        frontend=Tokens(vocabulary=8192),
        model=Llama(layers=4, dim=256, heads=4, ffn=704, positions=256),
        transform=SparseLowRank(rank=64, alpha=16.0),
        players=(Player(objective=Causal(), optim=OPTIM),),
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
        transform=SparseLowRank(rank=8, alpha=2.0, density=0.1),
        plan=Plan(update=512.0, micro=256.0, longest_squared=32_768.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def _arms(run: Run, rates: tuple[float, ...] = ()) -> tuple[Arm, ...]:
    """`run`, whose layers are of D=128, with each kind of matrix; all else is shared, but for which of the `rates` serves each best."""
    kinds: dict[str, Transform | None] = {
        "full": None,
        "SLTrain": SparseLowRank(rank=32, alpha=8.0),
        "low rank, as many": LowRank(rank=RANK),
        "low rank": LowRank(rank=32),
        "sparse, as many": Masked(sparsity=SPARSITY),
    }
    return tuple(Arm(name=name, run=replace(run, transform=kind), rates=rates) for name, kind in kinds.items())


def claim() -> Claim:
    """Table 2 at a small size, with the controls that tell sparsity from more parameters: low rank with its rank raised until it has as many
    as SLTrain, and a matrix that is sparse alone, of as many. Arms share data, updates and everything that is not a layer's matrix; rates are tuned.
    """
    base = default()
    small = replace(
        base,
        data=Data(corpus=CORPUS, text=Pack(length=128)),
        frontend=Tokens(vocabulary=2048, corpus=CORPUS),
        model=Llama(layers=4, dim=128, heads=4, ffn=344, positions=128),
        loop=replace(base.loop, updates=700),
    )
    return Claim(
        recipe="sltrain",
        text="A language model whose matrices are low-rank plus sparse knows held-out text better than one whose matrices are low-rank, of as many "
        "parameters, and nearly as well as one of full matrices.",
        corpora=(f"overture data get {CORPUS}",),
        study=Study(corpus=CORPUS, arms=_arms(small, (1e-3, 3e-3)), trials=(Trial(task="held-out", where=SOME),)),
        expected=(("SLTrain", "low rank, as many"),),
        expected_also=tuple(("held-out", a, b) for a, b in (*ALSO, ("SLTrain", "sparse, as many"))),
        deviations=(
            "700 updates of 4,096 tokens of package descriptions at 4 layers of D=128 stand for 1.1 B tokens of C4 at 8 of 512.",
            "Each arm has the best of its rates by the development rows of one seed.",
        ),
    )


def claim_speech() -> Claim:
    """The same matrices, but for the sparse ones alone, in the Conformer blocks of a w2v-BERT (2 + 2, D=128), whose frozen frames are read."""
    base = w2v_bert.default()
    task = replace(w2v_bert.TASK, temperature=Annealing(factor=0.9965))  # at its least after half of the updates
    small = replace(
        base,
        recipe="sltrain",
        data=replace(base.data, corpus="amazon-queen"),
        model=replace(w2v_bert.SMALL, dim=128, ffn=512),
        players=(replace(base.players[0], objective=task),),
        loop=replace(base.loop, updates=800),
    )
    more = (("full", "untrained"), ("SLTrain", "untrained"))
    return Claim(
        recipe="sltrain:speech",
        text="A linear classifier tells phones apart better on frozen frames of a w2v-BERT whose matrices are low-rank plus sparse than on those of "
        "one whose matrices are low-rank, of as many parameters, and nearly as well as on those of one of full matrices.",
        study=Study(
            corpus="amazon-queen",
            arms=(Arm(name="untrained", run=small, kind="untrained"), *_arms(small)[:4]),
            trials=(Trial(task="phone", where="duration between 0.5 and 10", label_minutes=30.0),),
        ),
        expected=(("SLTrain", "low rank, as many"),),
        expected_also=tuple(("phone", a, b) for a, b in (*ALSO, *more)),
        deviations=(
            "The paper has text alone. 800 updates of 30 s of acted dialogue, phones forced-aligned by pocketsphinx and read at 40 ms.",
            "All arms have one rate, that of the full network.",
        ),
    )
