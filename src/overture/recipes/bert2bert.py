"""bert2BERT: a large language model starts from the weights of a smaller one, which saves some of its pre-training.

Chen, Yin, Shang, Jiang, Qin, Wang, Wang, Chen, Liu, Liu, "bert2BERT: Towards Reusable Pretrained Language Models", ACL 2022, arXiv:2110.07143. Every
axis of a pre-trained network grows by copies whose readers share them out, so that the larger one computes nearly the same (FPI). AKI takes what
is new from the layer above instead: it begins worse and learns faster. Layers are then stacked. `Run.grow` says how, `models.surgery` does it, for
BERT, Llama, GPT-2 and wav2vec 2.0 alike; here it is BERT and masked tokens.

Good for: a larger network where a smaller one of the same kind has been trained, by you or by others. Train the small one, and grow it:

    overture run bert2bert --data MINE --set model.layers=2 --set model.dim=128 --set model.heads=2 --set model.ffn=512
    overture run bert2bert --data MINE --start runs/bert2bert-3f2a9c --set grow.method=aki

Without a start it trains from fresh weights, the paper's baseline. Not for: a network of another kind, other heads' size, another vocabulary.

Deviations, in all sizes:
- AKI: the new outputs of all six products of a layer, and their biases, are the layer above's, by formula; norms are of the layer itself. The one
  port that is public takes the readers of new heads and neurons from above instead, and leaves the stream as FPI makes it.
- Embeddings are read and predict, so where they are a classifier the norm before them is divided by copies and not they.
- The rate decays linearly to nothing after a warm-up, for every arm; optimizers begin anew.
Deviations of `default()`, a size for a laptop: 4 layers of D=256, rate 5e-4; fresh weights of deviation .035 have with 256 inputs the variance of
BERT's .02 with 768.
"""

from dataclasses import replace

from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.text import Bert
from overture.objectives.masked_tokens import MaskedTokens
from overture.objectives.submodels import SubModels
from overture.quantize.gumbel import Annealing
from overture.recipes import wav2vec2
from overture.run import Data, Grow, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

BASE, HALF = Bert(), Bert(dim=512, heads=8, ffn=2048)  # BERT-base, and S(12,512)
SMALL = Bert(layers=4, dim=256, heads=4, ffn=1024, positions=128, init=0.035)
UPDATES, SOURCE = 800, 1600  # of the claim's arms, and of the smaller networks that they grow from
HEARD, BOTH = 800, 1100  # on speech: of the arms and of the smaller network, and of one that costs the FLOPs of both
EXPECTED = (("AKI", "scratch"), ("AKI", "DirectCopy"))
ALSO = (*((a, "scratch") for a in ("FPI", "DirectCopy", "stack")), ("FPI", "DirectCopy"), ("AKI", "FPI"))


def published() -> Run:
    """BERT-base (12 layers, D=768, heads of 64) grown from S(12,512) by AKI: its stage 2, without the stage of sub-models.

    512 stretches of 128 tokens of English Wikipedia and the Toronto Book Corpus an update, Adam at 1e-4 after 10,000 updates of warm-up, decay
    .01. The paper counts 40 epochs: our updates are those that its 7.3e19 FLOPs from scratch make at 6 a parameter and token.
    """
    updates = 1_700_000
    return Run(
        recipe="bert2bert",
        size="published",
        data=Data(corpus="wikipedia-bookcorpus", text=Pack(length=128, framed=True)),
        frontend=Tokens(kind="wordpiece", vocabulary=30_522),
        model=BASE,
        players=(Player(objective=MaskedTokens(), optim=Optim(lr=1e-4, warmup=10_000 / updates, clip=1.0)),),
        plan=Plan(update=512 * 128.0, micro=128 * 128.0, longest_squared=128 * 128.0**2),
        loop=Loop(updates=updates, log_every=100, checkpoint_every=10_000),
        grow=Grow(),
    )


def published_source() -> Run:
    """S(12,512), which is grown: 12 layers, D=512, heads of 64. Trained alike."""
    return replace(published(), model=HALF, grow=None)


def default() -> Run:
    """For a laptop, from scratch or with a start: 4 layers, D=256, 5.4 M parameters; updates of 64 stretches."""
    return Run(
        recipe="bert2bert",
        size="default",
        data=Data(corpus="embedded-text", text=Pack(length=128, framed=True)),
        frontend=Tokens(vocabulary=8192),
        model=SMALL,
        players=(Player(objective=MaskedTokens(), optim=Optim(lr=5e-4, warmup=0.1, clip=1.0)),),
        plan=Plan(update=64 * 128.0, micro=64 * 128.0, longest_squared=64 * 128.0**2),
        loop=Loop(updates=1000, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(corpus="embedded-text", where="domain = 'help page'", text=Pack(length=32, framed=True)),
        frontend=Tokens(vocabulary=400),
        model=replace(SMALL, layers=2, dim=32, heads=2, ffn=64, positions=32),
        plan=Plan(update=512.0, micro=256.0, longest_squared=16 * 32.0**2),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Six ways to train one BERT (4 layers of D=128) for as many updates, from one smaller one (2 layers of D=64) of each seed or from nothing.

    FPI, AKI and DirectCopy begin with the small one, and AKI + two stages spends its first eighth on sub-models; stacking needs one of the full
    width, 2 layers of D=128. What training these costs is left out, as in the paper. Decided at equal updates; the FLOPs that each arm saves until it
    knows what the one from scratch knows in the end stand beside (`savings`).
    """
    base, first, corpus = default(), UPDATES // 8, "package-descriptions"
    looks = (0, UPDATES // 64, *range(first, UPDATES + 1, first))
    large = replace(SMALL, dim=128, ffn=512)  # heads of 32
    small, shallow = replace(large, layers=2, dim=64, heads=2, ffn=256), replace(large, layers=2)
    base = replace(
        base,
        data=Data(corpus=corpus, text=base.data.text),
        frontend=Tokens(vocabulary=4096),
        players=(Player(objective=MaskedTokens(), optim=Optim(lr=1e-3, warmup=0.1, clip=1.0)),),
        plan=Plan(update=24 * 128.0, micro=24 * 128.0, longest_squared=24 * 128.0**2),
    )

    def run(model: Bert, updates: int, done: int = 0, grow: Grow | None = None) -> Run:
        """Looked at where it is of the large network, of whose updates so many are `done`."""
        keep = tuple(u - done for u in looks if u >= done) if model == large else None
        return replace(base, model=model, loop=replace(base.loop, updates=updates, keep_at=keep), grow=grow)

    def grown(name: str, grow: Grow, source: Bert = small) -> Arm:
        return Arm(name=name, run=run(large, UPDATES, grow=grow), stages=(run(source, SOURCE),))

    bottom_up = replace(base.players[0], objective=SubModels(block=2))
    one = replace(run(large, first, grow=Grow()), players=(bottom_up,))
    two = Arm(name="AKI, two stages", run=run(large, UPDATES - first, first), stages=(run(small, SOURCE), one))
    arms = (
        Arm(name="scratch", run=run(large, UPDATES)),
        grown("DirectCopy", Grow(method="copy")),
        grown("stack", Grow(method="stack"), shallow),
        grown("FPI", Grow(method="fpi")),
        grown("AKI", Grow(method="aki")),
        two,
    )
    some = "substr(md5(id), 1, 2) < '10'"  # a sixteenth of the rows, of which three tenths are held out
    trial = Trial(task="held-out-masked", where=some, reach="scratch")
    return Claim(
        recipe="bert2bert",
        text="At equal updates a BERT that begins with a smaller one's weights, grown by AKI, fills in held-out text better than one from scratch, "
        "and than one with the smaller one in its corner.",
        study=Study(corpus=corpus, arms=tuple(replace(a, rates=(5e-4, 1e-3)) for a in arms), trials=(trial,)),
        expected=EXPECTED,
        expected_also=tuple(("held-out-masked", a, b) for a, b in (*ALSO, (two.name, "AKI"))),
        deviations=(
            f"{UPDATES:,} updates of 24 stretches of package descriptions at 4 layers of D=128 stand for 40 epochs of BERT-base.",
            f"The small network, 2 layers of D=64, has had {SOURCE:,} updates; the one that is stacked has the full width, and has cost more.",
            "The masked-token loss alone is judged, each arm at the best of its rates, but stages at 1e-3; GLUE and GPT are left out.",
            "The stage of sub-models warms up and decays for itself; the paper has one schedule over both.",
        ),
    )


def claim_speech() -> Claim:
    """A wav2vec 2.0 (4 layers of D=128) from a smaller one (2 of D=64) of each seed, or from nothing; frozen frames are read.

    Beside the paper's arms: the smaller one as it is, and one from scratch for the FLOPs that the smaller one and a grown one cost together.
    """
    base = wav2vec2.default()
    objective = replace(wav2vec2.KEEP, temperature=Annealing(factor=0.9965))  # at its least after half of the updates
    sizes = replace(wav2vec2.SMALL, conv_dim=(32, 32, 64, 64, 128, 128, 128), position_groups=4)
    large, small = replace(sizes, dim=128, heads=2, ffn=512), replace(sizes, layers=2, dim=64, heads=1, ffn=256)
    data, players = Data(corpus="amazon-queen", min_seconds=0.5), (replace(base.players[0], objective=objective),)
    base = replace(base, recipe="bert2bert", data=data, players=players, loop=replace(base.loop, updates=HEARD))

    def grown(name: str, grow: Grow) -> Arm:
        return Arm(name=name, run=replace(base, model=large, grow=grow), stages=(replace(base, model=small),))

    scratch = replace(base, model=large)
    arms = (
        Arm(name="untrained", run=scratch, kind="untrained"),
        Arm(name="small", run=replace(base, model=small)),
        Arm(name="scratch", run=scratch),
        Arm(name="scratch, for both", run=replace(scratch, loop=replace(base.loop, updates=BOTH))),
        grown("DirectCopy", Grow(method="copy")),
        grown("AKI", Grow(method="aki")),
    )
    also = (("AKI", "scratch, for both"), ("DirectCopy", "scratch"), ("AKI", "small"), ("scratch", "untrained"))
    trial = Trial(task="phone", where="duration between 0.5 and 10", label_minutes=30.0)
    return Claim(
        recipe="bert2bert:speech",
        text="At equal updates a linear classifier tells phones apart better on frozen frames of a wav2vec 2.0 that begins with a smaller one's "
        "weights, grown by AKI, than on those of one from scratch, and of one with the smaller one in its corner.",
        study=Study(corpus="amazon-queen", arms=arms, trials=(trial,)),
        expected=EXPECTED,
        expected_also=tuple(("phone", a, b) for a, b in also),
        deviations=(
            f"The paper has text alone. {HEARD} updates of 32 s of acted dialogue a network; phones are forced-aligned by pocketsphinx.",
            "A probe decides at equal updates, so at equal FLOPs but for the small network's; savings until a score is reached are of text alone.",
            "Convolutions keep their sizes, so what grows has all of the small one's; its codes' temperature goes on where that ended.",
        ),
    )
