"""Structural objectives: find the tokens that were replaced, and tell which spans belong to one paragraph.

Di Liello, "Structural Self-Supervised Objectives for Transformers", thesis, 2023, arXiv:2309.08272 (from arXiv:2210.13536, arXiv:2205.10455
and arXiv:2205.01228). Part 1 pre-trains BERT cheaply, without a softmax over the vocabulary: RTS replaces tokens at random and asks of each
whether it was, C-RTS draws them from clusters that fool the network; SLM predicts, as masked language modelling does, from random tokens for
[MASK]. Part 2 adds what a text's structure says: whether spans are of one paragraph (SSP, MSPP), paragraphs of one document (PSD), ... .

Good for: documents with paragraphs and few labels to tell them or their sentences apart; cheap pre-training of small encoders. Not for:
texts without structure.

Deviations, in all sizes:
- C-RTS' clusters are bands of successive ids, which go from frequent to rare; the thesis clusters vectors of tokens, how is not told.
- C-RTS counts replaced tokens only: those left alone, nearly always found, would outweigh them by six to one on the diagonal.
- Replacements are never special tokens nor the token itself; the code allows both and calls them replaced.
- Pairs and groups are drawn anew in each epoch, easy negatives from the whole corpus, not from a batch; spans have no segment embedding.
- A relation weighs as much as the tokens taken in its example, so that one division is right for both losses (`objectives.relations`).
Deviations of `default()`, a size for a laptop: 4 layers of D=256 from nothing, rate 5e-4, no dropout; fresh weights of deviation .035 have
with 256 inputs the variance of BERT's .02 with 768.
"""

from dataclasses import replace

from overture.data.relations import Groups, Pairs
from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.clusters import ClusteredBert
from overture.models.text import Bert
from overture.objectives.masked_tokens import MaskedTokens
from overture.objectives.relations import Related, relation_head
from overture.objectives.replaced import REPLACED, ClusterReplacedTokens, ReplacedTokens
from overture.run import Data, Loop, Objective, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

BASE = Bert(extra=(REPLACED,))
SMALL = Bert(layers=4, dim=256, heads=4, ffn=1024, positions=128, dropout=0.0, init=0.035, extra=(relation_head(),))
NO_VOCABULARY_HEAD = r"^(?!network\.cls)"  # which replaced tokens do not teach
SUBJECTS = "('admin', 'database', 'games', 'graphics', 'mail', 'math', 'net', 'science', 'sound', 'text', 'video')"
ALSO = (("MLM", "untrained"), ("RTS", "untrained"), ("C-RTS", "untrained"), ("MLM, MLM + SSP", "MLM, MLM"))
UPDATES, MORE = 1300, 1000  # of the claim's arms, of 24 pairs, and of those that go on from MLM
EQUAL = (
    1.17  # updates of RTS that cost as many FLOPs as one of MLM at the claim's size; in time on a CPU it may have 1.6
)


def published() -> Run:
    """Part 1, RTS: BERT-base uncased (12 layers, D=768, vocabulary of 30,522), 256 stretches of 512 tokens of Wikipedia and BookCorpusOpen an
    update, 1 M updates, AdamW at 1e-4 after 10,000 of warm-up, decay .01, clip 1, loss x 50 (commands of the released code).

    C-RTS: 128 stretches, `ClusteredBert` of 100 clusters. SLM: `MaskedTokens` with `Corruption(mask=0, random=1)`.
    """
    optim = Optim(lr=1e-4, warmup=0.01, clip=1.0)
    return Run(
        recipe="structural",
        size="published",
        data=Data(corpus="wikipedia-bookcorpusopen", text=Pack(length=512, framed=True)),
        frontend=Tokens(kind="wordpiece", vocabulary=30_522),
        model=BASE,
        players=(Player(objective=ReplacedTokens(), optim=optim, parameters=NO_VOCABULARY_HEAD),),
        plan=Plan(update=256 * 512.0, micro=32 * 512.0, longest_squared=32 * 512.0**2),
        loop=Loop(updates=1_000_000, log_every=100, checkpoint_every=10_000),
    )


def published_joint() -> Run:
    """Part 2, MSPP: RoBERTa-base going on, a sentence and 5 candidates in slots of 64 tokens, 4,096 such groups an update, 100,000 updates at
    1e-4 after 10,000 of warm-up (released code). Which weights it goes on from `start` says: a run of ours."""
    optim = Optim(lr=1e-4, warmup=0.1, clip=1.0)
    return replace(
        published(),
        data=Data(corpus="wikipedia-bookcorpus-openwebtext-ccnews", text=Groups()),
        frontend=Tokens(vocabulary=50_265),
        model=replace(BASE, extra=(relation_head("AE_k"),)),
        players=(Player(objective=Related(kind="AE_k"), optim=optim),),
        plan=Plan(update=4096 * 384.0, micro=64 * 384.0, longest_squared=64 * 384.0**2),
        loop=Loop(updates=100_000, log_every=100, checkpoint_every=10_000),
    )


def default() -> Run:
    """For a laptop, MLM + SSP: 4 layers, D=256, 5.4 M parameters; updates of 64 pairs."""
    return Run(
        recipe="structural",
        size="default",
        data=Data(corpus="embedded-text", text=Pairs()),
        frontend=Tokens(vocabulary=8192),
        model=SMALL,
        players=(Player(objective=Related(), optim=Optim(lr=5e-4, warmup=0.1, clip=1.0)),),
        plan=Plan(update=64 * 128.0, micro=64 * 128.0, longest_squared=64 * 128.0**2),
        loop=Loop(updates=1000, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(corpus="embedded-text", where="domain = 'help page'", text=Pairs(length=32)),
        frontend=Tokens(vocabulary=400),
        model=replace(SMALL, layers=2, dim=32, heads=2, ffn=64, positions=32, dropout=0.1),
        plan=Plan(update=512.0, micro=256.0, longest_squared=16 * 32.0**2),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Few labels: going on with MLM that also learns which spans are of one paragraph gives a better start than with MLM alone, and than with
    labels at random (part 2). Replaced tokens are to be as good a start as masked ones at equal cost (part 1): no order of arms decides that.

    All arms read the same pairs of spans of Debian's package descriptions, at 2 layers of D=128, and then learn a package's section.
    """
    small = replace(SMALL, layers=2, dim=128, heads=2, ffn=512, extra=())
    clustered = ClusteredBert(**{**vars(small), "extra": (REPLACED,)}, clusters=50)
    plan = Plan(update=24 * 128.0, micro=24 * 128.0, longest_squared=24 * 128.0**2)

    def run(objective: Objective, model: Bert, updates: float, lr: float = 1e-3, labels: bool = True) -> Run:
        parameters = NO_VOCABULARY_HEAD if isinstance(objective, ReplacedTokens) else ""
        players = (Player(objective=objective, optim=Optim(lr=lr, warmup=0.1, clip=1.0), parameters=parameters),)
        data = Data(corpus="package-descriptions", text=Pairs(random_labels=not labels))
        loop = replace(default().loop, updates=round(updates))
        return replace(default(), data=data, model=model, players=players, plan=plan, loop=loop)

    first, related = run(MaskedTokens(), small, UPDATES), replace(small, extra=(relation_head(),))
    arms = (
        Arm(name="tf-idf", run=first, kind="input"),
        Arm(name="untrained", run=first, kind="untrained"),
        Arm(name="MLM", run=first),
        Arm(name="RTS", run=run(ReplacedTokens(), replace(small, extra=(REPLACED,)), UPDATES * EQUAL)),
        Arm(name="C-RTS", run=run(ClusterReplacedTokens(), clustered, UPDATES * EQUAL)),
        Arm(name="MLM, MLM", run=run(MaskedTokens(), small, MORE, 5e-4), stages=(first,)),
        Arm(name="MLM, MLM + SSP", run=run(Related(), related, MORE, 5e-4), stages=(first,)),
        Arm(name="MLM, MLM + random", run=run(Related(), related, MORE, 5e-4, labels=False), stages=(first,)),
    )
    where = f"label IN {SUBJECTS} AND length BETWEEN 200 AND 1000"
    rates = (3e-4, 1e-3, 3e-3)
    trials = tuple(Trial(task="label-finetune", where=where, label_rows=rows, rates=rates) for rows in (50, 500, None))
    return Claim(
        recipe="structural",
        text="Fine-tuned on 50 package descriptions, a small BERT tells sections apart better when it went on with MLM + SSP than with MLM "
        "alone, and than with MLM + SSP with random labels.",
        study=Study(corpus="package-descriptions", arms=arms, trials=trials),
        expected=(("MLM, MLM + SSP", "MLM, MLM"), ("MLM, MLM + SSP", "MLM, MLM + random")),
        expected_also=tuple((f"label-finetune, {n}", a, b) for n in ("500 rows", "all labels") for a, b in ALSO),
        deviations=(
            f"{UPDATES:,} updates of 24 pairs at 2 layers of D=128 stand for 1 M (part 1), and {MORE:,} on from there for 100,000 of RoBERTa.",
            f"Equal cost is equal FLOPs: RTS and C-RTS have {EQUAL} times the updates of MLM.",
            "Sections of packages, from the mean of all states, stand for GLUE and for selecting answers to questions.",
            "RTS and C-RTS, too, read pairs of spans and not stretches of 512 tokens; SLM is no arm.",
        ),
    )
