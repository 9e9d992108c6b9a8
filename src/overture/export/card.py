"""The model card that goes with an exported model: data, licence, recipe, metrics, how to use it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overture import recipes
from overture.models.start import said as starts_said
from overture.run import Run


def model_card(
    run: Run,
    about: dict[str, Any],
    metrics: Sequence[dict[str, Any]],
    folder: Path,
    *,
    frame_rate: float,
    own_code: bool,
) -> str:
    """Markdown with the front matter that model hubs read.

    frame_rate: of the hidden states, Hz. own_code: whether the folder brings its network's code along.
    """
    entry, data = recipes.INDEX[run.recipe], about["data"]
    updates = [m for m in metrics if m["kind"] == "update"]
    last: dict[str, Any] = updates[-1] if updates else {}
    licences, sources, languages = (data.get(k, []) for k in ("licences", "sources", "languages"))
    trust = ", trust_remote_code=True" if own_code else ""
    kept = (
        "The parts of pre-training (heads, codebooks) are in the model, so training can be continued."
        if own_code
        else "`AutoModelForPreTraining` also opens the parts of pre-training (quantizer, projections), so training can be continued."
    )
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: feature-extraction",
        "tags: [speech, self-supervised, overture, " + run.recipe + "]",
        *(["language: [" + ", ".join(languages) + "]"] if languages else []),
        "license: other  # of the recordings, see below",
        "license_name: " + json.dumps("; ".join(licences) or "not recorded", ensure_ascii=False),
        "---",
        "",
        f"# {run.recipe} pre-trained on {data['corpus']}",
        "",
        f"{entry.title} ({entry.paper}), trained with Overture {about['versions']['overture']}.",
        "",
        "## Use",
        "",
        "```python",
        "import numpy as np",
        "from transformers import AutoFeatureExtractor, AutoModel",
        "",
        'folder = "."  # where this file lies, or what it is called on a hub',
        f"waveform = np.random.default_rng(0).normal(0, 0.1, {run.frontend.rate})  # (N,) your mono recording, at {run.frontend.rate} Hz",
        f"extractor = AutoFeatureExtractor.from_pretrained(folder{trust})",
        f"model = AutoModel.from_pretrained(folder{trust})",
        f'inputs = extractor(waveform, sampling_rate={run.frontend.rate}, return_tensors="pt")',
        f"states = model(**inputs).last_hidden_state  # (1, T, D), {frame_rate:g} a second",
        "```",
        "",
        kept,
        "",
        "## Data",
        "",
        f"- corpus `{data['corpus']}`: {data['rows']} utterances, {data['hours']:.2f} h (fingerprint `{data['fingerprint']}`)",
        f"- sources: {', '.join(sources) or 'not recorded'}",
        f"- licences of the recordings: {', '.join(licences) or 'not recorded'}. What they ask of a model trained on them is for you to judge.",
        "",
        "## Training",
        "",
        f"- {about['parameters']:,} parameters, {about['precision']}, on {about['device']}",
        f"- configuration in `overture.json` (fingerprint `{about['fingerprint']}`)",
    ]
    if about.get("start"):
        lines += ["- " + starts_said(about["start"])]
        for was in about["start"]["heard"]:
            lines.append(
                f"- the weights it started from had heard: `{was['corpus']}`, {was['hours']:.2f} h (fingerprint `{was['fingerprint']}`), "
                f"licences: {', '.join(was['licences']) or 'not recorded'}"
                if was["corpus"] is not None
                else f"- what the weights it started from (`{was['checkpoint']}`) had heard is not recorded"
            )
    if last:
        lines += [
            f"- {last['update']} updates, {last['audio_hours']:.2f} h of audio heard, {last['seconds']:.0f} s",
            f"- loss {updates[0]['loss']:.4f} at the first update, {last['loss']:.4f} at the last",
        ]
    probes = [json.loads(p.read_text(encoding="utf8")) for p in sorted((folder / "probes").glob("*.json"))]
    if probes:
        lines += ["", "## Metrics", "", "| task | metric | value | 95 % interval |", "|---|---|---|---|"]
        for p in probes:
            interval = "–" if not p.get("ci95") else f"{p['ci95'][0]:.3f} to {p['ci95'][1]:.3f}"
            lines.append(f"| {p['task']} | {p['metric']} | {p['value']:.3f} | {interval} |")
    return "\n".join(lines) + "\n"
