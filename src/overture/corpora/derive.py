"""`overture data derive`: a corpus made of another one, its recordings sent down a telephone line or mixed with noise.

Rows keep their id, text, speaker, source, licence and free columns; audio and all that is measured of it is new, and scores are left behind.
What is drawn for a row depends on (seed, row number in the parent) alone.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile as sf

from overture.config import fingerprint, to_dict
from overture.corpora.build import MEASURED, Listing, Row, build
from overture.data import audio
from overture.data.augment import Augmenter, Choice, WaveAugment
from overture.data.draws import Draws
from overture.data.source import in_order
from overture.data.table import Table, about_corpus, corpora_home, find_corpus
from overture.data.waves import LINE_RATE
from overture.errors import OvertureError

CEILING = 10 ** (-0.1 / 20)  # of the peaks of what is written, 0.1 dB below full scale
FORMAT = 1  # of what is written: raised when the same settings would give other samples


def derive(
    name: str,
    parent: str,
    what: WaveAugment,
    *,
    where: str | None = None,
    seed: int = 0,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the corpus `name` of the rows of `parent` for which the SQL expression `where` is true; returns what its corpus.json says.

    With `what.mulaw` recordings are written as 8 kHz WAV in mu-law, which holds exactly what the line delivers, else as 16-bit FLAC at their own
    rate, lowered where a peak would not fit. Without `replace`, a corpus of the same parent, rows, settings and seed that is there is kept as it is.
    Raises OvertureError for another corpus of that name, for a row that cannot be read, for a full disk; then nothing is left on the disk.
    """
    if what.share != 1.0:
        raise OvertureError(f"augment.share={what.share:g}: a derived corpus is treated whole, so 1")
    table = Table.open(parent, where)
    if not len(table):
        raise OvertureError(f"no row of {parent!r} is left by --where {where!r}.")
    if table.is_text:
        raise OvertureError(f"{parent!r} is text, and only recordings can be heard otherwise.")
    missing = [c for c in ("start", "rate") if c not in table.columns.column_names]
    if missing:
        raise OvertureError(
            f"corpus {parent!r} lacks the column(s) {', '.join(missing)}: import it with 'overture data add'."
        )
    rates = [LINE_RATE] if what.mulaw else sorted({int(r) for r in table.numpy("rate")})
    augmenters = {rate: Augmenter(what, rate) for rate in rates}
    mixed_in = augmenters[rates[0]].corpora
    scores = about_corpus(find_corpus(parent)).get("scores", {})  # of other samples than will be written
    made_of = {
        "from": table.name,
        "where": where,
        "rows": digest(table, scores),
        "mixed_in": {t.name: digest(t, {}) for t in mixed_in},
        "augment": to_dict(what),
        "seed": seed,
        "format": FORMAT,
    }
    mark, folder = fingerprint(made_of), corpora_home() / name
    if folder.exists():
        if folder.resolve() in {find_corpus(p).resolve() for p in (parent, what.noise, what.impulses) if p is not None}:
            raise OvertureError(f"{name!r} cannot be made of itself: take another name.")
        about = about_corpus(folder)
        if not replace and about.get("derived", {}).get("fingerprint") == mark:
            return about

    def importer(draft: Path) -> Listing:
        def make(index: int) -> Row:
            row = table.row(index)
            rate = LINE_RATE if what.mulaw else int(row["rate"])
            try:
                wave = audio.read(row["audio"], rate=rate, start=row["start"] or 0.0, duration=row["duration"])
            except audio.UnreadableAudio as error:
                raise OvertureError(
                    f"row {row['id']!r}: {error}. Import {parent!r} again, or leave the row out with --where"
                ) from error
            wave, choice = augmenters[rate](wave, Draws(seed, 0).example(int(table.rows[index])))
            to = Path("audio") / f"{index // 1000:03d}" / f"{index:06d}{'.wav' if what.mulaw else '.flac'}"
            (draft / to).parent.mkdir(parents=True, exist_ok=True)
            gain = _write(draft / to, wave, rate, choice)
            kept = {k: v for k, v in row.items() if k not in {*MEASURED, *scores, "start", "duration"}}
            done: Row = {"derived_from": table.name, "derived": _said(choice, gain)}
            if what.noise is not None:
                done |= {"noise": " ".join(choice.noise) or None, "noise_snr": choice.snr}
            return kept | done | {"audio": to.as_posix()}

        rows = []
        for row in in_order(make, range(len(table)), ahead=64):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(table))
        used = {t.name: sorted({str(v) for v in t.numpy("licence") if v is not None}) for t in mixed_in}
        derived = {"fingerprint": mark, **made_of, "mixed_in_licences": used}
        return Listing(rows=rows, notes={"about": f"made of {table.name}", "derived": derived})

    return build(name, importer, replace=replace, progress=progress)


def _write(path: Path, wave: np.ndarray, rate: int, choice: Choice) -> float:
    """Writes the samples and returns what they were multiplied by: the gain of the line, or as much as lets the peak fit."""
    if choice.gain is not None:  # what G.711 decodes to: whole numbers, which the codes of the file hold
        gain, subtype = choice.gain, "ULAW"
    else:
        peak = float(np.abs(wave).max(initial=0.0))
        gain, subtype = (CEILING / peak if peak > CEILING else 1.0), "PCM_16"
    try:
        sf.write(path, np.rint(wave * (gain * 32_768.0)).astype(np.int16), rate, subtype=subtype)
    except sf.LibsndfileError as error:
        raise OvertureError(
            f"{path} cannot be written: {error}. Make room, or choose another $OVERTURE_HOME"
        ) from error
    return gain


def _said(choice: Choice, gain: float) -> str:
    """What was done, in the order it was done in."""
    parts = [] if choice.speed == 1.0 else [f"speed {choice.speed:g}"]
    parts += [f"room: {choice.room}"] if choice.room is not None else []
    parts += [f"noise at {choice.snr:.1f} dB"] if choice.snr is not None else []
    parts += [f"{choice.band[0]:g}-{choice.band[1]:g} Hz"] if choice.band is not None else []
    parts += [f"{LINE_RATE} Hz, G.711 mu-law"] if choice.gain is not None else []
    parts += [f"gain {20 * np.log10(gain):.1f} dB"] if gain != 1.0 else []
    return "; ".join(parts) or "nothing"


def digest(table: Table, scores: Mapping[str, Any]) -> str:
    """12 hex digits that change with anything the rows say; where recordings lie and how they were scored does not count."""
    sink = pa.BufferOutputStream()
    columns = table.columns.drop_columns(
        ["audio", *(c for c in scores if c in table.columns.column_names)]
    ).combine_chunks()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return hashlib.sha256(sink.getvalue()).hexdigest()[:12]
