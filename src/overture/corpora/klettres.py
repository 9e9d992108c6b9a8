"""KLettres: letters and syllables of 20 languages, read by one person each. LANGUAGE/sounds.xml names each recording and what it says."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package
from overture.data.check import Problem


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every letter and syllable that has a recording, as the package's Ogg files."""
    package = packages["klettres-data"]
    root = package.folder / "usr/share/klettres"
    out: list[Row] = []
    problems: list[Problem] = []
    absent = 0
    seen: set[tuple[str, str]] = set()
    for index in sorted(root.glob("*/sounds.xml")):
        language = index.parent.name
        try:
            tree = ElementTree.parse(index)
        except ElementTree.ParseError as error:
            problems.append(
                Problem(kind="bad row", what=f"is not XML ({error})", file=f"{language}/sounds.xml", field="")
            )
            continue
        for part in ("alphabet", "syllables"):
            for sound in (s for block in tree.iter(part) for s in block.iter("sound")):
                name, text = sound.get("file", ""), sound.get("name", "")
                if not (root / name).is_file():
                    absent += 1
                elif (name, text) not in seen:  # some are listed twice
                    seen.add((name, text))
                    to = folder / "audio" / name
                    to.parent.mkdir(parents=True, exist_ok=True)
                    if not to.exists():
                        shutil.copyfile(root / name, to)
                    out.append(
                        {"id": f"{language}/{part}/{Path(name).stem}/{text}", "audio": f"audio/{name}", "text": text,
                         "language": language.replace("_", "-"), "speaker": f"klettres-{language.replace('_', '-')}",
                         "kind": "letter" if part == "alphabet" else "syllable", "source": package.source, "licence": "GPL-2+"}
                    )  # fmt: skip
    return Listing(rows=out, problems=problems, notes={"listed_without_a_recording": absent})
