"""Asterisk's core sounds: some 550 telephone prompts in each of five languages, read by professional voices, the same prompts in all.

The packages come with 8 kHz WAV and with raw G.722 at 16 kHz of the same takes. Texts are 'key: text' lines; what stands in brackets is a remark
and not spoken; keys whose whole text is in brackets are tones or silence and are left out.
"""

import gzip
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package
from overture.data.check import Problem

VOICES = {  # language of the package: folder, locale, speaker, gender, licence
    "en": ("en_US_f_Allison", "en-US", "allison-smith", "f", "CC-BY-SA-3.0"),
    "es": ("es_MX_f_Allison", "es-MX", "allison-smith", "f", "CC-BY-SA-3.0"),
    "fr": ("fr_CA_f_June", "fr-CA", "june-wallack", "f", "CC-BY-SA-3.0"),
    "it": ("it_IT_m_Carlo", "it-IT", "carlo-flora", "m", "CC-BY-3.0"),
    "ru": ("ru_RU_f_IvrvoiceRU", "ru-RU", "ivrvoice", "f", "CC-BY-3.0"),
}
TONE = re.compile(r"silence/.*|beep|beeperr|ascending-2tone|descending-2tone|tt-monkeys")


def rows_8k(packages: Mapping[str, Package], folder: Path) -> Listing:
    """The prompts as 8 kHz WAV."""
    return _rows(packages, folder, "wav", shutil.move)


def rows_16k(packages: Mapping[str, Package], folder: Path) -> Listing:
    """The prompts as 16 kHz FLAC decoded from G.722 (needs the extra g722)."""
    return _rows(packages, folder, "g722", decode_g722)


def decode_g722(path: Path, to: Path) -> None:
    """Raw G.722 (64 kbit/s) -> 16 kHz FLAC."""
    import av
    import numpy as np
    import soundfile as sf

    with av.open(str(path), format="g722") as container:
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    sf.write(to, samples.astype(np.int16), 16_000)


def texts(path: Path) -> tuple[dict[str, str], set[str]]:
    """The spoken text of each key, and the keys that are not speech."""
    spoken: dict[str, str] = {}
    tones: set[str] = set()
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines():
        key, colon, text = line.strip().partition(":")
        if not colon or key.startswith(";"):
            continue
        key, text = key.strip(), text.strip()
        if text.startswith(("[", "(")):
            tones.add(key)
            continue
        text = re.sub(r"\s*[\[(][^\])]*[\])]\s*", " ", text).replace("...", " ")
        spoken.setdefault(
            key, re.sub(r"\s+", " ", text).strip(' "')
        )  # the Spanish list gives digits/0 twice: cero, then diez
    return spoken, tones


def _kind(key: str) -> str:
    if re.fullmatch(r"digits/\d", key):
        return "digit"
    return "letter" if key.startswith(("letters/", "phonetic/")) else "prompt"


def _rows(packages: Mapping[str, Package], folder: Path, form: str, take: Callable[[Path, Path], object]) -> Listing:
    out: list[Row] = []
    problems: list[Problem] = []
    written = {}
    left_out = 0
    for language in VOICES:
        package = packages[f"asterisk-core-sounds-{language}"]
        doc = package.folder / "usr/share/doc" / package.name / f"core-sounds-{language}.txt.gz"
        written[language] = texts(doc)
    for language, (voice, locale, speaker, gender, licence) in VOICES.items():
        package = packages[f"asterisk-core-sounds-{language}-{form}"]
        sounds = package.folder / "usr/share/asterisk/sounds" / voice
        spoken, tones = written[language]
        for path in sorted(sounds.rglob(f"*.{form}")):
            key = path.relative_to(sounds).with_suffix("").as_posix()
            if key in tones or TONE.fullmatch(key):
                left_out += 1
                continue
            if path.stat().st_size == 0:
                problems.append(Problem(kind="empty", what="the package's file is empty", file=path.name))
                continue
            to = folder / "audio" / locale / f"{key}.{'wav' if form == 'wav' else 'flac'}"
            to.parent.mkdir(parents=True, exist_ok=True)
            take(path, to)
            english = None if language == "en" else written["en"][0].get(key)
            out.append(
                {"id": f"{locale}/{key}", "audio": to.relative_to(folder).as_posix(), "text": spoken.get(key), "language": locale,
                 "speaker": speaker, "gender": gender, "prompt": key, "translation_en": english, "kind": _kind(key),
                 "source": package.source, "licence": licence}
            )  # fmt: skip
    return Listing(rows=out, problems=problems, notes={"tones_left_out": left_out})
