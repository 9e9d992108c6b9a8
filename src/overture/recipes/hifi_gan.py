"""HiFi-GAN: waves from mel spectrograms, by a generator against critics of periods and of scales.

Kong, Kim, Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis", 2020, arXiv:2010.05646. Transposed
convolutions make each frame of a log-mel spectrogram a hop of samples, and residual blocks of several kernels and dilations say what they are.
Critics that see every p-th sample, and others that see the wave at half and a quarter of its rate, tell what was made from recordings; the
generator fools them, has their features, and above all the mel of the recording. What comes out opens as transformers' `SpeechT5HifiGan`.

Good for: the last step of any synthesiser whose frames are `overture.data.vocoder_mel`'s, such as flow-tts; any language, text is not looked at. Not
for little training: Griffin-Lim needs none.

Deviations, in all sizes:
- All critics have weight normalisation, none spectral; fresh weights are torch's own (`overture.models.modeling_vocoder`).
- A segment's mel is that of the utterance there; the mel of the loss is that of the input (`overture.objectives.vocoder`).
- An utterance is cropped before a segment of it is drawn, so that a batch is small.
- The rate falls with the update and not with the epoch, to the same end.
Deviations of `default()`, a size for a laptop: 16 kHz; 64 channels and three steps instead of 512 and four, two kernels instead of three; critics of
4 channels instead of 32, of four periods and one scale; 8 segments of a quarter of a second instead of 16 of .37; rate 1e-3, as narrow networks bear.
"""

from dataclasses import replace

from overture.data.vocoder_mel import Samples, VocoderMel
from overture.models.vocoder import Discriminators, HifiGan
from overture.objectives.vocoder import OPTIM, players
from overture.run import Data, Loop, Plan, Run
from overture.study import Arm, Claim, Study, Trial

EXEMPT = {
    6: "a vocoder has no states to open with AutoModel: it is exported as transformers' SpeechT5HifiGan, which no Auto class knows",
}


def published() -> Run:
    """V1 on LJSpeech, 13.9 M parameters and critics of 70.7 M: 512 channels, steps of 8, 8, 2 and 2, kernels 3, 7 and 11 (appendix A), 80 mels at
    22.05 kHz every 256 samples, 16 segments of 8,192 samples an update, AdamW with betas .8 and .99, rate 2e-4, 2.5 M updates (section 3.1, and
    `config_v1.json` of the released code, whose decay is .999 an epoch)."""
    mel = VocoderMel(rate=22_050)
    return Run(
        recipe="hifi-gan",
        size="published",
        data=Data(corpus="ljspeech", max_seconds=1.0, cache=False),
        frontend=Samples(rate=mel.rate),
        model=HifiGan(mel=mel),
        players=players(segment=8192),
        plan=Plan(update=16.0, micro=16.0),
        loop=Loop(updates=2_500_000, precision="fp32", log_every=100, checkpoint_every=5_000),
    )


def default() -> Run:
    """For a laptop: a generator of .2 M parameters."""
    return Run(
        recipe="hifi-gan",
        size="default",
        data=Data(min_seconds=0.3, max_seconds=0.5, cache=False),
        frontend=Samples(),
        model=HifiGan(
            channels=64,
            rates=(8, 8, 4),
            kernels=(3, 7),
            critics=Discriminators(periods=(2, 3, 5, 7), scales=1, width=4),
        ),
        players=players(segment=4096, optim=replace(OPTIM, lr=1e-3)),
        plan=Plan(update=4.0, micro=4.0),
        loop=Loop(updates=2000, precision="fp32", log_every=20, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(where="duration between 0.5 and 3", max_seconds=0.25, cache=False),
        model=HifiGan(
            mel=VocoderMel(window=512, mels=20),
            channels=8,
            rates=(16, 16),
            kernels=(3,),
            dilations=(1,),
            critics=Discriminators(periods=(3,), scales=0, width=1),
        ),
        players=players(segment=1024, optim=replace(OPTIM, lr=1e-3)),
        plan=Plan(update=1.0, micro=1.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Of recordings by voices that training has not heard, made into spectrograms and back, HiFi-GAN's sound better than Griffin-Lim's, which needs
    no training, and than those of the generator untrained. The paper has people judge it against other networks that learn (tables 1 and 3).

    The log-mel distance stands beside it: Griffin-Lim, which does nothing but find a wave with this spectrogram, comes to .17 nats, and that is
    no measure of how it sounds.
    """
    run = default()
    heard = "duration between 1 and 5"
    return Claim(
        recipe="hifi-gan",
        text="Spectrograms of voices that training has not heard become waves that sound better, as DNSMOS guesses that people would say, by a "
        "HiFi-GAN trained for 2,000 updates than by Griffin-Lim and by the same generator untrained.",
        study=Study(
            corpus="amazon-queen",
            where="speaker is not null",
            arms=(
                Arm(name="griffin-lim", run=run, kind="input"),
                Arm(name="untrained", run=run, kind="untrained"),
                Arm(name="hifi-gan", run=run),
            ),
            trials=(
                Trial(task="copy-synthesis-sound", where=heard, outside=("recording",)),
                Trial(task="copy-synthesis", where=heard),
                Trial(task="copy-synthesis-words", where=heard, outside=("recording",)),
            ),
        ),
        expected=(("hifi-gan", "griffin-lim"), ("hifi-gan", "untrained")),
        expected_also=(("copy-synthesis", "hifi-gan", "untrained"), ("copy-synthesis-words", "hifi-gan", "untrained")),
        deviations=(
            "2,000 updates of 2 s of audio by a generator of .16 M parameters stand for 2.5 M updates of 6 s by 13.9 M.",
            "Acted dialogue of a game, 11 kHz MP3 brought to 16 kHz, stands for LJSpeech and VCTK: nothing is above 5.5 kHz.",
            "Published models stand for listeners: DNSMOS for how it sounds, Whisper for whether the words are heard.",
        ),
    )
