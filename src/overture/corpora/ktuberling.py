"""KTuberling: names of things (parts of a potato face, animals, clothes, ...) spoken in 26 languages, parallel by concept.

LANGUAGE.soundtheme lists (concept, recording). The concept is English, so only English recordings have a text; the others have their translation.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

SOUND = re.compile(r'<sound\s+name="([^"]+)"\s+file="([^"]+)"')
SCENE = re.compile(r"^(egypt|tux|pizza|train_valley|train|robot|christmas|moon|butterfly)[_-]")


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every named thing that has a recording, as the package's Ogg, Opus and WAV files."""
    package = packages["ktuberling-data"]
    root = package.folder / "usr/share/ktuberling/sounds"
    out: list[Row] = []
    absent = 0
    for theme in sorted(root.glob("*.soundtheme")):
        source = theme.read_text(encoding="utf8")
        code = re.search(r'language code="([^"]+)"', source)
        language = (code[1] if code else theme.stem).replace("_", "-")
        for concept, name in dict.fromkeys(SOUND.findall(source)):
            if not (root / name).is_file():
                absent += 1
                continue
            to = folder / "audio" / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if not to.exists():
                shutil.copyfile(root / name, to)
            word = re.sub(r"[_-]", " ", SCENE.sub("", concept))
            english = language.startswith("en")
            out.append(
                {"id": f"{language}/{concept}", "audio": f"audio/{name}", "text": word if english else None, "language": language,
                 "speaker": f"ktuberling-{language}", "translation_en": None if english else word, "concept": concept, "kind": "word",
                 "source": package.source, "licence": "GPL-2+"}
            )  # fmt: skip
    return Listing(rows=out, notes={"listed_without_a_recording": absent})
