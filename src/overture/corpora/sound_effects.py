"""Sound effects by class, from music and game packages: drums by kind, key clicks, cries, weapons and a few more.

The class (`label`) is read from the file's name, so it is a weak label: names can be wrong, and effects of games are no field recordings. Clips whose
name fits no class, voices, music and loops are left out. The packages taken give most classes for some 320 MB of download.
"""

import errno
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

# package: (folder, which classes, licence)
TAKEN = {
    "bucklespring-data": ("usr/share/buckle/wav", "keys", "GPL-2+"),
    "hydrogen-drumkits": ("usr/share/hydrogen/data/drumkits", "drums", "GPL-2+ or CC, by kit (see LICENCES)"),
    "lmms-common": ("usr/share/lmms/samples", "drums", "GPL-2+"),
    "sonic-pi-samples": ("usr/share/sonic-pi/samples", "drums", "CC0-1.0"),
    "wesnoth-1.16-data": ("usr/share/games/wesnoth/1.16/data/core/sounds", "effects", "GPL-2+"),
}
CLASSES = {  # of words that a file's name is made of; the first class that fits is taken
    "keys": {"key_click": r"."},
    "drums": {
        "": r"\b(loop|beats?|bass(?!drum| drum)|drumloops?|fx|empty ?sample|synth|waveforms|shapes|roll)\b",
        "clap": r"\b(hand)?claps?\b",
        "hihat": r"\b(hi ?hats?|hats?|hh|chh|ohh|hhat|open ?hat|cymbal (closed|open|pedal))\d*\b",
        "kick_drum": r"\b(kick|bass ?drum|drum bass|bd)\d*\b",
        "snare_drum": r"\b(snare|sn|sd|rim(shot)?|side ?stick|ss)\d*\b",
        "tom_drum": r"\b(tom|toms|tm|floor ?tom)\d*\b",
        "cymbal": r"\b(crash|ride|cymbal|splash|china|rd)\d*\b",
        "percussion": r"\b(cow ?bell|shaker|shake|tamb(ourine)?|conga|bongo|tabla|perc|claves?|maracas?|guiro|triang(le)?|djembe|agogo|cajon"
        r"|wood ?block|kenkeni|sangban|dununba)\w*\b",
    },
    "effects": {
        "": r"\b(laugh|skeleton|lich|petrified)\b",
        "human_cry": r"\b(human|elf|dwarf|mermaid|mermen)\b.* (hit|die)\b",
        "creature_cry": r"\b(hit|die|growl|shriek|hiss|groan|wail)\b",
        "magic": r"\b(magic|magicmissile|heal|lightning|lightning miss|entangle)\b",
        "shot_of_a_bow": r"\b(bow|crossbow|sling|dart|throw|throwing)\b",
        "blow_of_a_weapon": r"\b(axe|club|sword|dagger|hatchet|spear|mace|staff|flail|knife|fist|claws|torch|dragonstick|tail)\b",
        "horn_signal": r"\bhorn\b",
    },
}
LENGTH = (0.02, 60.0)  # s


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every clip of 0.02 to 60 s whose name fits a class, as the packages' files."""
    out: list[Row] = []
    left_out = 0
    for name, (place, group, licence) in TAKEN.items():
        package = packages[name]
        root = package.folder / place
        if not root.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(root))
        for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in (".wav", ".ogg", ".flac", ".aiff")):
            clip = path.relative_to(root).as_posix()
            label = classify(clip, group)
            if label is None or not LENGTH[0] <= _seconds(path) <= LENGTH[1]:
                left_out += 1
                continue
            to = folder / "audio" / name / clip
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)
            out.append(
                {"id": f"{name}/{clip}", "audio": to.relative_to(folder).as_posix(), "text": None, "label": label, "group": group,
                 "kind": "sound_effect", "source": package.source, "licence": licence}
            )  # fmt: skip
    return Listing(rows=out, notes={"clips_without_a_class_or_of_odd_length_left_out": left_out})


def classify(clip: str, group: str) -> str | None:
    """The class of a clip by its path, e.g. ('The Black Pearl 1.0/SabianHatOpen-Soft.wav', 'drums') -> 'hihat'; None if none fits."""
    path = Path(clip)
    for words in (_words(path.stem), _words(path.parent.name)):
        for label, pattern in CLASSES[group].items():
            if re.search(pattern, words):
                return label or None
    return None


def _words(name: str) -> str:
    """'SabianHatOpen-Soft_01' -> 'sabian hat open soft 01'."""
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", name).lower()).strip()


def _seconds(path: Path) -> float:
    import soundfile as sf

    try:
        return float(sf.info(str(path)).duration)
    except sf.LibsndfileError:
        return 0.0
