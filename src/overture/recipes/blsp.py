"""BLSP: a language model learns to hear by going on from speech as it goes on from the transcript.

Wang, Liao, Huang, Lu, Wu, Liu, Zong, Zhang, "BLSP: Bootstrapping Language-Speech Pre-training via Behavior Alignment of Continuation Writing",
2023, arXiv:2309.00916. A speech encoder and a language model stay as they are; an adapter between them is all that learns. What it learns from the
language model wrote itself: told the transcript, it goes on; told the speech, it shall say the same. Trained so on one instruction, it follows
others; trained on transcripts, it transcribes and follows none.

Good for: giving a text model ears with a few hours of transcribed speech. Not for: recognition, which CTC or Whisper do better, and what is
in a voice besides its words, which a transcript lacks.

Deviations, in all sizes:
- The encoder hears an utterance and not 30 s of it and silence.
- A continuation that was cut when it was written (`continuation_ended`) is still ended by an end token, as in the released code.
Deviations of `default()`, a size for a laptop: Whisper base for small, Gemma 3 270M (4-bit weights, dequantised; the base model, so it is
prompted by plain text and no stage 0 teaches it instructions) for a Llama 2 of 7 B parameters, bottleneck 128.
"""

from dataclasses import replace

from overture.data.features import LogMel
from overture.data.render import SpokenText
from overture.data.sample import Respond, Template
from overture.data.score.continuation import TEMPLATE, parts
from overture.data.states import EncoderStates
from overture.data.tokens import Tokens
from overture.models.adapters import ConvGlu
from overture.models.speech_text import SpeechText
from overture.models.text import Llama, Pretrained
from overture.objectives.answers import Answers
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

ADAPTER = "^adapter"  # all that learns
GEMMA = "gemma-3-270m"
CORPUS = "amazon-queen"
UPDATES = 200  # of the claim's arms
BEFORE, AFTER = parts(TEMPLATE)
PLAIN = Template(user="", assistant="", after="\n")  # for a model that knows no turns
GO_ON = Respond(instruction=BEFORE, behind=AFTER, template=PLAIN)  # as the continuations were written
PAPER = "Continue the following text in a coherent and engaging style with less than 40 words."


def published() -> Run:
    """Whisper small, LLaMA-2-7B after a fine-tuning on Alpaca's instructions, adapter of 47.5 M parameters; 768 utterances an update, AdamW at
    5e-5 after 1,000 of warm-up, decay .05, clip 1, one epoch of 8.8 M pairs (released code).

    Both models are folders of yours: `--set frontend.audio.model=DIR --set model.lm.model=DIR --set frontend.tokens.published=DIR`.
    """
    return Run(
        recipe="blsp",
        size="published",
        data=Data(corpus="librispeech-gigaspeech-commonvoice", sample=Respond(instruction=PAPER), max_seconds=30.0),
        frontend=SpokenText(
            audio=EncoderStates(model="whisper-small"), tokens=Tokens(published="llama-2-7b-alpaca", vocabulary=32_000)
        ),
        model=SpeechText(adapter=ConvGlu(), lm=Pretrained(model="llama-2-7b-alpaca", dim=4096)),
        players=(
            Player(
                objective=Answers(), optim=Optim(lr=5e-5, weight_decay=0.05, warmup=0.087, clip=1.0), parameters=ADAPTER
            ),
        ),
        plan=Plan(update=768 * 160.0, micro=8 * 160.0, longest_squared=8 * 320.0**2),
        loop=Loop(updates=11_458, log_every=20, checkpoint_every=500),
    )


def default() -> Run:
    """For a laptop: Whisper base, Gemma 3 270M, an adapter of 8.7 M parameters between them. The corpus needs its continuations first:
    `overture data score CORPUS --with continuation`."""
    tokens = Tokens(published=GEMMA, vocabulary=262_144)
    return replace(
        published(),
        size="default",
        data=Data(corpus="embedded", sample=GO_ON, max_seconds=20.0),
        frontend=SpokenText(audio=EncoderStates(), tokens=tokens),
        model=SpeechText(adapter=ConvGlu(bottleneck=128), lm=Pretrained(model=GEMMA, dim=640)),
        players=(Player(objective=Answers(), optim=Optim(lr=1e-3, warmup=0.1, clip=1.0), parameters=ADAPTER),),
        plan=Plan(update=1024.0, micro=1024.0, longest_squared=2.0**18),
        loop=Loop(updates=500, log_every=5, checkpoint_every=100),
    )


def tiny() -> Run:
    """For tests: seconds on one core. Log-mel for an encoder, a fresh network for the language model, and transcripts to learn."""
    lm = Llama(layers=2, dim=32, heads=2, ffn=64, positions=512)
    return replace(
        default(),
        size="tiny",
        data=Data(sample=replace(GO_ON, column="text"), max_seconds=4.0),
        frontend=SpokenText(audio=LogMel(mels=20), tokens=Tokens(vocabulary=400, corpus="embedded-text")),
        model=SpeechText(adapter=ConvGlu(kernels=(3, 3, 3), bottleneck=8), lm=lm),
        plan=Plan(update=1024.0, micro=512.0, longest_squared=2.0**18),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """The adapter trained on the language model's own continuations against the same trained on transcripts (the paper's motivation, section 2, and
    its comparison with ASR pre-training), and against one trained with each utterance's recording exchanged for another's.

    Voices of the test rows were never heard. Deciding is how much of what the transcript is worth to the language model hearing is worth too.
    """
    base = default()
    loop = replace(base.loop, updates=UPDATES, checkpoint_every=UPDATES)

    def arm(name: str, sample: Respond) -> Arm:
        return Arm(name=name, run=replace(base, data=replace(base.data, corpus=CORPUS, sample=sample), loop=loop))

    own = arm("continuations", GO_ON)
    return Claim(
        recipe="blsp",
        text="An adapter that learns a language model's own continuations of transcripts brings it nearer to what it says of the text than one "
        "that learns the transcripts.",
        study=Study(
            corpus=CORPUS,
            where="continuation IS NOT NULL AND length(text) >= 20",
            arms=(
                own,
                arm("transcripts", replace(GO_ON, column="text")),
                arm("continuations, exchanged", replace(GO_ON, exchanged=True)),
                replace(own, name="untrained", kind="untrained"),
            ),
            trials=(
                Trial(task="gap-closure", outside=("whisper-base",)),
                Trial(task="heard-word"),
                Trial(task="echo"),
                Trial(task="repeat", outside=("whisper-base",)),
            ),
        ),
        expected=(("continuations", "transcripts"), ("continuations", "continuations, exchanged")),
        expected_also=(
            ("heard-word", "continuations", "transcripts"),
            ("heard-word", "continuations", "continuations, exchanged"),
            ("echo", "continuations", "transcripts"),
            ("repeat", "transcripts", "continuations"),
        ),
        corpora=(
            f"overture data get {CORPUS}",
            f"overture data score {CORPUS} --with continuation",
            "overture models get whisper-base gemma-3-270m",
        ),
        deviations=(
            f"{UPDATES} updates of 1,024 tokens on 4 h of acted speech stand for 8.8 M pairs; Whisper base and Gemma 3 270M for small and 7 B.",
            "The language model is not tuned to instructions: to go on is all that it is asked, and continuations end at a line's end.",
            "Which of four words was said, by likelihood, stands for following instructions that were never trained.",
        ),
    )
