"""The importers of packages, on miniature packages in the format of the real ones."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.corpora import (
    SOURCES,
    amazon_queen,
    asterisk,
    fillets_ng,
    hedgewars,
    klettres,
    ktuberling,
    tuxpaint,
)
from overture.corpora.packages import Package
from overture.errors import OvertureError

Put = Callable[..., Path]


def package(tmp_path: Path, name: str) -> Package:
    return Package(name=name, version="1.0-1", folder=tmp_path / "un" / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8")


# ---- Flight of the Amazon Queen


def qtbl(entries: dict[str, bytes]) -> bytes:
    """An archive as queen.1c is one."""
    offset = 15 + 21 * len(entries)
    head, body = b"QTBL" + b"1.00\0\0" + b"\0\0\0" + struct.pack(">H", len(entries)), b""
    for name, data in entries.items():
        head += struct.pack(">12sBII", name.encode(), 0, offset + len(body), len(data))
        body += data
    return head + body


def string(text: str, at: int, align: int) -> bytes:
    """Length, letters and padding so that what follows a string at offset `at` is aligned; an empty one is not padded."""
    data = bytes([len(text)]) + text.encode("cp437")
    return data + b"\0" * (-(at + len(data)) % align if text else 0)


def dialogue(key: int, joe: list[str], person: list[str], last: tuple[str, str]) -> bytes:
    def lines(texts: list[str], at: int) -> bytes:
        out = b""
        for number, text in enumerate(texts, start=1):
            out += struct.pack(">hh", 0, number)
            out += string(text, at + len(out), 4)
        return out

    body = lines(joe, 32)
    person_at = 32 + len(body)
    body += lines(person, person_at)
    last_at = 32 + len(body)
    body += string(last[0], last_at, 2)
    body += string(last[1], 32 + len(body), 2)
    head = struct.pack(">5h", 0, 0, key, len(joe), len(person)).ljust(22, b"\0") + struct.pack(
        ">3H", person_at, 0, last_at
    )
    return b"\0" * 20 + head.ljust(32, b"\0") + body


def scene(lines: list[str]) -> bytes:
    body = string("", 10, 2)
    for line in lines:
        body += string(line, 10 + len(body), 2)
    return b"\0" * 20 + struct.pack(">hhhhH", 0, -len(lines), 0, 0, 10) + body


@pytest.fixture
def game(tmp_path: Path, speech: list[np.ndarray]) -> Package:
    def clip(i: int) -> bytes:
        buffer = io.BytesIO()
        sf.write(buffer, speech[i][::2], 8_000, format="MP3")
        return buffer.getvalue()

    remarks = "\r\n".join(["It's a door.", "C80A.CUT", "Nice*F1 hat."])
    entries = {
        "BOB1.DOG": dialogue(7, ["Hi Bob!", "What*XY12(3,40) now?"], ["Hello."], ("Bye.", "See you.")),
        "C10A.CUT": scene(["Look out!", "*", "#sound", "Too late."]),
        "QUEEN2.JAS": remarks.encode("cp437"),
    }
    names = [
        "070001J1",
        "070002J1",
        "070002J2",
        "070001P1",
        "07XXXXP1",
        "07XXXXJ1",
        "C10A_011",
        "C10A_041",
        "JOE00411",
        "JOE00431",
        "JOE00432",
    ]
    entries |= {f"{n}.SB": clip(i) for i, n in enumerate(names)} | {"NOISE01.SB": clip(11)}
    one = package(tmp_path, "flight-of-the-amazon-queen")
    archive = one.folder / amazon_queen.ARCHIVE
    archive.parent.mkdir(parents=True)
    archive.write_bytes(qtbl(entries))
    readme = one.folder / "usr/share/doc/flight-of-the-amazon-queen/readme.txt.gz"
    readme.parent.mkdir(parents=True)
    readme.write_bytes(gzip.compress(b"Give this game away."))
    return one


def test_amazon_queen(game: Package, folder: Path, speech: list[np.ndarray]) -> None:
    found = amazon_queen.rows({game.name: game}, folder)
    said = {r["id"]: (r["text"], r["speaker"], r["kind"]) for r in found.rows}
    assert said == {
        "070001J1": ("Hi Bob!", "joe", "dialogue"), "070002J1": ("What", "joe", "dialogue"), "070002J2": ("now?", "joe", "dialogue"),
        "070001P1": ("Hello.", "bob", "dialogue"), "07XXXXP1": ("Bye.", "bob", "dialogue"), "07XXXXJ1": ("See you.", "joe", "dialogue"),
        "C10A_011": ("Look out!", None, "scene"), "C10A_041": ("Too late.", None, "scene"),
        "JOE00411": ("It's a door.", "joe", "remark"), "JOE00431": ("Nice", "joe", "remark"), "JOE00432": ("hat.", "joe", "remark"),
    }  # fmt: skip
    assert found.notes["clips_without_a_line_of_the_script"] == 1
    first = next(r for r in found.rows if r["id"] == "070001J1")
    samples, rate = sf.read(folder / first["audio"])
    assert rate == 8_000 and len(samples) == pytest.approx(len(speech[0]) / 2, abs=3_000)
    assert first["source"] == "flight-of-the-amazon-queen 1.0-1" and "readme" in first["licence"]
    assert (folder / "LICENCES/flight-of-the-amazon-queen.readme.txt").read_text() == "Give this game away."


def test_amazon_queen_of_another_format(game: Package, folder: Path) -> None:
    (game.folder / amazon_queen.ARCHIVE).write_bytes(b"QTBX" + b"\0" * 100)
    with pytest.raises(OvertureError, match="QTBL"):
        amazon_queen.rows({game.name: game}, folder)


# ---- Asterisk

TEXTS = {
    "en": "; comment\ndigits/1: one\nhello: Hello ... [cheerful] there\nbeep: [a beep]\nodd-tone: (tone)\nletters/a: a\n",
    "es": "digits/1: uno\ndigits/1: diez\n",
    "fr": "hello: Bonjour\n",
    "it": "\ufeffhello: Ciao\n",
    "ru": "hello: Привет\n",
}


def prompts(tmp_path: Path, form: str, make: Callable[[Path], None]) -> dict[str, Package]:
    found = {}
    for language, (voice, *_) in asterisk.VOICES.items():
        for name in (f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-{form}"):
            found[name] = package(tmp_path, name)
        doc = found[f"asterisk-core-sounds-{language}"]
        path = doc.folder / f"usr/share/doc/{doc.name}/core-sounds-{language}.txt.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(TEXTS[language].encode()))
        keys = (
            ["hello", "digits/1", "letters/a", "odd-tone", "silence/1", "beep", "unwritten"]
            if language == "en"
            else ["hello", "digits/1"]
        )
        for key in keys:
            to = (
                found[f"asterisk-core-sounds-{language}-{form}"].folder
                / f"usr/share/asterisk/sounds/{voice}/{key}.{form}"
            )
            to.parent.mkdir(parents=True, exist_ok=True)
            make(to)
    return found


def test_asterisk(tmp_path: Path, folder: Path, speech: list[np.ndarray]) -> None:
    packages = prompts(tmp_path, "wav", lambda to: sf.write(to, speech[0][::2], 8_000))
    found = asterisk.rows_8k(packages, folder)
    by = {r["id"]: r for r in found.rows}
    assert set(by) == {f"en-US/{k}" for k in ("hello", "digits/1", "letters/a", "unwritten")} | {
        f"{lang}/{k}" for lang in ("es-MX", "fr-CA", "it-IT", "ru-RU") for k in ("hello", "digits/1")
    }
    assert (by["en-US/hello"]["text"], by["en-US/hello"]["translation_en"]) == ("Hello there", None)
    assert (by["ru-RU/hello"]["text"], by["ru-RU/hello"]["translation_en"]) == ("Привет", "Hello there")
    assert (by["it-IT/hello"]["text"], by["es-MX/digits/1"]["text"], by["en-US/unwritten"]["text"]) == (
        "Ciao",
        "uno",
        None,
    )
    assert [by[f"en-US/{k}"]["kind"] for k in ("hello", "digits/1", "letters/a")] == ["prompt", "digit", "letter"]
    assert by["es-MX/hello"]["speaker"] == by["en-US/hello"]["speaker"] and by["it-IT/hello"]["gender"] == "m"
    assert (
        by["fr-CA/hello"]["licence"] == "CC-BY-SA-3.0"
        and by["it-IT/hello"]["source"] == "asterisk-core-sounds-it-wav 1.0-1"
    )
    assert found.notes["tones_left_out"] == 3
    assert all((folder / r["audio"]).is_file() for r in found.rows)


def test_asterisk_16k(tmp_path: Path, folder: Path, speech: list[np.ndarray]) -> None:
    av = pytest.importorskip("av")

    def g722(to: Path) -> None:
        if to.stem == "unwritten":
            to.touch()
            return
        with av.open(str(to), "w", format="g722") as out:
            stream = out.add_stream("g722", rate=16_000, layout="mono")
            pcm = (speech[0][: len(speech[0]) // 320 * 320] * 32767).astype(np.int16)
            for start in range(0, len(pcm), 320):
                frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 320], format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16_000, start
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))

    found = asterisk.rows_16k(prompts(tmp_path, "g722", g722), folder)
    assert len(found.rows) == 11 and [p.file for p in found.problems] == ["unwritten.g722"]
    samples, rate = sf.read(folder / found.rows[0]["audio"])
    assert rate == 16_000 and len(samples) == pytest.approx(len(speech[0]), abs=1_000)
    n = len(samples) - 100
    best = max(np.corrcoef(samples[lag : n - 100 + lag], speech[0][: n - 100])[0, 1] for lag in range(60))
    assert best > 0.98


# ---- Fish Fillets


def test_fillets_ng(tmp_path: Path, folder: Path, put: Put) -> None:
    packages = {n: package(tmp_path, n) for n in ("fillets-ng-data", "fillets-ng-data-cs", "fillets-ng-data-nl")}
    game = f"un/{{}}/{fillets_ng.GAME}"
    script = tmp_path / game.format("fillets-ng-data") / "script"
    english = 'dialogId("let-m-divna", "font_small", "Strange \\"ship\\"?")\n\ndialogId("let-v-vrak", "font_big", "A wreck.")\n'
    english += 'dialogId("x-pap-k", "font_parrot", "Krr")\n'
    write(script / "airplane/dialogs_en.lua", english)
    czech = english.replace('ship\\"?")', 'ship\\"?")\ndialogStr("Divná loď?")').replace(
        'wreck.")', 'wreck.")\n-- why\ndialogStr("Vrak.")'
    )
    write(script / "airplane/dialogs_cs.lua", czech + 'dialogStr("Krr cs")\n')
    write(script / "airplane/dialogs_de.lua", 'dialogId("let-v-vrak", "font_big", "A wreck.")\ndialogStr("Ein Wrack.")')
    for i, name in enumerate(
        ("airplane/cs/let-m-divna", "airplane/cs/let-v-vrak", "other/cs/x-pap-k", "airplane/cs/bubbles")
    ):
        put(f"{game.format('fillets-ng-data-cs')}/sound/{name}.ogg", i)
    found = fillets_ng.rows(packages, folder)
    by = {r["id"]: r for r in found.rows}
    assert set(by) == {"cs/airplane/let-m-divna", "cs/airplane/let-v-vrak", "cs/other/x-pap-k"}
    one, two, three = by["cs/airplane/let-m-divna"], by["cs/airplane/let-v-vrak"], by["cs/other/x-pap-k"]
    assert (one["text"], one["translation_en"], one["speaker"], one["gender"]) == (
        "Divná loď?",
        'Strange "ship"?',
        "cs-small-fish",
        "f",
    )
    assert (two["speaker"], two["gender"], two["translations"]) == ("cs-big-fish", "m", {"de": "Ein Wrack."})
    assert (three["speaker"], three["gender"], three["line"]) == ("cs-parrot", None, "airplane/x-pap-k")
    assert found.notes["effects_without_text_left_out"] == 1 and (folder / one["audio"]).is_file()


# ---- Tux Paint


def test_tuxpaint(tmp_path: Path, folder: Path, put: Put) -> None:
    stamps = "un/tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    names = (
        "animals/cat_desc.ogg", "animals/cat_desc_fr.ogg", "animals/cat_desc_pt_BR.ogg", "animals/cat.ogg", "animals/dog_desc_es.wav",
        "symbols/math/3.wav", "symbols/math/3_ru.ogg", "symbols/alphabet/a_capital_en_GB.ogg", "symbols/alphabet/boing.ogg",
    )  # fmt: skip
    for i, name in enumerate(names):
        put(f"{stamps}/{name}", i)
    write(tmp_path / stamps / "animals/cat.txt", "A cat.\nfr.utf8=Un chat.\npt.utf8=Um gato.\n")
    write(tmp_path / stamps / "symbols/math/3.txt", "Three.\nru.utf8=Три.\n")
    found = tuxpaint.rows({tuxpaint.PACKAGE: package(tmp_path, tuxpaint.PACKAGE)}, folder)
    by = {r["id"]: (r["text"], r["language"], r["translation_en"], r["kind"]) for r in found.rows}
    assert by == {
        "animals/cat_desc": ("A cat.", "en", None, "description"), "animals/cat_desc_fr": ("Un chat.", "fr", "A cat.", "description"),
        "animals/cat_desc_pt_BR": ("Um gato.", "pt-BR", "A cat.", "description"), "animals/dog_desc_es": (None, "es", None, "description"),
        "symbols/math/3": ("Three.", "en", None, "digit"), "symbols/math/3_ru": ("Три.", "ru", "Three.", "digit"),
        "symbols/alphabet/a_capital_en_GB": ("a", "en-GB", None, "letter"),
    }  # fmt: skip
    assert {r["image_id"] for r in found.rows if r["id"].startswith("animals/cat")} == {"animals/cat"}
    assert found.notes["sound_effects_left_out"] == 2
    assert next(r for r in found.rows if r["language"] == "es")["gender"] == "f"


# ---- KLettres, KTuberling, Hedgewars


def test_klettres(tmp_path: Path, folder: Path, put: Put) -> None:
    root = "un/klettres-data/usr/share/klettres"
    for i, name in enumerate(("fr/alpha/a.ogg", "fr/syllab/ba.ogg", "en_GB/alpha/a.ogg")):
        put(f"{root}/{name}", i)
    xml = "<klettres><language code='fr'><alphabet>{}</alphabet><syllables>{}</syllables></language></klettres>"
    sound = "<sound name='{}' file='{}'/>"
    a, ba, lost = (
        sound.format("A", "fr/alpha/a.ogg"),
        sound.format("BA", "fr/syllab/ba.ogg"),
        sound.format("B", "fr/alpha/b.ogg"),
    )
    write(tmp_path / root / "fr/sounds.xml", xml.format(a + a + lost, ba))
    write(tmp_path / root / "en_GB/sounds.xml", xml.format(sound.format("A", "en_GB/alpha/a.ogg"), ""))
    write(tmp_path / root / "xx/sounds.xml", "<klettres><")
    found = klettres.rows({"klettres-data": package(tmp_path, "klettres-data")}, folder)
    assert [(r["text"], r["language"], r["kind"]) for r in found.rows] == [
        ("A", "en-GB", "letter"), ("A", "fr", "letter"), ("BA", "fr", "syllable"),
    ]  # fmt: skip
    assert found.notes["listed_without_a_recording"] == 1 and [p.file for p in found.problems] == ["xx/sounds.xml"]


def test_ktuberling(tmp_path: Path, folder: Path, put: Put) -> None:
    root = "un/ktuberling-data/usr/share/ktuberling/sounds"
    put(f"{root}/en/hat.ogg", 0)
    put(f"{root}/fr/chapeau.wav", 1)
    write(tmp_path / root / "en.soundtheme", '<language code="en">\n<sound name="egypt_sun-hat" file="en/hat.ogg" />')
    write(
        tmp_path / root / "fr.soundtheme",
        '<language code="fr">\n<sound name="hat"  file="fr/chapeau.wav" />\n<sound name="x" file="fr/x.wav" />',
    )
    found = ktuberling.rows({"ktuberling-data": package(tmp_path, "ktuberling-data")}, folder)
    assert [(r["text"], r["translation_en"], r["concept"], r["language"]) for r in found.rows] == [
        ("sun hat", None, "egypt_sun-hat", "en"), (None, "hat", "hat", "fr"),
    ]  # fmt: skip
    assert found.notes["listed_without_a_recording"] == 1


def test_hedgewars(tmp_path: Path, folder: Path, put: Put) -> None:
    root = "un/hedgewars-data/usr/share/games/hedgewars/Data/Sounds/voices"
    for i, name in enumerate(("Pirate/Laugh", "Default_es/Ouch", "Default_es/Firepunch1")):
        put(f"{root}/{name}.ogg", i)
    found = hedgewars.rows({"hedgewars-data": package(tmp_path, "hedgewars-data")}, folder)
    assert [(r["language"], r["event"], r["emotion_guess"], r["laughter"]) for r in found.rows] == [
        ("es", "Firepunch1", None, False), ("es", "Ouch", "pain", False), ("en", "Laugh", "amused", True),
    ]  # fmt: skip
    assert all(r["text"] is None and (folder / r["audio"]).is_file() for r in found.rows)


def test_the_index_names_what_exists() -> None:
    import importlib

    for source in SOURCES.values():
        assert callable(getattr(importlib.import_module(f"overture.corpora.{source.module}"), source.function))
        assert (source.packages or source.wheels or source.lists) and source.download_mb > 0
        assert (source.hours > 0) != (source.documents > 0 and source.characters > 0)
