"""Scorers by form: word lists, personal data, PEP 8, language. Counts by hand."""

import re
from pathlib import Path

import pyarrow as pa
import pycodestyle
import pytest

from overture.data.score.annotate import score
from overture.data.score.language import Language
from overture.data.score.lexicon import Lexicon
from overture.data.score.pep8 import Pep8
from overture.data.score.pii import PATTERN, PersonalData
from overture.data.table import Table
from overture.errors import OvertureError

from .conftest import CLEAN, MESSY


def made(*texts: str | None, kind: str | None = None) -> Table:
    columns = {"id": [f"r{i}" for i in range(len(texts))], "text": list(texts), "kind": [kind] * len(texts)}
    return Table(pa.table(columns), name="made", root=Path())


def test_a_lexicon_counts_whole_terms(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# of no use\nbad\nvery bad\nक\n\n", encoding="utf8")
    of = Lexicon(file=str(file), segments=True)
    found = score(of, made("Bad dogs, a very  bad cat. Badly.", "", None, "कि क"))
    assert found["lexicon"].to_pylist() == [pytest.approx(2 / 7), None, None, 0.5]
    assert found["lexicon_segments"][0].as_py() == pytest.approx([2 / 6, 0.0])
    before = of.sources(made())
    file.write_text("bad\nworse\n", encoding="utf8")
    assert of.sources(made()) != before
    for path, said in (
        ("", "--set lexicon.file=FILE"),
        (str(tmp_path / "no"), "cannot be read"),
        (str(tmp_path), "cannot be read"),
    ):
        with pytest.raises(OvertureError, match=said):
            Lexicon(file=path).terms()
    file.write_text("# nothing\n", encoding="utf8")
    with pytest.raises(OvertureError, match="names no term"):
        of.terms()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("mail a.b+c@ex.co.uk, now", ["email"]),
        ("http://user:pw@host.com/x and x@y.org", ["credentials", "email"]),
        ("call +49 30 901820 or (030) 1234 5678 or 555-123-4567", ["phone"] * 3),
        ("+1 (212) 555-0199", ["phone"]),
        ("10.0.0.1, 192.168.1.1. and 256.1.1.1", ["ip", "ip"]),
        ("version 1.2.3.4.5, v1.2.3.4, 2024-12-31, 1998-2004, 12:30, 1234567890123, pi 3.14159", []),
        ("4096 +0.0382 +0.0380 9 9 9 9, +1.0382 and +49 30", []),
        ("user@host and @name and http://host.com/a:b", []),
    ],
)
def test_personal_data_by_form(text: str, kinds: list[str]) -> None:
    assert [m.lastgroup for m in PATTERN.finditer(text)] == kinds


def test_personal_data_a_character(notes: Table) -> None:
    found = score(PersonalData(segments=True), notes)
    at = notes.numpy("id").tolist().index("contact")
    length = notes.numpy("length")[at]
    assert found["pii"][at].as_py() == pytest.approx(3 / length)
    assert [found[f"pii_{k}"][at].as_py() for k in ("email", "phone", "ip", "credentials")] == [1, 1, 1, 0]
    assert found["pii_segments"][at].as_py() == pytest.approx([1 / 25, 1 / 23, 1 / 21])
    assert sum(found["pii"].to_pylist()) == pytest.approx(3 / length)  # and nowhere else


def test_pep8_by_line_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Table) -> None:
    ids = notes.numpy("id").tolist()
    found = score(Pep8(segments=True), notes)
    assert found["pep8"][ids.index("clean")].as_py() == 0.0
    # E201 E231 E202, then E703 E203, then E305 E401 E231 and what else pycodestyle itself finds there
    file = tmp_path / "messy.py"
    file.write_text(MESSY)
    total = pycodestyle.StyleGuide(quiet=1, config_file=None).input_file(str(file))
    per_line = found["pep8_segments"][ids.index("messy")].as_py()
    assert len(per_line) == 3 and all(v > 0 for v in per_line)
    counts = [v * len(line) for v, line in zip(per_line, MESSY.splitlines(keepends=True))]
    assert sum(counts) == pytest.approx(total, abs=1e-4) and counts[0] == pytest.approx(3, abs=1e-5)
    assert found["pep8"][ids.index("messy")].as_py() == pytest.approx(total / len(MESSY))
    assert found["pep8"][ids.index("broken")].as_py() is None and found["pep8"][0].as_py() is None  # no Python; prose
    # one bad line among good ones is the only one that has violations, and settings of the folder are not read
    (tmp_path / "setup.cfg").write_text("[pycodestyle]\nignore = E\n")
    monkeypatch.chdir(tmp_path)
    text = CLEAN.replace("width * height", "width  * height")
    (parts,) = score(Pep8(segments=True), made(text, kind="code"))["pep8_segments"].to_pylist()
    assert [v > 0 for v in parts] == [False, False, True] and parts[2] == pytest.approx(
        1 / len("    return width  * height\n")
    )
    with pytest.raises(OvertureError, match="--fill kind=code"):
        Pep8().ready(made("x = 1\n"))


def test_language_is_told_and_not_guessed_of_nothing(notes: Table) -> None:
    found = score(Language(), notes)
    ids = notes.numpy("id").tolist()
    assert found["language_id"][ids.index("fr")].as_py() == "fr" and found["language_p"][ids.index("fr")].as_py() > 0.9
    assert found["language_id"][ids.index("hi")].as_py() == "hi"
    nothing = score(Language(), made("", None, "1"))
    assert nothing["language_id"].to_pylist() == [None] * 3 == nothing["language_p"].to_pylist()


def test_an_extra_that_is_not_there_is_named(notes: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module, of, extra in (("pycodestyle", Pep8(), "code"), ("py3langid", Language(), "language")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(OvertureError, match=re.escape(f"overture[{extra}]")):
            of.sources(notes)
