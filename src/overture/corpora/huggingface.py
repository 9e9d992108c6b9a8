"""Hugging Face `datasets`: folders written by save_to_disk and Parquet files that hold the recordings' bytes. Needs the extra `huggingface`.

Recordings are taken as they are stored (nothing is decoded by `datasets`, which would need torchcodec) and written into the corpus.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from overture.corpora.build import Listing, Row
from overture.corpora.manifest import mapping, standard
from overture.data.check import Problem
from overture.errors import MissingExtra, OvertureError

MAGIC = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff\xfb": ".mp3",
    b"\xff\xf3": ".mp3",
    b"FORM": ".aiff",
}


def rows(path: Path, folder: Path, columns: Mapping[str, str]) -> Listing:
    """Every example of every split, its recording written to `folder/audio`."""
    out: list[Row] = []
    problems: list[Problem] = []
    number = 0
    for split, data in _splits(path):
        data, audio, labels = _undecoded(data, path, columns)
        names = mapping(
            [c for c in data.features if c != audio], {k: v for k, v in columns.items() if k != "audio"}, path
        )
        names = {theirs: f"given_{ours}" if ours == "audio" else ours for theirs, ours in names.items()}
        for index, example in enumerate(data):
            number += 1
            stored = example.pop(audio) or {}
            content, name = stored.get("bytes"), stored.get("path") or ""
            if not content and name and Path(name).is_file():
                content = Path(name).read_bytes()
            if not content:
                what = f"holds no recording{f', and {name} is not on this machine' if name else ''}"
                problems.append(Problem(kind="missing file", what=what, field=audio, file=split, row=number))
                continue
            ending = next((e for magic, e in MAGIC.items() if content.startswith(magic)), Path(name).suffix or ".bin")
            to = folder / "audio" / (split or "all") / f"{index:07d}{ending}"
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(content)
            for column, say in labels.items():
                if example.get(column) is not None and example[column] >= 0:
                    example[column] = say(example[column])
            row = standard(example, names)
            row.pop("start", None)  # times in such tables are of the source, not of the bytes
            row.pop("duration", None)
            out.append(
                row | {"audio": str(to.relative_to(folder)), "_row": number} | ({"split": split} if split else {})
            )
    return Listing(rows=out, problems=problems, notes={"layout": "Hugging Face datasets"})


def _splits(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("huggingface", "reading Hugging Face datasets") from error
    try:
        if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
            loaded = datasets.load_from_disk(str(path))
            yield from loaded.items() if isinstance(loaded, datasets.DatasetDict) else [("", loaded)]
            return
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        groups: dict[str, list[str]] = {}
        for file in files:  # train-00000-of-00002.parquet belongs to train
            stem = file.stem.partition("-")[0]
            groups.setdefault(stem if stem in ("train", "validation", "dev", "test") else "", []).append(str(file))
        for split, names in groups.items():
            # streaming reads the files where they are; without it they would first be copied to the cache of `datasets`
            yield split, datasets.load_dataset("parquet", data_files=names, split="train", streaming=True)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise OvertureError(f"{path} cannot be read as a Hugging Face dataset ({error}).") from error


def _undecoded(data: Any, path: Path, columns: Mapping[str, str]) -> tuple[Any, str, dict[str, Any]]:
    """The data with its recordings left as stored, their column, and for each class column the names of its numbers."""
    import datasets

    features = data.features
    audio = [name for name, kind in features.items() if isinstance(kind, datasets.Audio)]
    audio += [name for name, kind in features.items() if isinstance(kind, dict) and "bytes" in kind]
    chosen = columns.get("audio") or (audio[0] if audio else "")
    if chosen not in audio:
        raise OvertureError(
            f"{path}: {f'column {chosen!r}' if chosen else 'no column'} holds recordings. Columns: {', '.join(features)}."
        )
    if isinstance(features[chosen], datasets.Audio):
        data = data.cast_column(chosen, datasets.Audio(decode=False))
    return (
        data,
        chosen,
        {name: kind.int2str for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)},
    )
