"""Claims on the corpora that they name, where the user of this machine has them: splits are looked at, nothing is trained."""

from pathlib import Path

import pytest

from overture.data.table import corpora_home
from overture.laboratory import Laboratory
from overture.study import Claim

HOME = corpora_home()  # the user's own: while tests run it is another


def laboratory(claim: Claim, folder: Path, patch: pytest.MonkeyPatch, *names: str) -> Laboratory:
    """The laboratory of a claim that needs the corpora `names`, its own views of them under `folder`."""
    if absent := [name for name in names if not (HOME / name / "table.parquet").exists()]:
        pytest.skip(f"not made on this machine: {', '.join(absent)}")
    (folder / "corpora").mkdir()
    for name in names:
        (folder / "corpora" / name).symlink_to(HOME / name)
    patch.setenv("OVERTURE_HOME", str(folder))
    return Laboratory(claim.study, folder / "runs", lambda record: None)
