"""Recordings that go with a result: a folder `audio/` beside it, with a list of captions, and the players of a page that embeds them.

`audio/index.json` is a list of {"caption", "file"}; files are WAV, FLAC or Ogg and lie beside it. A page stays one file, and one that can be
sent: what does not fit below `MOST` bytes is left out of it, whole captions at a time, and the page says so.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overture import jsonfile
from overture.errors import OvertureError

if TYPE_CHECKING:
    import numpy as np

FOLDER, LIST = "audio", "index.json"
KINDS = {b"RIFF": "audio/wav", b"OggS": "audio/ogg", b"fLaC": "audio/flac"}
MOST = 8_000_000  # bytes of sound files in a page; as text they are a third more


@dataclass(frozen=True)
class Players:
    """What can be heard on a page."""

    groups: list[tuple[str, list[tuple[str, str]]]]  # caption -> whose it is, and the data of its file as an address
    left_out: int  # captions for which there was no room


def write(folder: Path, made: "Sequence[tuple[str, np.ndarray]]", rate: int) -> None:
    """The `audio/` of `folder`: captions and (N,) float32 waves at `rate` Hz, as 16-bit WAVs; what is louder than full scale is cut."""
    import numpy as np
    import soundfile as sf

    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    listed = []
    for number, (caption, wave) in enumerate(made):
        file = f"{number}.wav"
        sf.write(folder / FOLDER / file, np.clip(wave, -1.0, 1.0), rate, subtype="PCM_16")
        listed.append({"caption": caption, "file": file})
    jsonfile.write(folder / FOLDER / LIST, listed)


def players(folders: Mapping[str, Path]) -> Players:
    """The players of folders that may have an `audio/`: {whose: folder}. What several say under one caption stands together.

    Raises OvertureError for a list that is damaged, a file that is not beside it, and one that is no sound file.
    """
    by_caption: dict[str, list[tuple[str, Path]]] = {}
    for name, folder in folders.items():
        for caption, file in _listed(folder / FOLDER):
            by_caption.setdefault(caption, []).append((name, file))
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    room = MOST
    for caption, files in by_caption.items():
        room -= sum(file.stat().st_size for _, file in files)
        if room < 0:
            break
        groups.append((caption, [(name, _address(file)) for name, file in files]))
    return Players(groups, len(by_caption) - len(groups))


def _listed(folder: Path) -> list[tuple[str, Path]]:
    path = folder / LIST
    if not path.exists():
        return []
    try:
        entries = [(str(e["caption"]), str(e["file"])) for e in json.loads(path.read_text(encoding="utf8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OvertureError(
            f'{path} is no list of {{"caption", "file"}} ({error}). Delete it, and what it lists'
        ) from error
    for _, file in entries:
        if Path(file).name != file or not (folder / file).is_file():
            raise OvertureError(
                f"{path} lists {file!r}, which is no file beside it. Delete the list, or put the file there"
            )
    return [(caption, folder / file) for caption, file in entries]


def _address(file: Path) -> str:
    content = file.read_bytes()
    kind = KINDS.get(content[:4])
    if kind is None:
        raise OvertureError(f"{file} is no WAV, FLAC or Ogg file")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def of_result(result: Mapping[str, Any], home: Path) -> dict[str, Path]:
    """{arm: the folder that its recordings are in}, of the JSON of a claim or comparison whose pieces are under `home`."""
    return {arm: home / folder for arm, folder in result.get("audio", {}).items()}
