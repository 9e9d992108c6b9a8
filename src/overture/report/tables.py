"""A comparison as a table in the terminal, and results/*.json as docs/RESULTS.md."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overture.report.verdict import CHANCE, Difference, Measured, also_measured, controls, measured, need, verdict
from overture.report.words import amount, counted, duration, finite, fixed, number, p_value, seen

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def comparison_table(result: Mapping[str, Any]) -> "Table":
    """Arms, best first: mean and 95 % interval, seeds, the difference to the best control, cost. Fits a terminal of 80 columns.

    Print it with a rich console.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    main = measured(result)
    digits = main.decimals
    rivals = _rivals(result, main)
    costs = result.get("cost_by_arm", {})
    tone, headline, explanation = verdict(result)
    style = {"good": "green", "bad": "red", "open": "yellow"}[tone]
    table = Table(
        box=box.SIMPLE_HEAD,
        title=escape(f"{main.title}, {main.direction}"),
        caption=Text(f"{headline} {explanation}", style=style, justify="left"),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("arm", overflow="fold", min_width=10)
    table.add_column("mean\n95 % interval", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right")
    for rival in rivals:
        table.add_column(escape(f"difference\nto {rival}"), justify="right", min_width=10)
    if costs:
        read = any(cost.get("tokens") for cost in costs.values())
        table.add_column(f"a run's time\n{'tokens read' if read else 'audio heard'}", justify="right", no_wrap=True)
    for arm in main.arms:
        interval = "no interval" if arm.low is None else f"{fixed(arm.low, digits)} to {fixed(arm.high, digits)}"
        row = [
            Text(arm.name, style="bold" if arm is main.arms[0] else ""),
            Text.assemble((fixed(arm.mean, digits), "bold"), "\n", (interval, "dim")),
            Text(arm.seeds_text),
            *(_difference_cell(main, arm.name, rival) for rival in rivals),
        ]
        if arm.name in costs:
            cost = costs[arm.name]
            row.append(Text.assemble(duration(cost.get("seconds")), "\n", (seen(cost), "dim")))
        table.add_row(*row)
    blank = [Text("–", style="dim")] * (len(table.columns) - 1)
    for stop in main.stopped:
        table.add_row(Text.assemble(stop.name, "\n", (stop.text, "red")), *blank)
    return table


def _rivals(result: Mapping[str, Any], main: Measured) -> list[str]:
    """The arms that each arm is held against: the best control; in a comparison, where all is tested against the best arm, that too."""
    control = controls(result, main)[:1]
    best = [arm.name for arm in main.arms[:1]]
    return list(dict.fromkeys([*best, *control] if result.get("kind") == "comparison" else control or best))


def _difference_cell(main: Measured, name: str, against: str) -> "Text":
    """The difference of an arm to `against`: as tested where it was, else of the means, marked so."""
    from rich.text import Text

    if name == against:
        return Text("–", style="dim")
    for d in main.differences:
        if d.value is not None and {d.better, d.worse} == {name, against}:
            style = {"real": "green", "the other way round": "red"}.get(d.reading, "yellow")
            value = d.value if d.better == name else -d.value
            return Text(f"{fixed(value, main.decimals, sign=True)}\n{_sure(d)}", style=style)
    ours, theirs = main.arm(name).mean, main.arm(against).mean
    if ours is None or theirs is None:
        return Text("–", style="dim")
    return Text(f"{fixed(ours - theirs, main.decimals, sign=True)}\nnot tested", style="dim")


def _sure(d: Difference) -> str:
    return p_value(d.p) if finite(d.p) else d.reading


PLURAL = {"holds": "hold", "does not hold": "do not hold"}


def results_markdown(results: Sequence[Mapping[str, Any]], known: Sequence[str] = ()) -> str:
    """docs/RESULTS.md of results/*.json: an overview, then one section a claim with its tables, verdict, cost and deviations.

    known: names of all claims there are; those without a result are named.
    """
    ordered = sorted(results, key=lambda r: (str(need(r, "recipe")), str(need(r, "claim"))))
    lines = [
        "# Results",
        "",
        "Made from `results/*.json`; edits here are overwritten.",
        "",
    ]
    if not ordered:
        return "\n".join([*lines, "No claim has been checked yet.", ""])
    tally = {word: sum(r["verdict"] == word for r in ordered) for word in ("holds", "does not hold", "undecided")}
    lines += [
        f"{counted(len(ordered), 'claim')} checked: "
        + ", ".join(f"{n} {word if n == 1 else PLURAL.get(word, word)}" for word, n in tally.items() if n)
        + ".",
        "",
    ]
    if open_ := sorted(set(known) - {str(r["recipe"]) for r in ordered}):
        lines += [f"Not run yet: {', '.join(open_)}.", ""]
    lines += ["| recipe | claim | verdict |", "|---|---|---|"]
    lines += [f"| {_cell(r['recipe'])} | {_cell(r['claim'])} | **{_cell(r['verdict'])}** |" for r in ordered]
    for result in ordered:
        lines += ["", *_section(result)]
    return "\n".join([*lines, ""])


def _section(result: Mapping[str, Any]) -> list[str]:
    _, headline, explanation = verdict(result)
    lines = [
        f"## {_cell(result['recipe'])}: {_cell(result['verdict'])}",
        "",
        f"> {_cell(result['claim'])}",
        "",
        f"**{headline}** {_cell(explanation)}",
    ]
    for part in (measured(result), *also_measured(result)):
        lines += ["", *_metric_tables(part)]
    data, cost = result.get("data", {}), result.get("cost", {})
    facts = []
    if data:
        facts.append(f"- Data: {_cell(_data_line(data))}")
    if cost:
        updates = f", {number(cost['updates'])} updates" if finite(cost.get("updates")) else ""
        facts.append(
            f"- Cost: {duration(cost.get('seconds'))}{updates} on {_cell(cost.get('device', 'an unnamed device'))}"
        )
    if result.get("rates"):
        said = (
            f"{_cell(arm)} {number(one['chosen'])} of {', '.join(one['dev'])}" for arm, one in result["rates"].items()
        )
        facts.append(f"- Rates, chosen on development rows with one seed: {'; '.join(said)}")
    if result.get("moved"):
        far = ", ".join(f"{arm} {number(sum(seeds) / len(seeds))}" for arm, seeds in result["moved"].items())
        facts.append(f"- How far weights moved from their start (L2, the encoder's alone): {_cell(far)}")
    if result.get("commit"):
        facts.append(f"- Commit: `{_cell(result['commit'])}`")
    facts += [f"- Deviation: {_cell(text)}" for text in result.get("deviations", ())]
    return lines + (["", *facts] if facts else [])


def _metric_tables(part: Measured) -> list[str]:
    digits = part.decimals
    lines = [
        f"{_cell(part.title)} ({part.direction}):",
        "",
        "| arm | mean | 95 % interval | seeds |",
        "|---|---:|---:|---|",
    ]
    for arm in part.arms:
        interval = "–" if arm.low is None else f"{fixed(arm.low, digits)} to {fixed(arm.high, digits)}"
        seeds = ", ".join([fixed(v, digits) for v in arm.seeds] + ["failed"] * arm.failed) or "–"
        lines.append(f"| {_cell(arm.name)} | {fixed(arm.mean, digits)} | {interval} | {seeds} |")
    lines += [f"| {_cell(stop.name)} | – | – | {_cell(stop.text)} |" for stop in part.stopped]
    if part.outside:
        lines += ["", f"From outside, on the same rows: {_cell(', '.join(part.outside))}. Decides nothing."]
    if part.beside:
        lines += ["", f"Beside it, means over seeds. {_cell('; '.join(part.beside))}."]
    if part.differences:
        lines += ["", "| better | than | difference | 95 % interval | p | reading |", "|---|---|---:|---:|---:|---|"]
    for d in part.differences:
        interval = "–" if d.low is None else f"{fixed(d.low, digits, sign=True)} to {fixed(d.high, digits, sign=True)}"
        p = p_value(d.p).removeprefix("p = ").removeprefix("p ")
        reading = d.reading
        if reading == CHANCE and d.detectable is not None:
            reading += f"; {fixed(d.detectable, digits)} would show in 4 of 5 such studies"
        lines.append(
            f"| {_cell(d.better)} | {_cell(d.worse)} | {fixed(d.value, digits, sign=True)} | {interval} | {p} | {reading} |"
        )
    if part.savings:
        reached = f"FLOPs saved until an arm knows of the development rows what {part.reach} knows in the end"
        lines += ["", f"{reached}: {'; '.join(part.savings)}."]
    return lines + _gap_table(part)


def _gap_table(part: Measured) -> list[str]:
    if not part.gaps:
        return []
    column, a, b = (_cell(word) for word in part.gaps[0].between)
    worse = "better" if part.higher_is_better else "worse"
    lines = [
        "",
        f"Gap between {column} {a} and {b}, 200 ({a} - {b}) / ({a} + {b}) in per cent; above 0 is {worse} for {a}:",
        "",
        f"| arm | {a} | {b} | gap | 95 % interval |",
        "|---|---:|---:|---:|---:|",
    ]
    for gap in part.gaps:
        first, second = (fixed(score, 3) for score in gap.scores)
        interval = f"{fixed(gap.low, 1, sign=True)} to {fixed(gap.high, 1, sign=True)}"
        lines.append(f"| {_cell(gap.arm)} | {first} | {second} | {fixed(gap.value, 1, sign=True)} % | {interval} |")
    return lines


def _data_line(data: Mapping[str, Any]) -> str:
    parts = [str(data.get("corpus", "a corpus"))]
    if finite(data.get("rows")):
        parts.append(counted(data["rows"], "row"))
    if finite(data.get("hours")) or data.get("characters"):
        parts.append(amount(data))
    if data.get("fingerprint"):
        parts.append(f"fingerprint {data['fingerprint']}")
    return ", ".join(parts)


def _cell(text: Any) -> str:
    """Text that stays text inside a Markdown table: no new cell, no new line, no tag."""
    plain = " ".join(str(text).split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")
