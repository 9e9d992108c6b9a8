"""From a package to an installed corpus, with dpkg and without a network."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overture.corpora.get import get
from overture.corpora.packages import download, unpack
from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError

Put = Callable[..., Path]
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not on this machine")


@pytest.fixture
def deb(put: Put, tmp_path: Path) -> Path:
    """A folder with a klettres-data of two letters, of which one is the other again, and one broken file."""
    root = tmp_path / "build"
    sounds = "usr/share/klettres"
    for i, name in enumerate(("a", "b")):
        put(f"build/{sounds}/fr/{name}.ogg", i)
    shutil.copyfile(root / sounds / "fr/a.ogg", root / sounds / "fr/c.ogg")
    (root / sounds / "fr/d.ogg").write_text("broken")
    entries = "".join(f"<sound name='{n.upper()}' file='fr/{n}.ogg'/>" for n in "abcd")
    (root / sounds / "fr/sounds.xml").write_text(f"<k><alphabet>{entries}</alphabet></k>")
    doc = root / "usr/share/doc/klettres-data"
    doc.mkdir(parents=True)
    (doc / "copyright").write_text("GPL-2+")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: klettres-data\nVersion: 4:1.2-3\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n"
    )
    (tmp_path / "debs").mkdir()
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", root, tmp_path / "debs/klettres-data_4%3a1.2-3_all.deb"],
        check=True,
        capture_output=True,
    )
    return tmp_path / "debs"


@needs_dpkg
def test_a_package_becomes_a_corpus(home: Path, deb: Path) -> None:
    about = get("klettres", debs=deb)
    table = Table.open("klettres")
    assert table.numpy("text").tolist() == ["A", "B"]
    assert table.row(0)["source"] == "klettres-data 4:1.2-3" and about["packages"] == {"klettres-data": "4:1.2-3"}
    assert about["duplicates_dropped"] == 1 and about["problems"] == {"unreadable": 1}
    folder = home / "corpora/klettres"
    assert sorted(p.name for p in folder.iterdir()) == [
        "LICENCES",
        "audio",
        "corpus.json",
        "dropped.tsv",
        "table.parquet",
    ]
    assert (folder / "LICENCES/klettres-data.copyright").read_text() == "GPL-2+"
    assert list(deb.iterdir())  # the user's own files stay
    with pytest.raises(OvertureError, match=r"--replace"):
        get("klettres", debs=deb)
    get("klettres", debs=deb, replace=True)


@needs_dpkg
def test_a_package_with_another_layout_is_said_with_its_version(home: Path, deb: Path) -> None:
    shutil.copyfile(deb / "klettres-data_4%3a1.2-3_all.deb", deb / "flight-of-the-amazon-queen_9.9-1_all.deb")
    with pytest.raises(
        OvertureError, match=r"lacks .*queen\.1c; its layout has changed .*flight-of-the-amazon-queen 9\.9-1"
    ):
        get("amazon-queen", debs=deb)
    assert list((home / "corpora").iterdir()) == []


@needs_dpkg
def test_damaged_and_missing_packages(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"no some-package_\*\.deb in"):
        unpack(["some-package"], tmp_path, tmp_path / "to")
    (tmp_path / "some-package_1_all.deb").write_text("broken")
    with pytest.raises(OvertureError, match=r"cannot be unpacked"):
        unpack(["some-package"], tmp_path, tmp_path / "to")


def test_without_apt_or_dpkg_the_way_out_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OvertureError, match=r"apt-get is not on this machine.*klettres-data.*any Debian mirror.*--debs FOLDER"
    ):
        get("klettres")
    (tmp_path / "klettres-data_1_all.deb").touch()
    with pytest.raises(OvertureError, match=r"dpkg is not on this machine"):
        get("klettres", debs=tmp_path)


def test_a_failed_download_says_what_apt_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = tmp_path / "bin/apt-get"
    apt.parent.mkdir()
    apt.write_text(
        "#!/bin/sh\necho 'W: a warning' >&2\necho 'E: Unable to locate package b' >&2\ntouch a_1_all.deb\nexit 100\n"
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:/usr/bin:/bin")
    with pytest.raises(
        OvertureError, match=r"(?s)failed for b:\nE: Unable to locate package b.*apt-get update.*--debs"
    ):
        download(["a", "b"], tmp_path / "cache")


def test_downloads_are_made_once_and_removed_when_installed(
    home: Path, tmp_path: Path, deb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = tmp_path / "bin/apt-get"
    apt.parent.mkdir()
    apt.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncp {deb}/*.deb .\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:/usr/bin:/bin")
    get("klettres")
    assert (tmp_path / "calls").read_text() == "download klettres-data\n"
    assert list((home / "packages").iterdir()) == [] and len(Table.open("klettres")) == 2


def test_unknown_sources_missing_extras_and_full_disks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OvertureError, match=r"no source 'asterix'. Did you mean 'asterisk'"):
        get("asterix")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[g722\]"):
        get("asterisk-16k")
    usage = shutil.disk_usage(Path.cwd())._replace(free=1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OvertureError, match=r"needs about \d+ MB while it is made.*1 MB free"):
        get("klettres")
