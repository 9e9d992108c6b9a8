"""The model card that goes with an exported model: data, licence, recipe, metrics, how to use it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overture import recipes
from overture.models.start import said as starts_said
from overture.models.synthesiser import Synthesiser
from overture.models.vocoder import HifiGan
from overture.report.words import amount, heard
from overture.run import Run


def model_card(run: Run, model: Any, about: dict[str, Any], metrics: Sequence[dict[str, Any]], folder: Path) -> str:
    """Markdown with the front matter that model hubs read."""
    entry, data = recipes.INDEX[run.recipe], about["data"]
    updates = [m for m in metrics if m["kind"] == "update"]
    last: dict[str, Any] = updates[-1] if updates else {}
    licences, sources, languages = (data.get(k, []) for k in ("licences", "sources", "languages"))
    kind, use, kept = _use(run, model)
    size = f"{data['characters']:,} characters" if run.on_text else f"{data['hours']:.2f} h"
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {kind}",
        f"tags: [{'text' if run.on_text else 'speech'}, self-supervised, overture, {run.recipe}]",
        *(["language: [" + ", ".join(languages) + "]"] if languages else []),
        "license: other  # of what it was trained on, see below",
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
        *use,
        "```",
        "",
        kept,
        "",
        "## Data",
        "",
        f"- corpus `{data['corpus']}`: {data['rows']} {'documents' if run.on_text else 'utterances'}, {size} (fingerprint `{data['fingerprint']}`)",
        f"- sources: {', '.join(sources) or 'not recorded'}",
        f"- licences of these: {', '.join(licences) or 'not recorded'}. What they ask of a model trained on them is for you to judge.",
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
                f"- the weights it started from had heard: `{was['corpus']}`, {amount(was)} (fingerprint `{was['fingerprint']}`), "
                f"licences: {', '.join(was['licences']) or 'not recorded'}"
                if was["corpus"] is not None
                else f"- what the weights it started from (`{was['checkpoint']}`) had heard is not recorded"
            )
    if last:
        lines += [
            f"- {last['update']} updates, {heard(last)}, {last['seconds']:.0f} s",
            f"- loss {updates[0]['loss']:.4f} at the first update, {last['loss']:.4f} at the last",
        ]
    probes = [json.loads(p.read_text(encoding="utf8")) for p in sorted((folder / "probes").glob("*.json"))]
    if probes:
        lines += ["", "## Metrics", "", "| task | metric | value | 95 % interval |", "|---|---|---|---|"]
        for p in probes:
            interval = "–" if not p.get("ci95") else f"{p['ci95'][0]:.3f} to {p['ci95'][1]:.3f}"
            lines.append(f"| {p['task']} | {p['metric']} | {p['value']:.3f} | {interval} |")
    return "\n".join(lines) + "\n"


def _use(run: Run, model: Any) -> tuple[str, list[str], str]:
    """What kind of model it is to a hub, how it is used, and which of its parts are of pre-training."""
    if run.hears_and_reads:
        from overture.export.speech_text import use

        return (
            "audio-text-to-text",
            use(run),
            "Encoder, adapter and language model are in one model; the adapter is what was trained.",
        )
    if isinstance(run.model, Synthesiser):
        from overture.export.synthesis import use as spoken

        return spoken(run, model)
    if isinstance(run.model, HifiGan):
        from overture.export.vocoder import use as vocoded

        return vocoded(run.model)
    return _of_text(model) if run.on_text else _of_speech(run, model)


def _of_speech(run: Run, model: Any) -> tuple[str, list[str], str]:
    """The same, of an encoder of speech."""
    own_code = not hasattr(model, "network")
    trust = ", trust_remote_code=True" if own_code else ""
    use = [
        "import numpy as np",
        "from transformers import AutoFeatureExtractor, AutoModel",
        "",
        'folder = "."  # where this file lies, or what it is called on a hub',
        f"waveform = np.random.default_rng(0).normal(0, 0.1, {run.frontend.rate})  # (N,) your mono recording, at {run.frontend.rate} Hz",
        f"extractor = AutoFeatureExtractor.from_pretrained(folder{trust})",
        f"model = AutoModel.from_pretrained(folder{trust})",
        f'inputs = extractor(waveform, sampling_rate={run.frontend.rate}, return_tensors="pt")',
        "vector = model(**inputs).embeddings  # (1, E) of length 1: the voice, to be compared by its cosine"
        if hasattr(model, "embed")
        else f"states = model(**inputs).last_hidden_state  # (1, T, D), {model.frame_rate:g} a second",
    ]
    kept = (
        "The parts of pre-training (heads, codebooks) are in the model, so training can be continued."
        if own_code
        else "`AutoModelForPreTraining` also opens the parts of pre-training (quantizer, projections), so training can be continued."
    )
    return "feature-extraction", use, kept


def _of_text(model: Any) -> tuple[str, list[str], str]:
    """The same, of a model on tokens."""
    auto = "AutoModelForCausalLM" if model.causal else "AutoModelForMaskedLM"
    use = [
        f"from transformers import {auto}, AutoTokenizer",
        "",
        'folder = "."  # where this file lies, or what it is called on a hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {auto}.from_pretrained(folder)",
        'logits = model(**tokenizer("Some text", return_tensors="pt", return_token_type_ids=False)).logits  # (1, T, V)',
    ]
    heads = ", ".join(f"`{name}`" for name in model.heads)
    kept = "The head over the vocabulary is in the model, so training can be continued." + (
        f" Further heads of pre-training ({heads}) are in `heads.safetensors`." if heads else ""
    )
    return "text-generation" if model.causal else "fill-mask", use, kept
