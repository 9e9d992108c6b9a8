"""Tux Paint stamps: spoken descriptions of some 800 pictures in 13 languages, parallel by picture, and letters and digits in more.

NAME_desc_LANGUAGE.ogg (no language: English) says what NAME.txt holds: English on the first line, then 'LANGUAGE.utf8=text'. Sounds of
letters and digits (symbols/...) are NAME_LANGUAGE.ogg. Everything else is a sound effect and is left out. Recordings of one language are nearly
all by one person in one room, and letters come four times (upper and lower case, filled and outlined): split by `image_id` or text, never by file.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

PACKAGE = "tuxpaint-stamps-default"
DESCRIPTION = re.compile(r"^(.*?)_desc(?:_([A-Za-z_]+))?(?:\.ogg)?\.(?:ogg|wav)$")
SPEAKERS = {  # by the credits of the package
    "ca": ("pere-pujal", "m"), "fr": ("fr", "m"), "ro": ("tabbytha", "f"), "ru": ("edwin-veber", "m"), "be": ("kseniya-buraya", "f"),
    "bg": ("krasimir-petkov", "m"), "el": ("kiriaki-serafeim", "f"), "es": ("estefania-ortiz", "f"), "da": ("joe-dalton", "m"),
    "lt": ("andrius-jurkus", None), "en_GB": ("john-arundel", None), "pt_BR": ("school-children", None),
}  # fmt: skip
LANGUAGES = [
    "en",
    "en_GB",
    "fr",
    "ru",
    "ro",
    "ca",
    "bg",
    "es",
    "be",
    "el",
    "da",
    "lt",
    "nl",
    "ml",
    "pt_BR",
    "de",
    "it",
    "ja",
    "ko",
    "nb",
    "nn",
    "pt",
    "sl",
    "sv",
    "zh_tw",
]
SYMBOL = re.compile(rf"^(.*?)_({'|'.join(sorted(LANGUAGES, key=len, reverse=True))})$")


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every spoken description, letter and digit, as the package's Ogg and WAV files."""
    package = packages[PACKAGE]
    stamps = package.folder / "usr/share/tuxpaint/stamps"
    out: list[Row] = []
    effects = 0
    for path in sorted(p for p in stamps.rglob("*") if p.suffix in (".ogg", ".wav")):
        name = path.relative_to(stamps)
        category = name.parent.as_posix()
        stem, language, described = _named(path.name, category)
        if language is None:
            effects += 1
            continue
        texts = descriptions(path.with_name(f"{stem}.txt"))
        locale = {"zh_tw": "zh_TW"}.get(language, language)
        text = texts.get(locale) or texts.get(locale.partition("_")[0])
        kind = "description" if described else "digit" if category == "symbols/math" else "letter"
        if kind == "letter":
            text = stem.partition("_")[0]
        to = folder / "audio" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, to)
        speaker, gender = SPEAKERS.get(language, (language, None))
        out.append(
            {"id": name.as_posix().rsplit(".", 1)[0], "audio": to.relative_to(folder).as_posix(), "text": text,
             "language": locale.replace("_", "-"), "speaker": f"tuxpaint-{speaker}", "gender": gender,
             "translation_en": None if language.startswith("en") else texts.get("en"),
             "image_id": f"{category}/{stem}", "category": category, "kind": kind, "source": package.source, "licence": "GPL-2"}
        )  # fmt: skip
    return Listing(rows=out, notes={"sound_effects_left_out": effects})


def _named(file: str, category: str) -> tuple[str, str | None, bool]:
    """(picture, language or None for an effect, is it a description) from a file name."""
    if match := DESCRIPTION.match(file):
        return match[1], match[2] or "en", True
    stem = file.rsplit(".", 1)[0]
    if category.startswith("symbols/"):
        if match := SYMBOL.match(stem):
            return match[1], match[2], False
        if category == "symbols/math" and stem.isdigit():
            return stem, "en", False
    return stem, None, False


def descriptions(path: Path) -> dict[str, str]:
    """What a stamp's text file says, by language; {} when there is none."""
    if not path.exists():
        return {}
    first, *others = path.read_text(encoding="utf8", errors="replace").splitlines() or [""]
    found = {"en": first.strip()}
    for line in others:
        if match := re.match(r"([A-Za-z_@]+)\.utf8=(.*)", line):
            found[match[1]] = match[2].strip()
    return found
