"""Writes the generated pages: docs/recipes/NAME.md from each recipe's docstring and sizes, docs/RESULTS.md from results/*.json.

COMMAND: python docs/make.py   (make docs)
"""

import inspect
import json
from dataclasses import replace
from pathlib import Path

from overture import recipes
from overture.config import flatten
from overture.models.transforms.apply import outline
from overture.report import results_markdown

ROOT = Path(__file__).parent.parent


def recipe_page(name: str) -> str:
    """One recipe: docstring, what it is good for, its three sizes side by side."""
    module, entry = recipes.load(name), recipes.INDEX[name]
    runs = {size: recipes.get(f"{name}:{size}") for size in recipes.SIZES}
    counts = {s: sum(p.numel() for p in outline(replace(r, transform=None)).parameters()) for s, r in runs.items()}
    under = {s: sum(p.numel() for p in outline(r).parameters()) for s, r in runs.items()}
    flat = {size: flatten(run) for size, run in runs.items()}
    lines = [
        f"# {name}",
        "",
        inspect.cleandoc(module.__doc__ or ""),
        "",
        f"Good for: {entry.good_for}.",
        "",
        "## Sizes",
        "",
    ]
    lines += ["| field | " + " | ".join(runs) + " |", "|---|" + "---|" * len(runs)]
    lines.append("| parameters | " + " | ".join(f"{counts[s] / 1e6:.2f} M" for s in runs) + " |")
    if under != counts:
        lines.append("| parameters under its transform | " + " | ".join(f"{under[s] / 1e6:.2f} M" for s in runs) + " |")
    for field in flat["default"]:
        if field not in ("recipe", "size"):
            lines.append(f"| `{field}` | " + " | ".join(json.dumps(flat[s].get(field)) for s in runs) + " |")
    lines += [
        "",
        "## Claim",
        "",
    ]
    for claim in recipes.claims(name):
        lines += [recipes.claim(claim).text, "", f"`overture check {claim}` runs it; [results](../RESULTS.md).", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    for name in recipes.INDEX:
        (ROOT / "docs" / "recipes" / f"{name}.md").write_text(recipe_page(name), encoding="utf8")
    known = [claim for name in recipes.INDEX for claim in recipes.claims(name)]
    results = [json.loads(p.read_text(encoding="utf8")) for p in sorted((ROOT / "results").glob("*.json"))]
    (ROOT / "docs" / "RESULTS.md").write_text(results_markdown(results, known), encoding="utf8")
