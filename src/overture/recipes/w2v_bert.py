"""w2v-BERT: contrast in the lower Conformer blocks makes the discrete units that the upper blocks predict.

Chung, Zhang, Han, Chiu, Qin, Pang, Wu, "W2v-BERT: Combining Contrastive Learning and Masked Language Modeling for
Self-Supervised Speech Pre-Training", ASRU 2021, arXiv:2108.06209. Log-mel is convolved to steps of 40 ms and half of them are
hidden. At block N a step has to find its own code among those of other hidden steps; at the top it has to name it. One codebook
serves both, and the contrastive loss keeps it alive: masked prediction alone, with a gradient through its targets, collapses.

Good for: recognition with few labels, by fine-tuning. Not for: a quick look; two stacks and a codebook want many updates.

Deviations, in all sizes:
- LayerNorm over channels in the convolution modules for batch norm: laws 2, 3 and 5 ask that an utterance not see its neighbours.
- LayerNorm on the convolved features, the learnt mask vector, kernels of 3 x 3 and their channels: wav2vec 2.0's or ours, the paper
  does not say. Whether the full model lets the prediction's gradient into the codebook is not said either: it does not here.
- Linear decay of the rate; spans end inside the utterance; no LayerDrop (block N is tapped).
Deviations of `default()`, a size for a laptop: 2 + 2 blocks, D=192, 320 codes, no dropout; all other hidden steps are negatives and
those with the positive's own code are kept: taken out, as fairseq does, a codebook of one code is a zero of the loss. The
temperature falls 300 times as fast, from 2 to .5, as there are 300 times fewer updates.
"""

from dataclasses import replace

from overture.data.features import LogMel
from overture.models.w2v_bert import W2vBert
from overture.objectives.w2v_bert import ContrastAndPredict
from overture.quantize.gumbel import Annealing
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

EXEMPT = {
    2: "codebook diversity is a function of the mean over a micro-batch",
    5: "codebook diversity is a function of the mean over what one device holds",
}
SMALL = W2vBert(
    context_blocks=2,
    mlm_blocks=2,
    dim=192,
    heads=4,
    ffn=768,
    channels=16,
    entries=320,
    code_dim=128,
    contrast_dim=128,
    dropout=0.0,
    attention_dropout=0.0,
)
TASK = ContrastAndPredict(negatives=None, identical="keep", temperature=Annealing(factor=0.9985))
NO_CODES = r"^(?!head\.(quantizer\.codevectors|project_))"  # all parameters but those that only the contrast teaches
COLLAPSES = ("collapsed codebook", "vanished rank", "vanished variance")


def published() -> Run:
    """w2v-BERT XL, 0.6 B parameters, 400,000 updates of Libri-Light's 60,000 h. The paper's own: N=12, M=12, D=1024, 8 heads, kernel 5,
    codebook 1024 x 1024, span starts .065 of 10 steps, Adam, peak 2e-3 after 25,000 updates, 2,048 utterances an update.

    Crops of 32 s are from Ask2Mask (arXiv:2202.12719), same codebase; 100 negatives and kappa .1 are wav2vec 2.0's. From the re-run in
    fairseq (branch `ust`): 768 channels to compare in, temperature 2 to .1 by .999995 an update. FFN of 4 D and dropout .1 are the
    Conformer's, betas the paper's for its larger size, 128 convolution channels ours.
    """
    return Run(
        recipe="w2v-bert",
        size="published",
        data=Data(corpus="libri-light-60k", min_seconds=0.5, max_seconds=32.0, cache=False),
        frontend=LogMel(),
        model=W2vBert(),
        players=(Player(objective=ContrastAndPredict(), optim=Optim(lr=2e-3, warmup=0.0625, betas=(0.9, 0.98))),),
        plan=Plan(update=2048 * 32.0, micro=8 * 32.0, longest_squared=8 * 32.0**2),
        loop=Loop(updates=400_000, log_every=100, checkpoint_every=5_000),
    )


def default() -> Run:
    """For a laptop: 2 + 2 blocks, D=192, 3.9 M parameters."""
    return Run(
        recipe="w2v-bert",
        size="default",
        data=Data(min_seconds=0.5),
        frontend=LogMel(),
        model=SMALL,
        players=(Player(objective=TASK, optim=Optim(lr=1e-3, warmup=0.07)),),
        plan=Plan(update=30.0, micro=30.0),
        loop=Loop(updates=1500, log_every=10, checkpoint_every=250),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = default()
    sizes = replace(SMALL, context_blocks=1, mlm_blocks=1, dim=32, heads=2, ffn=64, channels=4, dropout=0.1)
    return replace(
        base,
        size="tiny",
        data=Data(where="duration between 0.5 and 3", max_seconds=2.0),
        model=replace(sizes, entries=16, code_dim=16, contrast_dim=16),
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Few labels: fine-tuned, both losses together beat the contrastive one alone at equal depth, and masked prediction alone, which
    collapses. Arms share front end, depth, data, updates and fine-tuning.

    Masked prediction alone has a gradient through its targets, as in the paper's ablation: with detached ids it would be another model,
    one whose codebook stays as it was drawn.
    """
    base = default()
    tall = replace(SMALL, context_blocks=4, mlm_blocks=0)
    alone = replace(TASK, contrastive=0.0, diversity=0.0)

    def arm(name: str, task: ContrastAndPredict, parameters: str = "", tolerate: tuple[str, ...] = ()) -> Arm:
        player = replace(base.players[0], objective=task, parameters=parameters)
        loop = replace(base.loop, tolerate=tolerate)
        return Arm(name=name, run=replace(base, model=SMALL if task.mlm else tall, players=(player,), loop=loop))

    return Claim(
        recipe="w2v-bert",
        text="Fine-tuned on 30 minutes of transcribed speech, a w2v-BERT pre-trained with both of its losses makes fewer character "
        "errors than one of the same depth pre-trained with the contrastive loss alone, and than one with masked prediction alone.",
        study=Study(
            corpus="amazon-queen",
            arms=(
                Arm(name="log-mel", run=base, kind="input"),
                Arm(name="untrained", run=base, kind="untrained"),
                arm("contrastive", replace(TASK, mlm=0.0)),
                arm("MLM", replace(alone, target_gradient="straight-through"), NO_CODES, COLLAPSES),
                arm("both", TASK),
                arm("both, ties masked", replace(TASK, identical="mask"), tolerate=COLLAPSES),
            ),
            trials=(
                Trial(task="asr-finetune", where="duration between 0.5 and 10", label_minutes=30.0),
                Trial(task="phone", where="duration between 0.5 and 10", label_minutes=30.0),
            ),
        ),
        expected=(("both", "contrastive"), ("both", "MLM")),
        expected_also=(
            ("asr-finetune", "contrastive", "untrained"),
            ("phone", "both", "contrastive"),
            ("phone", "both", "MLM"),
            ("phone", "both", "untrained"),
        ),
        deviations=(
            "1,500 updates of 30 s at 2 + 2 blocks, D=192 stand for 400,000 of 18 h at 12 + 12, D=1024.",
            "CTC on characters, greedy, after 900 updates of 20 s stands for an RNN-T on word pieces; acted dialogue of a game for LibriSpeech.",
            "Negatives with the positive's code are kept in the sum; the arm 'both, ties masked' is as fairseq has it.",
            "Masked prediction alone has no diversity loss: that is part of the contrastive module.",
            "Phones (frozen, learnt mixture of layers) are read at 40 ms; log-mel, which has no weights to tune, at 20 ms.",
        ),
    )
