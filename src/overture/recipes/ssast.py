"""SSAST: hidden patches of a spectrogram are found among the others and filled in, jointly.

Gong, Lai, Chung, Glass, "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, arXiv:2110.09784. A spectrogram is cut
into patches, 16 x 16 for sounds or whole frames of 128 x 2 for speech, and 78 % of them are hidden from a Transformer. One head has to
find the hidden patch among all hidden patches of its clip, the other to fill in its values; L = L_d + 10 L_g.

Good for: fine-tuning to tell utterances or sounds apart with few labels. Not for: frozen features, which are weak before fine-tuning.

Deviations, in all sizes:
- The contrast is over the targets of a prediction, as eq. 1 has it; the published code normalises over predictions.
- Clusters hide every patch equally often (`mask.faithful` does as the code, which never hides some).
- Clips are not filled up with zeros: an utterance's own number of patches counts, and its positions are cut out of the middle.
- Warm-up and linear decay for a rate that follows the accuracy; AdamW for Adam.
Deviations of `default()`, a size for a laptop: 4 layers of D=192, clips of 2.56 s (128 patches for 512), rate 1e-3, as few updates bear.
"""

from dataclasses import replace

from overture.data.features import KaldiFbank
from overture.data.masks import PatchClusters
from overture.models.patch import PatchTransformer, Pretext
from overture.objectives.patches import PatchPrediction
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

AST = KaldiFbank(mels=128, window_type="hanning", scale=1.0, mean=-4.2677393, std=2 * 4.5689974)
BASE = PatchTransformer(frames=1024, layers=12, dim=768, heads=12, ffn=3072)
SMALL = replace(BASE, dim=384, heads=6, ffn=1536)
TINY = replace(BASE, dim=192, heads=3, ffn=768)
LAPTOP = replace(TINY, frames=256, layers=4)
FRAME = (128, 2)  # channels x frames of a patch of the frame models
MANY_KITS = "label IN (SELECT label FROM rows GROUP BY label HAVING count(*) >= 25 AND count(DISTINCT kit) >= 6)"


def published() -> Run:
    """The base patch model, 89 M parameters (of which 1.5 M are ImageNet heads that nothing uses): 12 layers, D=768, 12 heads, 16 x 16
    patches, 400 of 512 hidden in clusters of 3 to 5, lambda 10 (section 2 and 3.1 and the released `run_mask_patch.sh`).

    AudioSet-2M and LibriSpeech-960, 2.2 M clips of 10.24 s, 24 an update, 10 epochs; Adam, betas .95 and .999, weight decay 5e-7,
    rate 1e-4 after 1000 updates of warm-up. `SMALL` and `TINY` are its smaller networks; `FRAME` with `sizes=(1,)` the frame model.
    """
    return Run(
        recipe="ssast",
        size="published",
        data=Data(corpus="audioset-2m-librispeech-960", max_seconds=10.24, cache=False),
        frontend=AST,
        model=BASE,
        players=(
            Player(
                objective=PatchPrediction(),
                optim=Optim(lr=1e-4, betas=(0.95, 0.999), weight_decay=5e-7, warmup=1000 / 916_667),
            ),
        ),
        plan=Plan(update=24 * 10.24, micro=24 * 10.24, longest_squared=8_000.0),
        loop=Loop(updates=916_667, log_every=100, checkpoint_every=4_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, D=192, 2.0 M parameters."""
    return Run(
        recipe="ssast",
        size="default",
        data=Data(min_seconds=0.5, max_seconds=2.56),
        frontend=AST,
        model=LAPTOP,
        players=(Player(objective=PatchPrediction(), optim=Optim(lr=1e-3, betas=(0.95, 0.999), warmup=0.1)),),
        plan=Plan(update=60.0, micro=60.0),
        loop=Loop(updates=600, log_every=10, checkpoint_every=100),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = default()
    return replace(
        base,
        size="tiny",
        data=Data(where="duration between 0.5 and 3", max_seconds=2.0),
        model=replace(LAPTOP, frames=192, layers=2, dim=32, heads=2, ffn=64, dropout=0.1),
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Few labels, all weights fine-tuned: joint before either loss alone before none (table 2), on spoken digits by voices that training
    has not heard; whole frames before squares on speech (table 5). Arms share network, data, updates and fine-tuning.

    Speakers stand beside it, and sounds, where the paper expects squares to be better.
    """
    base = replace(default(), frontend=replace(AST, mean=-7.7, std=2 * 6.1))  # of amazon-queen

    def arm(name: str, *, frame: bool = False, discriminative: float = 1.0, generative: float = 10.0) -> Arm:
        weights: dict[Pretext, float] = {"discriminative": discriminative, "generative": generative}
        shape = FRAME if frame else LAPTOP.patch
        objective = PatchPrediction(
            mask=PatchClusters(sizes=(1,)) if frame else PatchClusters(),
            discriminative=discriminative,
            generative=generative,
        )
        model = replace(LAPTOP, patch=shape, stride=shape, pretext=tuple(k for k, w in weights.items() if w))
        return Arm(name=name, run=replace(base, model=model, players=(replace(base.players[0], objective=objective),)))

    return Claim(
        recipe="ssast",
        text="Fine-tuned on few labels, a patch Transformer pre-trained to find and to fill in hidden patches tells spoken digits apart "
        "better than one from scratch and than one pre-trained to fill in alone; finding is what matters most.",
        study=Study(
            corpus="amazon-queen",
            arms=(
                Arm(name="scratch", run=base, kind="untrained"),
                arm("generative", discriminative=0.0),
                arm("discriminative", generative=0.0),
                arm("joint"),
                arm("joint, frames", frame=True),
                replace(arm("joint, frames", frame=True), name="scratch, frames", kind="untrained"),
            ),
            trials=(
                Trial(task="keyword-finetune", corpus="spoken-digits", label_minutes=1.5),
                Trial(task="speaker-finetune", where="duration between 0.5 and 10", min_count=30),
                Trial(
                    task="sound-finetune", corpus="sound-effects", where=MANY_KITS, min_count=20, outside=("yamnet",)
                ),
            ),
        ),
        expected=(("joint", "scratch"), ("discriminative", "generative")),
        expected_also=(
            ("keyword-finetune", "joint", "generative"),
            ("keyword-finetune", "joint", "discriminative"),
            ("keyword-finetune", "generative", "scratch"),
            ("keyword-finetune", "joint, frames", "joint"),
            ("keyword-finetune", "joint, frames", "scratch, frames"),
            ("speaker-finetune", "joint", "scratch"),
            ("speaker-finetune", "joint, frames", "joint"),
            ("sound-finetune", "joint", "scratch"),
            ("sound-finetune", "joint", "joint, frames"),
        ),
        deviations=(
            "600 updates of 60 s at 4 layers of D=192 stand for 900,000 at 12 of D=768.",
            "4 h of acted dialogue of a game, with stretches of digital silence, stand for AudioSet and LibriSpeech.",
            "Equal updates, not equal time: the joint arms compute two passes an update.",
            "Patches keep their stride in fine-tuning; the paper lets them overlap there, at twice the cost and more.",
            "The classifier is the linear layer of the task, without the LayerNorm before it.",
        ),
    )
