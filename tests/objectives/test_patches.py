"""overture.objectives.patches: targets inside the clip and without gradient, exact counts, two masks, both losses by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.masks import PatchClusters
from overture.errors import OvertureError
from overture.models.modeling_patch import PatchModel
from overture.models.patch import PatchTransformer
from overture.objectives.patches import PatchPrediction, info_nce

MEL = LogMel(mels=16)
SIZES = PatchTransformer(patch=(4, 5), stride=(4, 5), frames=60, layers=1, dim=16, heads=2, ffn=24)
JOINT = PatchPrediction(mask=PatchClusters(share=0.75, sizes=(2, 3)))


def built(**changes: Any) -> PatchModel:
    torch.manual_seed(0)
    return replace(SIZES, **changes).build(MEL).eval()


def clips(*lengths: int, filling: float = 0.0) -> Batch:
    x = torch.randn(len(lengths), max(lengths), 16, generator=torch.Generator().manual_seed(1))
    for b, n in enumerate(lengths):
        x[b, n:] = filling
    return Batch(rows=torch.arange(len(lengths)) + 7, x=x, lengths=torch.tensor(lengths))


class Recorder(nn.Module):
    """The model, keeping the masks that it is called with."""

    def __init__(self, model: PatchModel) -> None:
        super().__init__()
        self.model, self.masks = model, []

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        self.masks.append(named["masked"])
        return self.model(*arguments, **named)


def by_hand(model: PatchModel, batch: Batch, masks: list[torch.Tensor]) -> tuple[float, float]:
    """L_d and L_g summed over hidden patches, patch by patch."""
    clean = model.patches(batch.x, batch.lengths)
    first, second = (model(batch.x, batch.valid, masked=m).patch_states for m in masks)
    discriminative = generative = 0.0
    for b in range(len(batch.rows)):
        places = masks[0][b].nonzero().tolist()
        for f, t in places:
            c = model.head.discriminative(first[b, f, t])
            scores = torch.stack([c @ clean[b, g, u] for g, u in places])
            discriminative -= float(torch.log_softmax(scores, 0)[places.index([f, t])])
        for f, t in masks[1][b].nonzero().tolist():
            generative += float((model.head.generative(second[b, f, t]) - clean[b, f, t]).square().mean())
    return discriminative, generative


def test_both_losses_are_the_written_formulas() -> None:
    model, batch = Recorder(built()), clips(60, 33)
    loss = JOINT(model, batch, Draws(0, 3))
    with torch.no_grad():
        d, g = by_hand(model.model, batch, model.masks)
    assert float(loss.sum.detach()) == pytest.approx(d + 10 * g, rel=1e-4)
    count = int(loss.targets)
    assert float(loss.watch["discriminative"]) == pytest.approx(d / count, rel=1e-4)
    assert float(loss.watch["mse"]) == pytest.approx(g / count, rel=1e-4)
    for weights, expected in (((1.0, 0.0), d), ((0.0, 1.0), None)):
        alone = Recorder(model.model)
        found = replace(JOINT, discriminative=weights[0], generative=weights[1])(alone, batch, Draws(0, 3))
        assert len(alone.masks) == 1 and torch.equal(alone.masks[0], model.masks[0])  # purpose 0
        assert ("mse" in found.watch) == (expected is None)
        assert expected is None or float(found.sum.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_two_losses_come_from_two_passes_with_two_masks() -> None:
    model, batch = Recorder(built()), clips(60, 60)
    JOINT(model, batch, Draws(0, 0))
    assert len(model.masks) == 2 and not torch.equal(*model.masks)
    assert torch.equal(model.masks[0].sum((1, 2)), model.masks[1].sum((1, 2)))


@pytest.mark.parametrize("sizes", [(1,), (2, 3)])
def test_exactly_so_many_of_each_clip_and_none_of_its_padding(sizes: tuple[int, ...]) -> None:
    lengths = (60, 33, 58, 5)
    model, batch = Recorder(built()), clips(*lengths, filling=9.0)
    objective = replace(JOINT, mask=replace(JOINT.mask, sizes=sizes))
    for update in range(5):
        loss = objective(model, batch, Draws(0, update))
        for mask in model.masks[-2:]:
            assert mask.sum((1, 2)).tolist() == [round(0.75 * 4 * (n // 5)) for n in lengths]
            for b, n in enumerate(lengths):
                assert not mask[b, :, n // 5 :].any()
        assert int(loss.targets) == sum(round(0.75 * 4 * (n // 5)) for n in lengths)


def test_a_clips_mask_does_not_depend_on_its_neighbours() -> None:
    together, alone = Recorder(built()), Recorder(built())
    batch = clips(60, 33, 40)
    joint = JOINT(together, batch, Draws(5, 2))
    parts = []
    for b, n in enumerate(batch.lengths.tolist()):
        part = Batch(rows=batch.rows[b : b + 1], x=batch.x[b : b + 1, :n], lengths=batch.lengths[b : b + 1])
        parts.append(JOINT(alone, part, Draws(5, 2)))
        assert torch.equal(alone.masks[-2][0], together.masks[0][b, :, : n // 5])
    assert float(joint.sum.detach()) == pytest.approx(sum(float(p.sum.detach()) for p in parts), rel=1e-4)
    assert int(joint.targets) == sum(int(p.targets) for p in parts)


def test_no_gradient_reaches_the_targets() -> None:
    """With everything hidden the input is nothing but target."""
    model, batch = built(), clips(60, 33)
    batch.x.requires_grad_(True)
    replace(JOINT, mask=PatchClusters(share=1.0, sizes=(1,)))(model, batch, Draws(0, 0)).sum.backward()
    assert batch.x.grad is None or not batch.x.grad.any()
    JOINT(model, batch, Draws(0, 0)).sum.backward()
    assert bool(batch.x.grad.any())  # and otherwise it is seen


def test_candidates_are_those_of_the_same_clip() -> None:
    predicted, targets = torch.randn(7, 20), torch.randn(7, 20)
    changed = targets.clone()
    changed[3:] *= 2.0
    first, _ = info_nce(predicted[:3], targets[:3], [3])
    second = [info_nce(predicted[3:], t[3:], [4])[0] for t in (targets, changed)]
    for other, t in zip(second, (targets, changed)):
        torch.testing.assert_close(info_nce(predicted, t, [3, 4])[0], first + other)
    assert abs(float(second[0] - second[1])) > 1e-2
    assert abs(float(info_nce(predicted, targets, [7])[0] - first - second[0])) > 1e-2


def test_targets_are_raw_patches_not_embeddings() -> None:
    """The embedding learns only through what is visible: with everything hidden it has no gradient at all."""
    model, batch = built(), clips(60)
    everything = replace(JOINT, mask=PatchClusters(share=1.0, sizes=(1,)))
    everything(model, batch, Draws(0, 0)).sum.backward()
    projection = model.embeddings.patch_embeddings.projection
    assert not projection.weight.grad.any() and bool(model.head.mask.grad.any())


def test_the_contrast_is_over_the_targets_of_a_prediction() -> None:
    c, x = torch.randn(5, 20), torch.randn(5, 20)
    scores = c @ x.T
    paper = -torch.log_softmax(scores, 1).diagonal().sum()
    code = -torch.log_softmax(scores, 0).diagonal().sum()
    found, right = info_nce(c, x, [5])
    torch.testing.assert_close(found, paper)
    assert abs(float(found - code)) > 1e-2
    assert int(right) == int((scores.argmax(1) == torch.arange(5)).sum())
    perfect, all_right = info_nce(10 * x, x, [5])
    assert int(all_right) == 5 and float(perfect) < float(found)


def test_scores_are_exact_under_autocast() -> None:
    c, x = 5 * torch.randn(40, 256), torch.randn(40, 256)
    exact, _ = info_nce(c, x, [40])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(c, x, [40])[0], exact)


def test_the_frames_that_health_sees_are_the_valid_patches() -> None:
    batch = clips(60, 33)
    loss = JOINT(built(), batch, Draws(0, 0))
    assert loss.frames.shape == (4 * (12 + 6), 16) and not loss.frames.requires_grad
    assert all(not v.requires_grad and v.shape == () for v in loss.watch.values())


@pytest.mark.parametrize(
    ("changes", "weights", "message"),
    [
        ({"stride": (4, 3)}, {}, "overlap.*model.stride = model.patch"),
        ({"pretext": ("generative",)}, {}, "discriminative head.*model.pretext"),
        ({}, {"discriminative": 0.0, "generative": 0.0}, "both weights"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], weights: dict[str, float], message: str) -> None:
    with pytest.raises(OvertureError, match=message):
        replace(JOINT, **weights)(built(**changes), clips(60), Draws(0, 0))


def test_a_batch_without_a_whole_patch_is_refused_and_one_with_some_is_not() -> None:
    with pytest.raises(OvertureError, match=r"whole patch of 0\.05 s"):
        JOINT(built(), clips(4, 3), Draws(0, 0))
    assert int(JOINT(built(), clips(4, 33), Draws(0, 0)).targets) == 18
