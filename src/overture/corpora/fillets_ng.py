"""Fish Fillets NG: acted dialogue of a puzzle game in Czech and Dutch; every line also stands in English and some ten more languages.

The lines are Lua calls in the game's data package, one file a room and language: dialogId("key", "font", "English") and, except in English,
dialogStr("translation"). A recording is sound/ROOM/LANGUAGE/KEY.ogg. The font tells which of the two fish speaks.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

GAME = "usr/share/games/fillets-ng"
LINE = re.compile(
    r'dialogId\(\s*"([^"]*)"\s*,\s*"([^"]*)"\s*,\s*"((?:[^"\\]|\\.)*)"\s*\)\s*(?:--[^\n]*\n\s*)*'
    r'(?:dialogStr\(\s*"((?:[^"\\]|\\.)*)"\s*\))?',
    re.DOTALL,
)
FISH = {"font_small": "small-fish", "font_big": "big-fish", "m": "small-fish", "v": "big-fish"}
GENDER = {"small-fish": "f", "big-fish": "m"}


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every recorded line that has a text in its own language, as the package's Ogg files."""
    lines, fonts = script(packages["fillets-ng-data"].folder / GAME / "script")
    rooms = {
        key: room for room, keys in lines.items() for key in keys
    }  # some recordings lie in another room than their line
    out: list[Row] = []
    without_text = 0
    for language in ("cs", "nl"):
        package = packages[f"fillets-ng-data-{language}"]
        sounds = package.folder / GAME / "sound"
        for path in sorted(sounds.rglob("*.ogg")):
            name, key = path.relative_to(sounds), path.stem
            room = name.parts[0] if key in lines[name.parts[0]] else rooms.get(key, name.parts[0])
            texts = lines[room].get(key, {})
            if language not in texts:
                without_text += 1
                continue
            to = folder / "audio" / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)
            who = _who(key, fonts.get((room, key)))
            out.append(
                {"id": f"{language}/{name.parts[0]}/{key}", "audio": to.relative_to(folder).as_posix(), "text": texts[language],
                 "language": language, "speaker": f"{language}-{who}", "gender": GENDER.get(who), "translation_en": texts.get("en"),
                 "translations": {k: v for k, v in sorted(texts.items()) if k not in (language, "en")}, "line": f"{room}/{key}",
                 "room": name.parts[0], "kind": "dialogue", "source": package.source, "licence": "GPL-2"}
            )  # fmt: skip
    return Listing(rows=out, notes={"effects_without_text_left_out": without_text})


def _who(key: str, font: str | None) -> str:
    """The fish by the line's font, else by the letter in its key ('let-m-divna'); other parts keep their font's name."""
    letter = re.match(r"[^-]+-([a-z0-9]+)-", key)
    mark = letter[1] if letter else "unknown"
    return FISH.get(font or "") or FISH.get(mark) or (font or mark).removeprefix("font_")


def script(folder: Path) -> tuple[dict[str, dict[str, dict[str, str]]], dict[tuple[str, str], str]]:
    """Texts by room, key and language, and the font of (room, key)."""
    lines: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    fonts: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*/*dialogs_*.lua")):
        room, language = path.parent.name, path.stem.partition("dialogs_")[2]
        for key, font, english, translated in LINE.findall(path.read_text(encoding="utf8")):
            for code, text in (("en", english), (language, english if language == "en" else translated)):
                if text:
                    lines[room][key].setdefault(code, text.replace('\\"', '"').replace("\\n", " "))
            if font:
                fonts[room, key] = font
    return lines, fonts
