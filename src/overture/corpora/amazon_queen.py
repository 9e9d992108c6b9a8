"""Flight of the Amazon Queen (1995): 6,745 voice clips of a spoken adventure game, with the script they were read from.

All is in one archive, queen.1c (numbers are big endian): 'QTBL', 9 bytes of version and compression, a uint16 count, then for each entry 12 bytes of
name, a uint8, its uint32 offset and uint32 size. Clips are MP3 named after the dialogue file, the line and the part of the line; the lines are in
.DOG (dialogues of two persons), .CUT (scenes) and QUEEN2.JAS (what Joe says of things).
"""

import io
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package
from overture.errors import OvertureError

ARCHIVE = "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
LICENCE = "Flight-of-the-Amazon-Queen-License (share and modify with its readme; not to be sold alone)"
COMMAND = re.compile(r"\*(?:XY\d\d\(\d+,\d+\)|..)")  # stage directions within a line; each begins a new clip
REMARKS = 700  # lines of QUEEN2.JAS that are spoken


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every clip that a line of the script belongs to, as 11,025 Hz FLAC under `folder/audio`."""
    import soundfile as sf

    package = packages["flight-of-the-amazon-queen"]
    archive = Archive((package.folder / ARCHIVE).read_bytes())
    lines = {clip: (text, person) for clip, text, person in script(archive)}
    out: list[Row] = []
    unmatched = 0
    (folder / "audio").mkdir()
    for name in sorted(archive.entries):
        clip = name.removesuffix(".SB")
        if clip == name:
            continue
        if clip not in lines:
            unmatched += 1
            continue
        samples, rate = sf.read(io.BytesIO(archive[name]), dtype="int16")
        sf.write(folder / "audio" / f"{clip}.flac", samples, rate)
        text, person = lines[clip]
        scene = None if person else clip[:5].rstrip("_").lower()
        out.append(
            {"id": clip, "audio": f"audio/{clip}.flac", "text": text, "language": "en", "speaker": person, "scene": scene,
             "kind": "remark" if clip.startswith("JOE") else "scene" if scene else "dialogue",
             "source": package.source, "licence": LICENCE}
        )  # fmt: skip
    _keep_readme(package, folder)
    return Listing(rows=out, notes={"clips_without_a_line_of_the_script": unmatched})


def _keep_readme(package: Package, folder: Path) -> None:
    """The licence asks that the game's readme stays with what is made of it."""
    import gzip

    readme = package.folder / "usr/share/doc/flight-of-the-amazon-queen/readme.txt.gz"
    (folder / "LICENCES").mkdir(exist_ok=True)
    (folder / "LICENCES" / "flight-of-the-amazon-queen.readme.txt").write_bytes(gzip.decompress(readme.read_bytes()))


class Archive:
    """The entries of a QTBL file by name."""

    def __init__(self, data: bytes) -> None:
        """Raises OvertureError unless `data` begins as a QTBL file."""
        if data[:4] != b"QTBL":
            raise OvertureError(
                "queen.1c is not the archive of Flight of the Amazon Queen's talkie version (no 'QTBL' at its start)."
            )
        self.data = data
        self.entries: dict[str, tuple[int, int]] = {}
        for i in range(struct.unpack_from(">H", data, 13)[0]):
            name, _, offset, size = struct.unpack_from(">12sBII", data, 15 + 21 * i)
            self.entries[name.split(b"\0")[0].decode("ascii")] = (offset, size)

    def __getitem__(self, name: str) -> bytes:
        offset, size = self.entries[name]
        return self.data[offset : offset + size]


def script(archive: Archive) -> Iterator[tuple[str, str, str | None]]:
    """(clip, text, person) for every part of every line; the person is None in scenes."""
    for name in archive.entries:
        stem, _, kind = name.partition(".")
        if kind == "DOG":
            yield from _dialogue(stem, archive[name][20:])
        elif kind == "CUT":
            yield from _scene(stem, archive[name][20:])
    remarks = archive["QUEEN2.JAS"].decode("cp437").split("\r\n") if "QUEEN2.JAS" in archive.entries else []
    for number, line in enumerate(remarks[:REMARKS], start=41):
        if not re.fullmatch(r"\w+\.CUT", line, re.IGNORECASE):
            yield from _parts(f"JOE{number:04d}", line, "joe")


def _parts(prefix: str, line: str, person: str | None) -> Iterator[tuple[str, str, str | None]]:
    """A line is cut at its commands; part k (from 1, in hexadecimal) has its own clip."""
    for k, part in enumerate(COMMAND.split(line), start=1):
        if part.strip():
            yield f"{prefix}{k:X}", part.strip(), person


def _string(data: bytes, offset: int, align: int = 2) -> tuple[str, int]:
    """The string at `offset` (its length in one byte) and where the next field begins."""
    length = data[offset]
    offset += 1
    if not length:
        return "", offset
    end = offset + length
    return data[offset:end].decode("cp437"), (end + align - 1) & ~(align - 1)


def _dialogue(stem: str, data: bytes) -> Iterator[tuple[str, str, str | None]]:
    levels, _, key, joe_count, person_count = struct.unpack_from(">5h", data, 0)
    person_at, _, last_at = struct.unpack_from(">3H", data, 22)
    person, joe_at = re.sub(r"\d+$", "", stem).lower(), 32 + abs(levels) * 96
    for offset, count, who, mark in ((joe_at, joe_count, "joe", "J"), (person_at, person_count, person, "P")):
        for _ in range(count):
            number = struct.unpack_from(">h", data, offset + 2)[0] & 0xFFFF
            line, offset = _string(data, offset + 4, 4)
            yield from _parts(f"{key:02d}{number:04X}{mark}", line, who)
    if struct.unpack_from(">h", data, joe_at + 2)[0] == 0:
        yield from _parts(f"{key:02d}SSSSJ", _string(data, joe_at + 4)[0], "joe")
    line, offset = _string(data, last_at)
    yield from _parts(f"{key:02d}XXXXP", line, person)
    yield from _parts(f"{key:02d}XXXXJ", _string(data, offset)[0], "joe")


def _scene(stem: str, data: bytes) -> Iterator[tuple[str, str, str | None]]:
    count = abs(struct.unpack_from(">h", data, 2)[0])
    _, offset = _string(data, struct.unpack_from(">H", data, 8)[0])  # where Joe looks at the start
    for number in range(1, count + 1):
        if offset >= len(data):
            return
        line, offset = _string(data, offset)
        if line and line != "*" and line[0] != "#":
            yield from _parts(f"{stem.ljust(5, '_')}{number:02d}", line, None)
