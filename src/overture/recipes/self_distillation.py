"""Self-distillation: go on in a small target corpus twice, the second time from where the first began and taught by where it ended.

Lee, Kang, Lee, Hwang, Kawaguchi, "Self-Distillation for Further Pre-training of Transformers", ICLR 2023, arXiv:2210.02871. Going on with the
pretext task on a small unlabelled corpus overfits. Its outcome is a teacher: the *original* weights go on again with the same task and, on clean
input, towards the teacher's representation. What comes out is nearer to the original and fine-tunes better.

    overture run self-distillation --start BASE --data TARGET --set players.0.objective.weight=0     # the teacher
    overture run self-distillation --start BASE --data TARGET --teacher runs/TEACHER

Good for: a few thousand unlabelled texts (or recordings) of your own, a pre-trained encoder, few labels. Without `--teacher` the original weights
teach, which only holds them back; with `weight=0` nobody does.

Deviations, in all sizes:
- An example weighs as much as it has masked tokens, so that one division is right for both losses (`objectives.distillation`).
- The paper's text experiments are on RoBERTa with settings it does not print: these are its image ones, where they carry over.
Deviations of `default()`, a size for a laptop: 2 layers of D=128 from nothing, rate 1e-3; the claim goes on with half of it.
"""

from dataclasses import replace

from overture.data.text import Whole
from overture.data.tokens import Tokens
from overture.models.text import Bert
from overture.objectives.distillation import Distillation
from overture.objectives.masked_tokens import MaskedTokens
from overture.objectives.patches import PatchPrediction
from overture.recipes import ssast
from overture.recipes.structural import SUBJECTS
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

SMALL = Bert(layers=2, dim=128, heads=2, ffn=512, positions=128, dropout=0.0, init=0.05)
ROWS = f"label IN {SUBJECTS} AND length BETWEEN 200 AND 1000"  # of the claim on text: to tell apart, and to go on with
BASE, MORE = 3000, 1000  # updates of the claim on text: of the base, and of going on
WIDE, ON = 600, 300  # of the claim on speech


def published() -> Run:
    """RoBERTa-base's size (12 layers, D=768, 50,265 tokens, 512 positions), 20,000 updates of 64 texts at 1.5e-4, decay .01, no warm-up
    (section 4.1 and the released scripts, which are of images); lambda 1 on the first token's state."""
    optim = Optim(lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.01, warmup=0.0)
    return Run(
        recipe="self-distillation",
        size="published",
        data=Data(corpus="chemprot", text=Whole(length=512)),
        frontend=Tokens(vocabulary=50_265),
        model=Bert(),
        players=(Player(objective=Distillation(pretext=MaskedTokens()), optim=optim),),
        plan=Plan(update=64 * 512.0, micro=16 * 512.0, longest_squared=16 * 512.0**2),
        loop=Loop(updates=20_000, log_every=100, checkpoint_every=2_000),
    )


def default() -> Run:
    """For a laptop: 2 layers, D=128, 1.5 M parameters; updates of 24 texts."""
    return Run(
        recipe="self-distillation",
        size="default",
        data=Data(corpus="embedded-text", text=Whole()),
        frontend=Tokens(vocabulary=8192),
        model=SMALL,
        players=(Player(objective=Distillation(pretext=MaskedTokens()), optim=Optim(lr=1e-3, warmup=0.1, clip=1.0)),),
        plan=Plan(update=24 * 128.0, micro=24 * 128.0, longest_squared=24 * 128.0**2),
        loop=Loop(updates=MORE, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(corpus="embedded-text", where="domain = 'help page'", text=Whole(length=32)),
        frontend=Tokens(vocabulary=400),
        model=replace(SMALL, dim=32, ffn=64, positions=32, dropout=0.1),
        plan=Plan(update=512.0, micro=256.0, longest_squared=16 * 32.0**2),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def _arms(on: Run, wide: Data, updates: int) -> tuple[Arm, ...]:
    """Nothing but fine-tuning; going on; as long as both rounds together; taught by what going on came to; and held by the original.

    `on`: as it goes on, but for its rate, which is half of what the base had in `updates` of the `wide` corpus.
    """
    (player,) = on.players
    free = replace(player, objective=replace(player.objective, weight=0.0))  # type: ignore[type-var]
    base = replace(on, data=wide, players=(free,), loop=replace(on.loop, updates=updates))
    gentle = replace(player.optim, lr=player.optim.lr / 2)
    taught, alone = (replace(on, players=(replace(p, optim=gentle),)) for p in (player, free))
    twice = replace(alone, loop=replace(on.loop, updates=2 * on.loop.updates))
    return (
        Arm(name="fine-tuned alone", run=alone, kind="start", stages=(base,)),
        Arm(name="further pre-trained", run=alone, stages=(base,)),
        Arm(name="twice as long", run=twice, stages=(base,)),
        Arm(name="self-distilled", run=taught, stages=(base,), teacher=(base, alone)),
        Arm(name="held by the original", run=taught, stages=(base,)),
    )


EXPECTED = (("self-distilled", "further pre-trained"), ("self-distilled", "twice as long"))
ALSO = (
    ("self-distilled", "fine-tuned alone"),
    ("self-distilled", "held by the original"),
    ("further pre-trained", "fine-tuned alone"),
)


def claim() -> Claim:
    """A small BERT of package descriptions goes on with a thousand of some sections, and learns to tell these apart from few labels."""
    corpus = "package-descriptions"
    target = f"{ROWS} AND substr(md5(id), 1, 1) < '2'"
    frontend = Tokens(vocabulary=8192, corpus=corpus)
    on = replace(default(), frontend=frontend, data=Data(corpus=corpus, where=target, text=Whole()))
    wide = Data(corpus=corpus, where=f"label NOT IN {SUBJECTS}", text=Whole())
    names = ("200 rows", "50 rows")
    trials = tuple(Trial(task="label-finetune", corpus=corpus, where=ROWS, label_rows=n) for n in (200, 50))
    return Claim(
        recipe="self-distillation",
        text="Fine-tuned on 200 package descriptions, a small BERT that went on in a thousand texts of their kind tells sections apart better "
        "when it did so twice, the second time from the original weights and taught by the first, than when it only went on, also twice as long.",
        study=Study(corpus=corpus, where=target, arms=_arms(on, wide, BASE), trials=trials),
        expected=EXPECTED,
        expected_also=tuple(
            (f"label-finetune, {n}", a, b) for n in names for a, b in (EXPECTED if n != names[0] else ()) + ALSO
        ),
        deviations=(
            f"{BASE:,} updates of 24 texts of other sections at 2 layers of D=128 stand for RoBERTa, {MORE:,} on for 20,000.",
            "Sections of packages stand for ChemProt and the other three sets; accuracy for F1.",
            "The small corpus has no text that is tuned or scored on, for any arm.",
        ),
    )


def claim_speech() -> Claim:
    """A small SSAST of acted dialogue goes on with half an hour of spoken digits, and learns to tell these apart from a minute and a half."""
    joint = ssast.default()
    (player,) = joint.players
    on = replace(
        joint,
        recipe="self-distillation",
        frontend=replace(ssast.AST, mean=-7.7, std=2 * 6.1),  # of amazon-queen
        data=replace(joint.data, corpus="spoken-digits", min_seconds=0.2),
        players=(replace(player, objective=Distillation(pretext=PatchPrediction(), whole="mean")),),
        loop=replace(joint.loop, updates=ON),
    )
    wide = replace(joint.data, corpus="amazon-queen")
    return Claim(
        recipe="self-distillation:speech",
        text="Fine-tuned on a minute and a half of labels, a patch Transformer that went on with unlabelled spoken digits tells digits of new "
        "voices apart better when it did so twice, the second time from the original weights and taught by the first, than when it only went on.",
        study=Study(
            corpus="spoken-digits",
            arms=_arms(on, wide, WIDE),
            trials=(Trial(task="keyword-finetune", label_minutes=1.5),),
        ),
        expected=EXPECTED,
        expected_also=tuple(("keyword-finetune", a, b) for a, b in ALSO),
        deviations=(
            "The paper's own second domain is images; masked patches of spectrograms stand for theirs.",
            f"{WIDE} updates of 60 s of acted dialogue stand for a pre-trained model, {ON} on for 20,000; the mean of all states for CLS.",
        ),
    )
