"""Configuration is frozen dataclasses: read as JSON, changed by dotted overrides, named by a fingerprint.

A config is *code* (a recipe function returns it); JSON is only its record. Reading JSON needs a template of the same
shape (the recipe's own config), so no class names are stored and nothing of a file is ever executed.
"""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from overture.errors import OvertureError, near

T = TypeVar("T")
# metadata of a field that came when there were runs already: `field(default=None, metadata=LATER)` is in no fingerprint while it is None
LATER = {"later": True}


def to_dict(config: Any, *, named: bool = False) -> Any:
    """Nested dictionaries and lists of plain values, ready for JSON. `named`: what a fingerprint covers, without fields of LATER that are None."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {f: getattr(config, f.name) for f in dataclasses.fields(config)}
        return {
            f.name: to_dict(v, named=named)
            for f, v in values.items()
            if not (named and v is None and f.metadata.get("later"))
        }
    if isinstance(config, tuple | list):
        return [to_dict(v, named=named) for v in config]
    if isinstance(config, Mapping):
        return {k: to_dict(v, named=named) for k, v in config.items()}
    return config


def from_dict(template: T, values: Mapping[str, Any], *, where: str = "config") -> T:
    """`template` with `values` in place of its own, checked by type. Fields that `values` lacks keep the template's.

    Raises OvertureError on an unknown field (with near names) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise OvertureError(f"{where}: expected an object with fields, got {values!r}")
    fields = {f.name for f in dataclasses.fields(typing.cast(Any, template))}
    hints = typing.get_type_hints(type(template))
    changes = {}
    for name, value in values.items():
        if name not in fields:
            raise OvertureError(f"{where}: no field {name!r}. {near(name, fields)}")
        changes[name] = _coerce(value, hints[name], getattr(template, name), f"{where}.{name}")
    return typing.cast(T, dataclasses.replace(typing.cast(Any, template), **changes))


def override(config: T, changes: Mapping[str, str]) -> T:
    """`config` with dotted fields set from text, as in `--set optim.lr=1e-3`. Parts of a tuple are named by position.

    Raises OvertureError on an unknown field (with near names) or a value of the wrong type.
    """
    for path, text in changes.items():
        config = _set(config, path.split("."), text, path)
    return config


def fingerprint(config: Any) -> str:
    """12 hex digits that depend on every value of `config` (a dataclass, or anything JSON can hold)."""
    text = json.dumps(to_dict(config, named=True), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> plain value, in the order of definition."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        parts = [(f.name, getattr(config, f.name)) for f in dataclasses.fields(config)]
    elif isinstance(config, tuple) and any(dataclasses.is_dataclass(v) for v in config):
        parts = [(str(i), v) for i, v in enumerate(config)]
    else:
        return {prefix: to_dict(config)}
    flat: dict[str, Any] = {}
    for name, value in parts:
        flat |= flatten(value, f"{prefix}.{name}" if prefix else name)
    return flat


def _set(part: Any, path: list[str], text: str, whole: str) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(part, tuple) and rest:
        if not head.isdigit() or int(head) >= len(part):
            raise OvertureError(f"--set {whole}: {head!r} is not a position in a list of {len(part)}")
        i = int(head)
        return (*part[:i], _set(part[i], rest, text, whole), *part[i + 1 :])
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        raise OvertureError(f"--set {whole}: nothing below {head!r} can be set")
    names = [f.name for f in dataclasses.fields(part)]
    if head not in names:
        above = whole[: len(whole) - len(".".join(path))]
        raise OvertureError(
            f"--set {whole}: no field {head!r}. {near(whole, (above + name for name in flatten(part)))}"
        )
    current, hint = getattr(part, head), typing.get_type_hints(type(part))[head]
    if rest:
        kinds = _having(hint, {rest[0]})
        if kinds and (current is None or (rest[0] in _fields(kinds[0]) and rest[0] not in _fields(current))):
            # of what may be left out, the defaults; of what may be of another kind, what both have
            both = _fields(kinds[0]) & (set() if current is None else _fields(current))
            current = kinds[0](**{name: getattr(current, name) for name in both})
        return dataclasses.replace(part, **{head: _set(current, rest, text, whole)})
    return dataclasses.replace(part, **{head: _coerce(_literal(text, hint), hint, current, f"--set {whole}")})


def _having(hint: Any, names: set[str]) -> list[Any]:
    """The dataclasses that a field of this type may hold: those with fields of these names, else the first."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    kinds: list[Any] = [o for o in options if dataclasses.is_dataclass(o)]
    return [k for k in kinds if names <= _fields(k)] or kinds[:1]


def _kinds(hint: Any, names: set[str]) -> list[Any]:
    """The same of a whole record: of dataclasses one of which has all fields of another, that which has these and no more."""
    found = _having(hint, names)
    return [k for k in found if _fields(k) == names] or found


def _fields(kind: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(kind)}


def _literal(text: str, hint: Any) -> Any:
    """Text as JSON where it is JSON (numbers, true, null, lists), else the text itself."""
    if hint is str:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"none": None, "None": None, "True": True, "False": False}.get(text, text)


def _coerce(value: Any, hint: Any, current: Any, where: str) -> Any:
    """`value` as the type `hint`; `current` tells which dataclass stands in a field that may hold several."""
    if dataclasses.is_dataclass(current) and not isinstance(current, type) and isinstance(value, Mapping):
        kinds = _kinds(hint, set(value))
        if not kinds or type(current) in kinds:
            return from_dict(current, value, where=where)
    origin = typing.get_origin(hint)
    options = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        if isinstance(value, Mapping) and (classes := _kinds(hint, set(value))):
            return from_dict(typing.cast(Any, classes[0])(), value, where=where)
        for option in sorted((o for o in options if o is not type(None)), key=lambda o: o is str):
            try:
                return _coerce(value, option, current, where)
            except OvertureError:
                continue
        raise OvertureError(f"{where}: {value!r} is not {_name(hint)}")
    if origin is typing.Literal:
        if value in options:
            return value
        raise OvertureError(
            f"{where}: {value!r} is not one of {', '.join(map(str, options))}. {near(str(value), map(str, options))}"
        )
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise OvertureError(f"{where}: {value!r} is not a list")
        if len(options) == 2 and options[1] is Ellipsis:
            old = current if isinstance(current, tuple) else ()
            return tuple(
                _coerce(v, options[0], old[i] if i < len(old) else None, f"{where}.{i}") for i, v in enumerate(value)
            )
        if len(options) != len(value):
            raise OvertureError(f"{where}: needs {len(options)} values, got {len(value)}")
        return tuple(_coerce(v, o, None, f"{where}.{i}") for i, (v, o) in enumerate(zip(value, options)))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise OvertureError(f"{where}: {value!r} is not {_name(hint)}")


def _name(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))
