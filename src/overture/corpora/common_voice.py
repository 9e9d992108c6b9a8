"""The layout of Mozilla's Common Voice: validated.tsv, train.tsv, dev.tsv, test.tsv beside clips/."""

from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.manifest import mapping, standard, table_of, typed
from overture.data.check import Problem
from overture.errors import OvertureError

LISTS = (
    "train",
    "dev",
    "test",
    "validated",
    "other",
)  # a clip in several belongs to the first; 'other' is not validated


def rows(path: Path, encoding: str) -> Listing:
    """Every clip of the official lists, in the column `split` the list (validated: in none of train, dev and test)."""
    found: dict[str, Row] = {}
    problems: list[Problem] = []
    lists = [path / f"{name}.tsv" for name in LISTS if (path / f"{name}.tsv").is_file()]
    for file in lists:
        header, lines, bad = table_of(file, encoding)
        problems += bad
        names = mapping(header, {}, file)
        lacking = [c for c in ("audio", "text") if c not in names.values()]
        if lacking:
            raise OvertureError(f"{file}: no column for {' and '.join(lacking)}. Its columns: {', '.join(header)}.")
        for line, row in lines:
            row = standard(row, names)
            clip = str(row["audio"]) if Path(str(row["audio"])).suffix else f"{row['audio']}.mp3"
            found.setdefault(
                clip, row | {"audio": f"clips/{clip}", "id": Path(clip).stem, "split": file.stem, "_row": line}
            )
    if not lists:
        raise OvertureError(f"{path} has clips/ but none of {', '.join(f'{n}.tsv' for n in LISTS)}.")
    out = list(found.values())
    typed(out, ("up_votes", "down_votes"))
    return Listing(rows=out, root=path, problems=problems, notes={"layout": "Common Voice"})
