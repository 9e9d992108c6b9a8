"""Position prediction (MP3): a Transformer that knows no positions tells from which place of a clip each token comes.

Zhai, Jaitly, Ramapuram, Busbridge, Likhomanenko, Cheng, Talbott, Huang, Goh, Susskind, "Position Prediction as an Effective
Pretraining Strategy", ICML 2022, arXiv:2207.07611. Tokens are frames; attention reads a random part of them, the same in every layer.
Which place a frame has can only be known from what it and the others hold. Fine-tuned with positions, or for good without.

Good for: short utterances of like length, such as keywords, which are built alike. Not for: crops out of running speech, where a frame's
place depends on where the crop began: in 200 updates next to nothing is learnt there.

All figures of the paper's speech set-up are unverified: we have not seen its tables.

Deviations, in all sizes:
- The analysis windows do not overlap (20 ms every 20 ms, hence 40 mel channels): frames that share samples betray their neighbours.
- Frames are centred and edges reflected: where a crop begins with its recording, the first frame may be known by that.
- Log-mel is normalised over the whole recording before it is cropped.
Deviations of `default()`, a size for a laptop: 4 layers of D=256 and few updates.
"""

from dataclasses import replace

from overture.data.features import LogMel
from overture.data.masks import PatchClusters, RandomKeep
from overture.models.patch import PatchTransformer
from overture.objectives.patches import PatchPrediction
from overture.objectives.position import PositionPrediction
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

SEPARATE = LogMel(mels=40, window=0.02, hop=0.02)  # no sample is in two frames; 80 filters would fall between its bins
OVERLAPPING = LogMel(mels=40)  # 25 ms every 10 ms, paired to tokens of 20 ms by patches of 2 frames
TOKENS = 50  # N, of 20 ms: clips of 1 s
MODEL = PatchTransformer(
    patch=(40, 1),
    stride=(40, 1),
    positions="none",
    frames=TOKENS,
    class_tokens=0,
    dim=256,
    heads=4,
    ffn=1024,
    pretext=("position",),
)
LAPTOP = replace(MODEL, layers=4)


def published() -> Run:
    """Placeholders, all unverified: 12 layers of D=384, the upper ends of what we take the speech model to be, on Speech Commands, half of the
    tokens as context, rate 1e-3, batches of 256, 200 epochs of its 84,843 training clips.

    The paper's vision models are ViT-S and ViT-B; D=384 and 12 layers is the trunk of the former (22 M).
    """
    return Run(
        recipe="position-prediction",
        size="published",
        data=Data(corpus="speech-commands-v2", min_seconds=1.0, max_seconds=1.0),
        frontend=SEPARATE,
        model=replace(MODEL, layers=12, dim=384, heads=6, ffn=1536, dropout=0.1),
        players=(
            Player(
                objective=PositionPrediction(), optim=Optim(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, warmup=0.05)
            ),
        ),
        plan=Plan(update=256.0, micro=256.0),
        loop=Loop(updates=66_300, log_every=100, checkpoint_every=2_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, D=256, 3.2 M parameters; 50 tokens a clip, 25 of them context."""
    return Run(
        recipe="position-prediction",
        size="default",
        data=Data(min_seconds=1.0, max_seconds=1.0),
        frontend=SEPARATE,
        model=LAPTOP,
        players=(
            Player(objective=PositionPrediction(context=RandomKeep(share=0.5)), optim=Optim(lr=1e-3, warmup=0.1)),
        ),
        plan=Plan(update=64.0, micro=64.0),
        loop=Loop(updates=1500, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = default()
    return replace(
        base,
        size="tiny",
        data=Data(where="duration between 1 and 3", min_seconds=1.0, max_seconds=1.0),
        model=replace(LAPTOP, layers=2, dim=32, heads=2, ffn=64, dropout=0.1),
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Few labels: pre-trained by position prediction, and fine-tuned with positions, the network tells spoken digits by unheard voices apart
    better than from scratch; fine-tuned without, at least as well as from scratch with them (the paper's sharpest claim).

    Masked reconstruction by the same trunk stands beside it, with positions throughout. Overlapping windows are reported beside separate
    ones: if only those pre-train well, what was learnt is which frames share samples.
    """
    base, none = default(), replace(LAPTOP, frames=20)
    base = replace(
        base,
        frontend=replace(SEPARATE, high=4_000.0),  # the digits are of 8 kHz
        data=replace(base.data, min_seconds=0.4, max_seconds=0.4),
        model=none,
        plan=Plan(update=32.0, micro=32.0),
        loop=replace(base.loop, updates=1200),
    )
    placed = replace(none, positions="sinusoid")
    filling = replace(placed, pretext=("generative",))
    fill = PatchPrediction(mask=PatchClusters(sizes=(1,), share=0.5), discriminative=0.0)
    reconstruct = replace(base, model=filling, players=(replace(base.players[0], objective=fill),))
    pairs = replace(none, patch=(40, 2), stride=(40, 2), frames=40)
    overlapping = replace(base, frontend=replace(OVERLAPPING, high=4_000.0), model=pairs)
    paired = replace(pairs, positions="sinusoid")
    return Claim(
        recipe="position-prediction",
        text="Fine-tuned on few labels, a Transformer pre-trained to predict the positions of its tokens tells spoken digits apart better "
        "than one from scratch; and fine-tuned without positions, better than one from scratch that has them.",
        study=Study(
            corpus="spoken-digits",
            arms=(
                Arm(name="scratch, positions", run=base, kind="untrained", finetune_model=placed),
                Arm(name="scratch, none", run=base, kind="untrained"),
                Arm(name="MP3, positions", run=base, finetune_model=placed),
                Arm(name="MP3, none", run=base),
                Arm(name="reconstruction, positions", run=reconstruct),
                Arm(name="overlapping scratch, positions", run=overlapping, kind="untrained", finetune_model=paired),
                Arm(name="overlapping MP3, positions", run=overlapping, finetune_model=paired),
            ),
            trials=(Trial(task="keyword-finetune", label_minutes=1.5),),
        ),
        expected=(("MP3, positions", "scratch, positions"), ("MP3, none", "scratch, positions")),
        expected_also=(
            ("keyword-finetune", "MP3, none", "scratch, none"),
            ("keyword-finetune", "scratch, positions", "scratch, none"),
            ("keyword-finetune", "overlapping MP3, positions", "overlapping scratch, positions"),
            ("keyword-finetune", "MP3, positions", "overlapping MP3, positions"),
            ("keyword-finetune", "MP3, positions", "reconstruction, positions"),
        ),
        deviations=(
            "1200 updates of 32 s on .2 h of spoken digits at 8 kHz, cropped to .4 s (20 tokens), stand for 200 epochs of keywords of 1 s.",
            "Shorter digits are left out of pre-training and longer ones are cropped in fine-tuning too.",
            "Arms from scratch get the same fine-tuning, and so fewer updates in all.",
        ),
    )
