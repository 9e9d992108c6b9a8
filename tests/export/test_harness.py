"""Exports of decoders under lm-evaluation-harness: its own HFLM opens them as they are, and asks them what we ask."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.data.table import Table
from overture.export import export, load_run
from overture.recipes import get
from overture.train.engine import Engine
from overture.train.examples import tokens_of
from overture.train.loop import train

pytest.importorskip("lm_eval", reason="pip install 'overture[lm-eval]'")


def test_log_likelihoods_are_ours(tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    run = get("stability-gap:tiny")
    run = replace(
        run,
        data=replace(run.data, corpus="embedded-text", where="domain = 'biomedicine'", select=None, mix=None),
        start=None,
    )
    run = replace(run, loop=replace(run.loop, updates=3, keep_at=None))
    with Engine.start() as engine:
        train(run, tmp_path / "run", engine=engine)
    export(tmp_path / "run", tmp_path / "hf")
    run, model = load_run(tmp_path / "run")
    table = Table.open("embedded-text", "domain = 'biomedicine' AND length < 120").take(np.arange(4))
    texts = [str(t) for t in table.numpy("text")]
    tokenizer, end = tokens_of(run).tokenizer(table), run.frontend.special.end
    harness = HFLM(pretrained=str(tmp_path / "hf"), device="cpu", batch_size=2, dtype="float32")

    def ours(before: str, rest: str) -> float:
        """What `rest` costs after `before`, in nats below 0; a text begins after an end token."""
        whole = [end, *tokenizer.encode(before + rest, add_special_tokens=False).ids]
        first = 1 + len(tokenizer.encode(before, add_special_tokens=False).ids)
        whole, first = (whole[1:], first - 1) if before else (whole, first)
        with torch.no_grad():
            scores = model.logits(model.hidden(torch.tensor([whole]), torch.tensor([len(whole)])))[0].log_softmax(-1)
        return sum(float(scores[i - 1, whole[i]]) for i in range(first, len(whole)))

    asked = [Instance("loglikelihood_rolling", {}, (t,), i) for i, t in enumerate(texts)]
    assert harness.loglikelihood_rolling(asked, disable_tqdm=True) == pytest.approx(
        [ours("", t) for t in texts], rel=1e-4
    )
    pairs = [(t[: t.index(" ", 20)], t[t.index(" ", 20) :]) for t in texts]
    found = harness.loglikelihood([Instance("loglikelihood", {}, p, i) for i, p in enumerate(pairs)], disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([ours(*pair) for pair in pairs], rel=1e-4)
