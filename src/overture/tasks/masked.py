"""What a network that fills in knows of text that it has not read: the task `held-out-masked`, in the end and on the way.

Of each test row the first tokens, as many as an example of the training has, under BERT's own corruption (Devlin et al. 2019) whatever the
network has learnt from; which tokens are taken depends on the row alone, so all arms and seeds are asked the same. Told in nats a token that was
taken. At each update that its run kept (`Loop.keep_at`) and in the end, the development rows are asked too, beside the FLOPs of its training until
then: what `verdicts.savings` are computed of.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from overture import jsonfile
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.table import Table
from overture.data.text import Whole, padded
from overture.errors import OvertureError
from overture.objectives.masked_tokens import Corruption
from overture.objectives.vocabulary import token_losses
from overture.run import Run
from overture.tasks import Task
from overture.tasks.metrics import Counts
from overture.tasks.probe import scored
from overture.tasks.trajectory import Followed, Point, kept_at
from overture.train.examples import tokens_of
from overture.train.state import checkpoints, load_weights, update_of

if TYPE_CHECKING:
    from overture.models.text import TextModel

BATCH = 32  # examples of a forward pass


def judge(
    task: Task, model: "TextModel", run: Run, folder: Path | None, table: Table, *, dev: np.ndarray, test: np.ndarray
) -> Followed:
    """`model` as it is, the network of `run`, on the rows `test` of `table`; `rate` is the update, `trajectory` of the rows `dev`.

    `folder`: of the run, whose way is followed; None: it has gone none. Leaves `model` with other weights. Raises OvertureError for a decoder,
    for tokens without [MASK], and see `trajectory.kept_at`.
    """
    if model.causal:
        raise OvertureError(
            f"task {task.name!r} is for networks that fill in, such as Bert; for one that writes there is held-out"
        )
    began = time.perf_counter()
    counts = costs(model, run, table, test)
    last = 0 if folder is None else update_of(checkpoints(folder)[-1])
    end = Point(last, costs(model, run, table, dev).value, {}, 0.0 if folder is None else flops(folder, last))
    points = []
    for path in kept_at(run, folder) if folder is not None and run.loop.keep_at else []:
        if (update := update_of(path)) != last:
            load_weights(path, model)
            points.append(Point(update, costs(model, run, table, dev).value, {}, flops(path.parents[1], update)))
    points.append(end)
    found = scored(
        table,
        test,
        task.metric,
        counts,
        [""] * len(test),
        [""] * len(test),
        rate=float(last),
        dev={float(p.update): p.value for p in points},
        dev_curve=[],
        layer_weights=[],
        left_out=[],
        began=began,
        seed=0,
    )
    return Followed(**vars(found), trajectory=points)


@torch.no_grad()
def costs(model: "TextModel", run: Run, table: Table, rows: np.ndarray) -> Counts:
    """Nats and taken tokens of each of `rows`. Raises OvertureError where the run does not say how long its examples are."""
    if run.data.text is None:
        raise OvertureError("a run on text needs data.text: how documents become examples")
    part, tokens = table.take(rows), tokens_of(run)
    examples = Whole(length=run.data.text.length).prepare(Encoded.open(part, tokens), part, tokens.special, seed=0)
    device = next(model.parameters()).device
    model.eval()
    nats, taken = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for some in np.array_split(np.argsort(examples.lengths, kind="stable"), -(-len(rows) // BATCH)):
        arrays = padded([examples.fetch(int(i), Draws(0, 0)) for i in some], tokens.special.pad)
        x, lengths = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["lengths"])
        hidden_ids, places = Corruption()(model, Batch(rows=torch.from_numpy(some), x=x, lengths=lengths), Draws(0, 0))
        hidden = model.hidden(hidden_ids.to(device), lengths.to(device))  # (B, T, D)
        before, weight, bias = model.output
        _, each = token_losses(before(hidden[places.to(device)]), weight, bias, x[places].to(device))
        line = places.nonzero()[:, 0]  # (M,) of the batch
        nats[some] = torch.zeros(len(some), dtype=torch.float64).index_add_(0, line, each.double().cpu()).numpy()
        taken[some] = places.sum(1).numpy()
    return Counts(nats, taken)


def flops(folder: Path, update: int) -> float:
    """Of the training in `folder` up to `update`, and of all that it went on from since the network was fresh or grew."""
    state = jsonfile.read_object(folder / "checkpoints" / f"update-{update:08d}" / "state.json")
    own: float = jsonfile.read_object(folder / "flops.json")["flops_per_padded_unit"] * state["seen"]
    config: dict[str, Any] = jsonfile.read_object(folder / "run.json")["config"]
    if config["start"] is None or config.get("grow") is not None:
        return own
    before = folder.parent / config["start"]
    whole = checkpoints(before)
    return own + (flops(before, update_of(whole[-1])) if whole else 0.0)  # a published checkpoint does not tell
