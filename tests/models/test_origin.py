"""overture.models.origin: what a start says of itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from overture.config import to_dict
from overture.errors import OvertureError
from overture.models.origin import Origin
from overture.recipes import INDEX, shapes
from overture.run import Run


def origin(run: Run) -> Origin:
    """As that of a run folder."""
    of = {"recipe": run.recipe, "size": run.size, "fingerprint": run.fingerprint, "updates": 1}
    return Origin(Path("runs/some"), "run", to_dict(run.model), {}, of, None, [])


@pytest.mark.parametrize("recipe", INDEX)
def test_the_network_is_known_of_every_run_that_a_recipe_and_its_claims_make(recipe: str) -> None:
    """A claim on a second kind of data trains another kind of network under its recipe's name, and a stage of it is gone on with."""
    for run in shapes(recipe):
        assert origin(run).network is type(run.model)


def test_sizes_that_no_network_of_a_recipe_has_are_told() -> None:
    one = origin(next(shapes("tera:tiny")))
    with pytest.raises(OvertureError, match="another version of tera, which now has no network of such sizes"):
        _ = replace(one, sizes={**one.sizes, "experts": 4}).network
