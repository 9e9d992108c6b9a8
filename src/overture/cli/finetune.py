"""The verb that makes a recogniser: a pre-trained encoder (or none), a little transcribed speech, text out."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overture.cli.models import parse_set
from overture.cli.start import is_checkpoint, started
from overture.errors import OvertureError, near

if TYPE_CHECKING:
    import numpy as np

    from overture.data.check import Problem
    from overture.data.split import Split
    from overture.data.table import Table
    from overture.run import Run
    from overture.tasks.finetune_ctc import FinetunedCTC

Tell = Callable[[dict[str, Any]], None]
KINDS = ("characters", "pieces", "phones")
PUBLISHED_RATES = (3e-5, 1e-4, 3e-4)  # of networks of a hundred million weights, where small ones take more


def finetune(
    start: Annotated[
        str, typer.Argument(help="A run folder, a recipe (from scratch), or a transformers checkpoint folder.")
    ],
    data: Annotated[str, typer.Option(help="Corpus with transcripts: a name or a folder.")],
    where: Annotated[str | None, typer.Option(help="SQL: which rows.")] = None,
    units: Annotated[str, typer.Option(help="What is written: characters, pieces (of words), phones.")] = "characters",
    size: Annotated[int, typer.Option(help="How many pieces.")] = 200,
    language: Annotated[str | None, typer.Option(help="Of phones, as espeak-ng names it: en-us, cs, vi.")] = None,
    label_minutes: Annotated[
        float | None, typer.Option(help="Minutes of transcribed speech to train on. Default: all.")
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Of each rate, of 60 s of speech.")] = 300,
    rates: Annotated[str | None, typer.Option(help="Learning rates to sweep, as in 1e-4,3e-4.")] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Alter training samples: speed=[0.9,1,1.1], noise=CORPUS, reverb=0.3, mulaw=true.",
        ),
    ] = None,
    lm_text: Annotated[Path | None, typer.Option(help="More text for the language model, a sentence a line.")] = None,
    micro_seconds: Annotated[
        float | None, typer.Option(help="Speech computed at once: less takes less memory. Default: an update's 60 s.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the head, the order and the masks.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where run folders are made. Default: beside START, else runs.")
    ] = None,
) -> None:
    """Make a recogniser: fine-tune on transcribed speech, score it on unheard voices and texts.

    Killed, the same command goes on. Prints the error rates with 95 % intervals and how to transcribe with what came of it.
    """
    from rich.console import Console

    from overture.cli.progress import Live
    from overture.config import override
    from overture.data.augment import WaveAugment
    from overture.data.table import Table
    from overture.tasks import finetune_ctc
    from overture.tasks.finetune import Schedule

    if units not in KINDS:
        raise OvertureError(f"no units {units!r}. {near(units, KINDS)}")
    altered = override(WaveAugment(), parse_set(augment)) if augment else None
    more = _lines(lm_text) if lm_text else []
    pretraining, name, home = started(start, out)
    if pretraining.on_text:
        raise OvertureError(
            f"{start} reads text, and what is made here are recognisers of speech: 'overture compare {start} --task label-finetune'"
        )
    swept = _rates(rates) if rates else PUBLISHED_RATES if is_checkpoint(Path(start)) else None
    console = Console()
    with Live(console) as live:
        table, parts = _rows(Table.open(data, where), label_minutes, live.record)
        home.mkdir(parents=True, exist_ok=True)
        if name is not None:
            _heard(home / name, table, parts["test"], live.record)
        found = finetune_ctc.finetune(
            pretraining,
            name,
            table,
            train=parts["train"],
            dev=parts["dev"],
            test=parts["test"],
            home=home,
            tell=live.record,
            units=units,  # type: ignore[arg-type]  # checked above
            size=size,
            language=language,
            rates=swept,
            updates=updates,
            schedule=Schedule.three_stages(updates, pretrained=name is not None),
            augment=altered,
            micro_seconds=micro_seconds,
            seed=seed,
        )
        if found.rate_at_edge and len(found.dev) > 1:
            live.record(
                {"kind": "note", "text": f"the best rate, {found.rate:g}, is at the edge of those tried: see --rates"}
            )
        scores = _with_language_model(pretraining, found, table, parts, more, live.record)
    _write_problems(found.folder / "problems.tsv", found.problems)
    console.print(_table(scores))
    minutes = float(table.numpy("duration")[parts["train"]].sum()) / 60
    console.print(
        f"{minutes:.1f} min of training speech, {len(parts['test'])} test rows; intervals are 95 %, over test utterances"
    )
    plain: dict[str, Any] = {"soft_wrap": True, "markup": False, "highlight": False}
    if found.problems:
        console.print(f"rows with problems: {len(found.problems)}, in {found.folder / 'problems.tsv'}", **plain)
    console.print(f"recogniser: {found.folder}", **plain)
    console.print(f"overture transcribe FILE... --model {found.folder}", **plain)


def _rates(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OvertureError(f"--rates {text}: write numbers parted by commas, as in 1e-4,3e-4") from error
    if not all(0 < rate < 1 for rate in found) or len(set(found)) < len(found):
        raise OvertureError(f"--rates {text}: different numbers between 0 and 1")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise OvertureError(f"--lm-text {path} cannot be read as UTF-8 text ({error})") from error


def _rows(whole: "Table", minutes: float | None, tell: Tell) -> tuple["Table", dict[str, "np.ndarray"]]:
    """The transcribed rows, and which of them are train, dev and test: other voices where there are voices enough, other texts always."""
    import numpy as np

    from overture.data.split import take_minutes

    if "text" not in whole.columns.column_names:
        raise OvertureError(f"corpus {whole.name!r} has no column 'text': fine-tuning learns from transcripts")
    texts = whole.numpy("text")
    has = np.array([t is not None and bool(str(t).strip()) for t in texts], dtype=bool)
    if not has.all():
        i = int(np.flatnonzero(~has)[0])
        where = f"row {whole.rows[i] + 1}, {whole.row(i)['audio']}, text: {whole.numpy('id')[i]!r} has none"
        tell(
            {"kind": "note", "text": f"{(~has).sum()} of {len(has)} rows have no transcript and are left out; {where}"}
        )
    table = whole.take(np.flatnonzero(has))
    if len(table) == 0:
        raise OvertureError(f"no row of corpus {whole.name!r} has a transcript")
    parts = _split(table, tell)
    held = ", ".join(
        f"{name} {counts['rows']:g} rows of {counts['hours'] * 60:.1f} min" for name, counts in parts.counts.items()
    )
    tell({"kind": "note", "text": f"{held}; in no part, since a voice or a text would be in two: {parts.left_out}"})
    rows = dict(parts.rows)
    if minutes is not None:
        rows["train"] = take_minutes(table, rows["train"], minutes)
    return table, rows


def _split(table: "Table", tell: Tell) -> "Split":
    from overture.data.split import PARTS, split

    why = "the corpus has no column 'speaker'"
    if "speaker" in table.columns.column_names:
        try:
            return split(table, PARTS, by=("speaker", "text"), cross="drop")
        except OvertureError as error:
            why = str(error)
    tell({"kind": "note", "text": f"the same voices are in training and test, so unheard ones will do worse: {why}"})
    return split(table, PARTS, by="text")


def _heard(folder: Path, table: "Table", test: "np.ndarray", tell: Tell) -> None:
    """Say whether pre-training has heard the test recordings."""
    from overture.models.origin import heard

    tables, unknown = heard(folder)
    shared: set[int] = set()
    for other in tables:
        column = "sha1" if all("sha1" in t.columns.column_names for t in (other, table)) else "id"
        known = set(other.numpy(column)) - {None}
        shared |= {i for i, value in enumerate(table.numpy(column)[test]) if value in known}
    if shared:
        tell(
            {
                "kind": "note",
                "text": f"pre-training has heard {len(shared)} of the {len(test)} test recordings (without their text): "
                "scores on really new recordings may be lower",
            }
        )
    if unknown:
        tell(
            {
                "kind": "note",
                "text": f"whether pre-training has heard the test recordings is not known: {'; '.join(unknown)}",
            }
        )


def _with_language_model(
    pretraining: "Run",
    found: "FinetunedCTC",
    table: "Table",
    parts: dict[str, "np.ndarray"],
    more: Sequence[str],
    tell: Tell,
) -> dict[str, dict[str, Any]]:
    """Scores of the test rows, greedy and with the language model that did best on the dev rows; the recogniser is written."""
    from overture.recognise import recogniser
    from overture.tasks import decoding, metrics

    def counted(hypotheses: list[str]) -> dict[str, Any]:
        rates = {"cer": metrics.cer(references["test"], hypotheses), "wer": metrics.wer(references["test"], hypotheses)}
        return {k: {"value": c.value, "ci95": metrics.bootstrap(*c)} for k, c in rates.items()}

    units, texts = found.units, table.numpy("text")
    references = {part: [units.normalise(t) for t in texts[parts[part]]] for part in ("dev", "test")}
    scores = {"greedy": counted(found.predictions.column("hypothesis").to_pylist())}
    chosen = decoding.choose(
        found.outputs["dev"],
        references["dev"],
        [recogniser.best_text(o, units) for o in found.outputs["dev"]],
        units,
        [*texts[parts["train"]], *more],
        held=[*references["dev"], *references["test"]],
        tell=tell,
    )
    if chosen.left_out:
        why = "they say what a held row says, or have characters that training has not"
        tell({"kind": "note", "text": f"{chosen.left_out} lines are not in the language model: {why}"})
    if chosen.lm is None:
        tell({"kind": "note", "text": "no language model did better on the development rows, so none is used"})
    else:
        hypotheses = decoding.transcripts(found.outputs["test"], units, chosen.lm, chosen.beam)
        name = f"beam, {chosen.lm.order}-gram of {chosen.level}, weight {chosen.beam.lm_weight:g}"
        scores[name] = counted(hypotheses)
    recogniser.save(
        found.folder,
        pretraining=pretraining,
        units=units,
        lm=chosen.lm,
        beam=chosen.beam,
        scores={
            "test_rows": len(parts["test"]),
            **scores,
            "dev": {"rates": found.dev, "language_models": chosen.tried},
        },
    )
    return scores


def _table(scores: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table as RichTable

    def shown(score: dict[str, Any]) -> str:
        low, high = score["ci95"] or (None, None)
        return f"{score['value']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")

    table = RichTable("decoding", "CER", "WER")
    for name, found in scores.items():
        table.add_row(name, shown(found["cer"]), shown(found["wer"]))
    return table


def _write_problems(path: Path, problems: "Sequence[Problem]") -> None:
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["row", "file", "field", "kind", "what", "way out"])
        writer.writerows([p.row, p.file, p.field, p.kind, p.what, p.way_out] for p in problems)
