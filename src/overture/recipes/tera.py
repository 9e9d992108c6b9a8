"""TERA: self-supervised Transformer encoders by reconstructing altered log-mel frames.

Liu, Li, Lee, "TERA: Self-Supervised Learning of Transformer Encoder Representation for Speech", IEEE/ACM TASLP 2021,
arXiv:2007.06028. An utterance is corrupted along time (blocks of 70 ms), frequency (a band of channels) and magnitude
(noise), all at once, and a small post-norm Transformer predicts the clean frames, with L1 over the altered elements only.
The head is thrown away; the hidden states are frozen features, or a start for fine-tuning.

Good for: little compute, few labels, tasks of content (phones, keywords). Not for: speaker verification, where the paper's
family is no better than log-mel.

Deviations, in all sizes:
- The noise die is rolled per utterance, as the paper says; its code rolls it per batch.
- Padding is known from lengths; the code takes a frame whose channels sum to zero for padding.
Deviations of `default()`, a size for a laptop: H=256 and 4 heads instead of 768 and 12; no dropout (it doubles the time of an
update on a CPU, and no recording is seen often enough to overfit); rate 1e-3 instead of 2e-4, as narrow networks bear; fresh
weights with deviation 1/16 instead of 1/50, the same variance for 256 inputs as the paper's for 2,500; updates of 15 s, because
it is the number of updates that counts: the loss stands still for the first 2,000, until attention has found the neighbours of
an altered frame (docs/lab-log.md); no minimum length (200 frames in the paper), since corpora of prompts are made of short clips.
"""

from dataclasses import replace

from overture.data.alteration import Alteration
from overture.data.features import LogMel
from overture.models.spectrogram import SpectrogramTransformer
from overture.objectives.reconstruction import MaskedReconstruction
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

TIME = Alteration(frequency_share=0.0, noise_probability=0.0)
TIME_FREQUENCY = Alteration(noise_probability=0.0)
TIME_FREQUENCY_MAGNITUDE = Alteration()


def published() -> Run:
    """The base model on 960 h of LibriSpeech: 3 layers, H=768, 12 heads, FFN 3072, dropout 0.1 (section IV-A and the released
    configuration logMelBase-T-F-M): rate 2e-4, warm-up 7 %, clip 5, 1 M updates of 32 utterances, crops of 1500 frames,
    utterances under 200 frames dropped.

    32 utterances are stated here as 32 x 12.3 s, the mean length of LibriSpeech, of padded audio an update.
    """
    return Run(
        recipe="tera",
        size="published",
        data=Data(corpus="librispeech-960", min_seconds=2.0, max_seconds=15.0, cache=False),
        frontend=LogMel(),
        model=SpectrogramTransformer(layers=3, dim=768, heads=12, ffn=3072, dropout=0.1, attention_dropout=0.1),
        players=(Player(objective=MaskedReconstruction(), optim=Optim(lr=2e-4, warmup=0.07, clip=5.0)),),
        plan=Plan(update=32 * 12.3, micro=32 * 12.3, longest_squared=8_000.0),
        loop=Loop(updates=1_000_000, log_every=100, checkpoint_every=10_000),
    )


def default() -> Run:
    """For a laptop: 3 layers, H=256, 2.5 M parameters."""
    return Run(
        recipe="tera",
        size="default",
        frontend=LogMel(),
        model=SpectrogramTransformer(dim=256, heads=4, ffn=1024, dropout=0.0, attention_dropout=0.0, init=1 / 16),
        players=(Player(objective=MaskedReconstruction(), optim=Optim(lr=1e-3, warmup=0.07, clip=5.0)),),
        plan=Plan(update=15.0, micro=15.0),
        loop=Loop(updates=4000, log_every=40, checkpoint_every=400),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(where="duration between 0.5 and 3", max_seconds=2.0),
        model=SpectrogramTransformer(layers=2, dim=32, heads=2, ffn=64, dropout=0.1, attention_dropout=0.0),
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Frozen features: TERA's frames tell phones apart better than log-mel and than the untrained network, and more kinds of
    alteration help (section V; phones by linear classifiers are the paper's first table).

    Five arms share encoder, data, updates, splits and probes; only what is altered differs. Speaker identification stands
    beside it, where the paper expects the frequency band to help.
    """
    base = default()

    def arm(name: str, alteration: Alteration, tolerate: tuple[str, ...] = ()) -> Arm:
        player = replace(base.players[0], objective=MaskedReconstruction(alteration=alteration))
        return Arm(name=name, run=replace(base, players=(player,), loop=replace(base.loop, tolerate=tolerate)))

    return Claim(
        recipe="tera",
        text="A linear classifier tells phones apart better on frozen frames of a TERA pre-trained with time, frequency and "
        "magnitude alteration than on log-mel frames and than on those of the same network untrained.",
        study=Study(
            corpus="amazon-queen",
            arms=(
                Arm(name="log-mel", run=base, kind="input"),
                Arm(name="untrained", run=base, kind="untrained"),
                arm("T", TIME, tolerate=("vanished variance", "vanished rank")),  # alone it may collapse
                arm("T+F", TIME_FREQUENCY),
                arm("T+F+M", TIME_FREQUENCY_MAGNITUDE),
            ),
            trials=(
                Trial(task="phone", where="duration between 0.5 and 10", label_minutes=30.0),
                Trial(task="speaker-id", where="duration between 0.5 and 10", min_count=30),
            ),
        ),
        expected=(("T+F+M", "untrained"), ("T+F+M", "log-mel")),
        expected_also=(
            ("phone", "T+F+M", "T"),
            ("phone", "T+F+M", "T+F"),
            ("speaker-id", "T+F+M", "untrained"),
            ("speaker-id", "T+F", "T"),
        ),
        deviations=(
            "Phones are forced-aligned by pocketsphinx (39 and silence), at 20 ms: pairs of 10 ms states are averaged.",
            "4,000 updates of 15 s at H=256 stand for 200,000 and more of 6 minutes at H=768.",
            "Acted dialogue of a game (11 kHz MP3) stands for LibriSpeech.",
            "The probe reads a learnt mixture of all layers, as in SUPERB, not the last layer alone.",
        ),
    )
