"""overture.config: overrides by type, JSON round trip, fingerprints."""

import json

import pytest

from overture.config import fingerprint, flatten, from_dict, override, to_dict
from overture.errors import OvertureError
from overture.recipes import get


def test_overrides_are_typed() -> None:
    run = override(
        get("tera"),
        {
            "players.0.optim.lr": "1e-3",
            "loop.updates": "7",
            "data.where": "duration > 2",
            "loop.ema": "0.9",
            "data.cache": "false",
            "players.0.optim.betas": "[0.8, 0.9]",
        },
    )
    assert (run.players[0].optim.lr, run.loop.updates, run.data.where, run.loop.ema, run.data.cache) == (
        1e-3,
        7,
        "duration > 2",
        0.9,
        False,
    )
    assert run.players[0].optim.betas == (0.8, 0.9)
    assert override(run, {"loop.ema": "none"}).loop.ema is None
    assert (
        override(run, {"data.corpus": "123"}).data.corpus == "123"
    )  # text stays text, also where it looks like a number


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("loop.update", "7", "loop.updates"),
        ("optim.lr", "1", "players.0.optim.lr"),
        ("loop.updates", "many", "whole number"),
        ("loop.updates", "1.5", "whole number"),
        ("loop.updates", "true", "whole number"),
        ("loop.precision", "fp16", "bf16"),
        ("players.3.name", "x", "position"),
        ("seed.x", "1", "nothing below"),
        ("players.0.optim.betas", "[1]", "2 values"),
    ],
)
def test_wrong_overrides_say_what_is_right(field: str, value: str, words: str) -> None:
    with pytest.raises(OvertureError, match=words):
        override(get("tera"), {field: value})


def test_json_round_trip_keeps_the_fingerprint_and_unknown_fields_are_refused() -> None:
    run = get("tera:published")
    values = json.loads(json.dumps(to_dict(run)))
    assert from_dict(get("tera:tiny"), values) == run
    assert from_dict(run, values).fingerprint == run.fingerprint
    values["plan"]["updat"] = 1.0
    with pytest.raises(OvertureError, match="update"):
        from_dict(run, values)


def test_every_value_counts_in_the_fingerprint() -> None:
    run = get("tera")
    seen = {run.fingerprint}
    for name, value in flatten(run).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            seen.add(override(run, {name: json.dumps(value + 1)}).fingerprint)
    numeric = sum(isinstance(v, int | float) and not isinstance(v, bool) for v in flatten(run).values())
    assert len(seen) == numeric + 1 > 20
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
