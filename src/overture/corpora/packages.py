"""Debian packages as a source of recordings: fetched with apt-get and unpacked with dpkg, neither of which needs root for it."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overture.errors import OvertureError


@dataclass(frozen=True, kw_only=True)
class Package:
    """An unpacked package."""

    name: str
    version: str
    folder: Path  # holds usr/...

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
    if not shutil.which("dpkg"):
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
