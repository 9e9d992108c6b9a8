"""Pre-training with preferences: a language model that is told of each line how good it is, and asked for good ones.

Korbak, Shi, Chen, Bhalerao, Buckley, Phang, Bowman, Perez, "Pretraining Language Models with Human Preferences", ICML 2023,
arXiv:2302.08582. A scorer judges every segment of the corpus: the toxicity of sentences, personal data, violations of PEP 8 in lines of
code. Of five ways to mind it, conditional training is best: a control token before each segment says whether its score is low, the model
learns from both kinds, and is asked to write under the good one. The others are to drop bad documents (`data.select`), unlikelihood, and
weights by reward or advantage (`objectives.preferences`).

Good for: a language model, trained from nothing, that shall not write as the worse parts of its corpus do. Not for: mending one that
is trained already.

Deviations, in all sizes:
- Documents are encoded whole and control tokens put between tokens; the code encodes each segment by itself. Of programs it is the same:
  lines end with a token of their own.
- Which segments go without a control token is drawn once a run, not in each epoch.
- Control tokens begin as all tokens do; the code sets them to the mean of the others with noise, which from fresh weights is a smaller start.
Deviations of `default()`, a size for a laptop: a Llama of 4 layers and D=256 for GPT-2 small, contexts of 256 tokens for 1024.
"""

from dataclasses import replace

from overture.data.segments import PackSegments, Prefix
from overture.data.select import Select
from overture.data.tokens import Tokens
from overture.models.text import Gpt2, Llama
from overture.objectives.causal import Causal
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

ALIGNED, MISALIGNED = BLOCKS = ("<|aligned|>", "<|misaligned|>")
PEP8 = Prefix(threshold=0.0, good=ALIGNED, bad=MISALIGNED, omit=0.1)  # 0.01 for toxicity and personal data
CORPUS = "python-programs"
PACKAGES = ("libpython3.11-minimal", "libpython3.11-stdlib", "python3-nltk", "python3-reportlab")
PROGRAMS = f"length BETWEEN 500 AND 60000 AND label IN {PACKAGES} AND id NOT LIKE '%/encodings/%'"  # no tables
BETTER_HALF = "pep8 <= (SELECT median(pep8) FROM rows)"
PARTS = (("train", "sha1 < 'e'"), ("dev", "sha1 >= 'e' AND sha1 < 'f'"), ("test", "sha1 >= 'f'"))


def published() -> Run:
    """PEP 8: GPT-2 small with CodeParrot's 32,768 tokens and two more, 111 M parameters, on 3.3 B tokens of Python (section 3, appendices A and B and
    the released `pep8/conditional.yml`): contexts of 1024, 64 of them an update, 50,354 updates, rate 8e-4 with 1 % warm-up and linear
    decay, weight decay 0.1, threshold 0, a tenth of the lines without a control token.

    Toxicity and personal data are the same with `--set frontend.vocabulary=50259` (GPT-2's own and two more, 124 M parameters), omit 0.01 and a
    rate of 5e-4; thresholds .00056 and 0.
    """
    return Run(
        recipe="human-preferences",
        size="published",
        data=Data(corpus="codeparrot-3b", text=PackSegments(length=1024, prefix=PEP8)),
        frontend=Tokens(vocabulary=32_768 + len(BLOCKS), blocks=BLOCKS),
        model=Gpt2(),
        players=(Player(objective=Causal(), optim=Optim(lr=8e-4, weight_decay=0.1, warmup=0.01, clip=1.0)),),
        plan=Plan(update=64 * 1024.0, micro=16 * 1024.0, longest_squared=16 * 1024.0**2),
        loop=Loop(updates=50_354, log_every=20, checkpoint_every=1_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, D=256, 7.4 M parameters, updates of 4,096 tokens."""
    return Run(
        recipe="human-preferences",
        size="default",
        data=Data(corpus="embedded-text", where="pep8 IS NOT NULL", text=PackSegments(length=256, prefix=PEP8)),
        frontend=Tokens(vocabulary=8192, blocks=BLOCKS),
        model=Llama(layers=4, dim=256, heads=4, ffn=704, positions=1024),
        players=(Player(objective=Causal(), optim=Optim(lr=1e-3, weight_decay=0.1, warmup=0.05, clip=1.0)),),
        plan=Plan(update=4096.0, micro=4096.0, longest_squared=2.0**21),
        loop=Loop(updates=1000, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = default()
    return replace(
        base,
        size="tiny",
        data=Data(corpus="embedded-text", where="pep8 IS NOT NULL", text=PackSegments(length=32, prefix=PEP8)),
        frontend=Tokens(vocabulary=400, blocks=BLOCKS),
        model=Llama(layers=2, dim=32, heads=2, ffn=64, positions=64),
        plan=Plan(update=512.0, micro=256.0, longest_squared=2.0**15),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """PEP 8 (section 4, the third task): told what is good, a model writes fewer violations than one that is not (MLE) and than one that
    reads the better half of the documents alone, and knows as much of text in general.

    All arms share network, tokenizer, updates and tokens of an update; the filtered one reads its half more often. Two controls: the same
    network asked for bad lines, which must be worse than MLE, and one whose lines carry the labels of others.
    """
    base = default()
    small = replace(
        base,
        frontend=replace(base.frontend, vocabulary=2048, corpus=CORPUS),
        model=Llama(layers=3, dim=128, heads=4, ffn=352, positions=256),
        players=(Player(objective=Causal(), optim=replace(base.players[0].optim, lr=2e-3)),),
        loop=replace(base.loop, updates=600),
    )

    def arm(
        name: str, control: str | None = None, *, prefix: Prefix | None = PEP8, select: Select | None = None
    ) -> Arm:
        text = PackSegments(length=256, prefix=prefix, shuffled=name == "random labels")
        return Arm(name=name, run=replace(small, data=Data(corpus=CORPUS, text=text, select=select)), control=control)

    return Claim(
        recipe="human-preferences",
        text="A language model of Python that is told of each line whether it keeps to PEP 8 writes fewer violations, asked for good lines, "
        "than one that is not told and than one trained on the better half of the documents, and more when asked for bad ones.",
        study=Study(
            corpus=CORPUS,
            where="pep8 IS NOT NULL",
            arms=(
                arm("MLE", prefix=None),
                arm("filtering", prefix=None, select=Select(column="pep8", descending=False, like=BETTER_HALF)),
                arm("conditional", ALIGNED),
                arm("conditional, asked for bad", MISALIGNED),
                arm("random labels", ALIGNED),
            ),
            trials=(Trial(task="samples", parts=PARTS), Trial(task="held-out", parts=PARTS)),
        ),
        expected=(("conditional", "MLE"), ("MLE", "conditional, asked for bad")),
        expected_also=(
            ("samples", "conditional", "filtering"),
            ("samples", "filtering", "MLE"),
            ("samples", "conditional", "random labels"),
            ("held-out", "conditional", "filtering"),
            ("held-out", "MLE", "conditional"),
        ),
        deviations=(
            "600 updates of 4,096 tokens at 3 layers of D=128, a vocabulary of 2,048, stand for 3.3 B tokens at GPT-2 small.",
            "512 samples of 128 tokens stand for 4,096 of up to 640, and none is prompted.",
            "Bits per character of held-out programs, good and bad, stand for the KL from GPT-3 on its samples.",
            "The good token stands before every line that is written or read, never paid for; the paper's before the first, which a pilot forgot.",
            "At equal tokens the conditional arms read less text, since control tokens are of them.",
        ),
        corpora=(
            "overture data get python-code",
            f'overture data join {CORPUS} python-code --where "{PROGRAMS}"',
            f"overture data score {CORPUS} --with pep8 --segments",
        ),
    )
