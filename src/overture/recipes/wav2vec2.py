"""wav2vec 2.0: representations of raw speech by telling the code of each masked frame from those of others.

Baevski, Zhou, Mohamed, Auli, "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", NeurIPS 2020,
arXiv:2006.11477. Seven convolutions turn samples into frames of 20 ms; spans of 200 ms are hidden from a Transformer, whose
output there must be nearer to the frame's own quantized features than to those of 100 other masked frames of the utterance.
The codes come from a product codebook learnt by a Gumbel softmax, kept in use by a diversity loss. The network is
transformers' `Wav2Vec2ForPreTraining`.

Good for: speech recognition with few labels, phones, continuing a published checkpoint on your own recordings (also at 8 kHz, by
stride surgery: `Wav2Vec2.for_rate`). Needs more compute than the spectrogram recipes.

Deviations, in all sizes:
- Diversity is of a micro-batch, as everywhere, so it alone depends on how an update is divided: laws 2 and 5 hold without it.
- A span is never cut at the end of an utterance, and their number is rounded, not drawn.
Deviations of `default()`, a size for a laptop: layer norm in the front end instead of group norm, which hears padding; pre-norm
layers; 64 to 256 channels and 4 layers of H=256; 2 x 64 codes; no dropout and no layer drop; rate 1e-3; the temperature falls
to its end in the first half of the run; negatives that have the positive's code are kept in the sum, since masked out they make a
collapsed codebook a zero of the loss, which small runs find.
"""

from dataclasses import replace

from overture.data.features import Waveform
from overture.models.wav2vec2 import Wav2Vec2
from overture.objectives.wav2vec2 import Contrastive
from overture.quantize.gumbel import Annealing
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

EXEMPT = {
    2: "the diversity loss is a function of the mean over a micro-batch; with its weight 0 the law holds (tests/recipes/test_wav2vec2.py)",
    5: "the diversity loss is a function of the mean over a device's micro-batch, as in law 2",
}
SMALL = Wav2Vec2(
    conv_dim=(64, 64, 128, 128, 256, 256, 256),
    conv_bias=True,
    layers=4,
    dim=256,
    heads=4,
    ffn=1024,
    stable_layer_norm=True,
    entries=64,
    dropout=0.0,
)
NARROW = replace(SMALL, conv_dim=(16,) * 7, layers=2, dim=32, heads=2, ffn=64, positions=32, position_groups=4)
TINY = replace(NARROW, entries=16, code_dim=16, projection=16, dropout=0.1)
KEEP = Contrastive(identical="keep", temperature=Annealing(factor=0.9985))
COLLAPSES = ("collapsed codebook", "vanished rank", "vanished variance")


def published() -> Run:
    """BASE on 960 h of LibriSpeech (sections 4.2 and 4.3): 12 layers, H=768, FFN 3072, seven convolutions of 512 channels; crops of
    250,000 samples; an update of 1.6 h (64 devices of 1.4 M samples); rate 5e-4, warm-up 8 % of 400,000 updates, then linear
    decay; dropout 0.1, layer drop 0.05; temperature 2 to 0.5 by 0.999995 an update; 100 negatives, kappa 0.1, diversity 0.1.

    From the released code (wav2vec2_base_librispeech.yaml), where the paper is silent: penalty 10 on the features, their gradient scaled
    by 0.1, Adam (0.9, 0.98), eps 1e-6, decay 0.01, no clipping, clips under 2 s dropped; and 12 heads, where the paper's text says 8.
    The group norm over an utterance and its padding is the paper's; the encoder is not padding safe (law 3) at this size.
    """
    return Run(
        recipe="wav2vec2",
        size="published",
        data=Data(corpus="librispeech-960", min_seconds=2.0, max_seconds=15.625, cache=False),
        frontend=Waveform(),
        model=Wav2Vec2(feature_norm="group", layer_drop=0.05, feature_gradient=0.1),
        players=(
            Player(
                objective=Contrastive(penalty=10.0),
                optim=Optim(lr=5e-4, betas=(0.9, 0.98), eps=1e-6, warmup=0.08, clip=1e9),
            ),
        ),
        plan=Plan(update=64 * 87.5, micro=87.5, longest_squared=1400.0),
        loop=Loop(updates=400_000, log_every=100, checkpoint_every=10_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, H=256, 4.4 M parameters."""
    return Run(
        recipe="wav2vec2",
        size="default",
        data=Data(min_seconds=0.5),
        frontend=Waveform(),
        model=SMALL,
        players=(Player(objective=KEEP, optim=Optim(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, warmup=0.08)),),
        plan=Plan(update=32.0, micro=32.0),
        loop=Loop(updates=2000, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = default()
    return replace(
        base,
        size="tiny",
        data=Data(where="duration between 0.5 and 3", max_seconds=2.0),
        model=TINY,
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Frozen features: frames of a wav2vec 2.0 tell phones apart better than log-mel and than the untrained network.

    The trained arms differ in one thing, what becomes of negatives that have the positive's code. The small sizes keep them, the paper's
    code masks them out: the second arm may collapse, and is let go on when it does.
    """
    base = default()
    masked = replace(base.players[0], objective=replace(KEEP, identical="mask"))
    risky = replace(base, players=(masked,), loop=replace(base.loop, tolerate=COLLAPSES))
    return Claim(
        recipe="wav2vec2",
        text="A linear classifier tells phones apart better on frozen frames of a wav2vec 2.0 pre-trained on unlabelled speech than on "
        "log-mel frames and than on those of the same network untrained.",
        study=Study(
            corpus="amazon-queen",
            arms=(
                Arm(name="log-mel", run=base, kind="input"),
                Arm(name="untrained", run=base, kind="untrained"),
                Arm(name="wav2vec 2.0", run=base),
                Arm(name="ties masked", run=risky),
            ),
            trials=(
                Trial(task="phone", where="duration between 0.5 and 10", label_minutes=30.0),
                Trial(task="asr", where="duration between 0.5 and 10", label_minutes=30.0),
            ),
        ),
        expected=(("wav2vec 2.0", "untrained"), ("wav2vec 2.0", "log-mel")),
        expected_also=(
            ("phone", "wav2vec 2.0", "ties masked"),
            ("asr", "wav2vec 2.0", "untrained"),
            ("asr", "wav2vec 2.0", "log-mel"),
            ("asr", "wav2vec 2.0", "ties masked"),
        ),
        deviations=(
            "2,000 updates of 32 s at H=256 and 4 layers stand for 400,000 of 1.6 h at H=768 and 12.",
            "Frozen frames and a linear classifier stand for fine-tuning; phones are forced-aligned by pocketsphinx (39 and silence).",
            "Acted dialogue of a game (11 kHz MP3) stands for LibriSpeech.",
            "Log-mel frames of 10 ms are averaged in pairs, to the 20 ms of the encoder.",
        ),
    )
