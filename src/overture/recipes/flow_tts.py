"""Flow-matching speech synthesis: fill in the hidden frames of an utterance, given the others and its phones.

The part of ELaTE that does not laugh: Kanda et al., "Making Flow-Matching-Based Zero-Shot Text-to-Speech Laugh as You Like", 2024, arXiv:2402.07383,
which is the audio model of Voicebox (Le et al. 2023, arXiv:2306.15687, section 3.3). A Transformer sees frames of a mel spectrogram on their way from
noise, the frames around the hidden span, and the phone of each frame, and says where the hidden ones go. What it is then given of a voice it goes on
with: no speaker labels, no speaker encoder. `overture.models.sampler` follows the flow, `overture.models.durations` says how long phones last, and a
vocoder makes a wave.

Good for: a voice from seconds of it; filling in or replacing words in a recording; synthesis from a few hours of many speakers. Needs a corpus with
phones (`overture data score CORPUS --with phones`, English alone) and a vocoder of the same mel (`frontend.log_mel`).

Deviations, in all sizes:
- Each example is told nothing by a die of its own; re-implementations drop the conditions of a whole batch.
- Where nothing is told, all frames are targets, as where all context is hidden.
- Rotary positions for ALiBi. Phones without stress and without their place in a word.
- Durations are counted, not predicted by a network.
Deviations of `default()`, a size for a laptop: 6 layers of D=256; 16 kHz and 80 mels every 16 ms, as of the vocoders there are; 8 s at most.
"""

from dataclasses import replace

from overture.data.normal_mel import NormalMel
from overture.data.phones import FramePhones
from overture.models.flow import FlowTransformer
from overture.objectives.flow import FlowMatching
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial


def published() -> Run:
    """The base of ELaTE, 333 M parameters: 24 layers, 16 heads, D=1024, FFN 4096; 100 mels at 24 kHz every 256 samples; spans of 70 to 100 %, all
    context hidden at .3, nothing told at .2 (Voicebox's section 5.1; that ELaTE's mel and spans are these is unverified).

    No code was released. The corpus (60,000 h of Libri-Light with a recogniser's transcripts), 390,000 updates of 307,200 frames, rate 7.5e-5 after
    20,000 updates of warm-up and then linear decay are its group's usual ones, and have not been held against the paper. Mean and deviation of
    the mel are a guess, to be measured by `overture.data.level`.
    """
    frontend = NormalMel(rate=24_000, mels=100, high=12_000.0)
    seconds = 307_200 / frontend.frame_rate
    return Run(
        recipe="flow-tts",
        size="published",
        data=Data(corpus="libri-light-60k", max_seconds=20.0, cache=False, phones=FramePhones()),
        frontend=frontend,
        model=FlowTransformer(layers=24, dim=1024, heads=16, ffn=4096, phone_dim=1024, dropout=0.1),
        players=(Player(objective=FlowMatching(), optim=Optim(lr=7.5e-5, warmup=20 / 390, clip=0.2)),),
        plan=Plan(update=seconds, micro=seconds / 8, longest_squared=12_000.0),
        loop=Loop(updates=390_000, log_every=100, checkpoint_every=5_000),
    )


def default() -> Run:
    """For a laptop: 6 layers, D=256, 5.5 M parameters."""
    return Run(
        recipe="flow-tts",
        size="default",
        data=Data(min_seconds=0.5, max_seconds=8.0, phones=FramePhones()),
        frontend=NormalMel(),
        model=FlowTransformer(),
        players=(Player(objective=FlowMatching(), optim=Optim(lr=5e-4, warmup=0.05, clip=1.0)),),
        plan=Plan(update=60.0, micro=60.0),
        loop=Loop(updates=4000, ema=0.999, log_every=40, checkpoint_every=400),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(where="duration between 0.5 and 3", max_seconds=2.0, phones=FramePhones()),
        model=FlowTransformer(layers=3, dim=32, heads=2, ffn=64, phone_dim=16, dropout=0.1),
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """More steps, better speech (Voicebox's section 5.6 has likeness and words over evaluations): one run a seed, asked in three ways.

    Sized by counting operations, about 30 TFLOP a run, and not by a pilot.
    """
    run = replace(
        default(),
        data=Data(
            corpus="amazon-queen",
            where="duration between 1 and 8 and speaker is not null",
            max_seconds=8.0,
            phones=FramePhones(),
        ),
        model=FlowTransformer(layers=4, dim=192, heads=4, ffn=768),
        plan=Plan(update=30.0, micro=30.0),
        loop=Loop(updates=1200, ema=0.998, log_every=20, checkpoint_every=200),
    )
    said = "duration between 1.5 and 5 and phones is not null"
    return Claim(
        recipe="flow-tts",
        text="One flow-matching synthesiser, asked to say texts in the voices of speakers whom it has not heard, comes nearer to them where it "
        "follows the flow in 32 evaluations than in 4.",
        study=Study(
            corpus="amazon-queen",
            where="speaker is not null",
            arms=(
                Arm(name="griffin-lim of recordings", run=run, kind="input"),
                Arm(name="4 evaluations", run=run, steps=4),
                Arm(name="8 evaluations", run=run, steps=8),
                Arm(name="32 evaluations", run=run, steps=32),
            ),
            trials=(
                Trial(task="synthesis-voice", where=said, outside=("recording",)),
                Trial(task="synthesis", where=said, outside=("recording", "piper")),
                Trial(task="synthesis-sound", where=said, outside=("recording", "piper")),
            ),
        ),
        expected=(("32 evaluations", "4 evaluations"),),
        expected_also=(("synthesis-sound", "32 evaluations", "4 evaluations"),),
        deviations=(
            "1,200 updates of 30 s by 2.1 M parameters stand for 390,000 of an hour by 333 M.",
            "Acted dialogue of a game, 11 kHz MP3 brought to 16 kHz, stands for audiobooks; Griffin-Lim stands for a trained vocoder.",
            "Durations are counted; the voice is compared with another recording than the one it is taken from.",
            "GE2E, Whisper and DNSMOS stand for the papers' judges and for listeners.",
        ),
        corpora=("overture data get amazon-queen", "overture data score amazon-queen --with phones"),
    )
