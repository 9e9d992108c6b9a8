"""Reads `model.bin` of CTranslate2 (OpenNMT), in which many packages carry a published network.

Little-endian, one after another: version, name and revision of the layout, then each variable with its name, shape, type and bytes, then
aliases. A string is its length with the final NUL as 16 bits, UTF-8, NUL. Nothing is executed, and no size is believed before it is checked.
"""

import math
import struct
from pathlib import Path

import numpy as np

from overture.errors import OvertureError

VERSIONS = (4, 5, 6)  # of the file; before 4 the type of a variable was not written
# In the order of CTranslate2's enumeration; numpy has no bfloat16.
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, None)
MOST_DIMENSIONS = 8


def read(path: Path, name: str, revision: int) -> dict[str, np.ndarray]:
    """{variable: array}, read-only; an alias is an entry with the array of what it stands for.

    `name`, `revision`: of the layout that is expected, such as "WhisperSpec", 3. Raises OvertureError for a file of another, and for one that
    is truncated or damaged, with the byte where that shows.
    """
    file = _Cursor(path)
    version = file.number("I", "version")
    if version not in VERSIONS:
        raise OvertureError(
            f"{path}: no model.bin of CTranslate2 that can be read (version {version}, known: {VERSIONS})."
        )
    found = (file.string("name of the layout"), file.number("I", "revision"))
    if found != (name, revision):
        raise OvertureError(f"{path}: holds {found[0]!r} revision {found[1]}, where {name!r} {revision} was expected.")
    variables: dict[str, np.ndarray] = {}
    for _ in range(file.number("I", "number of variables")):
        key = file.string("name of a variable")
        if key in variables:
            raise file.wrong(f"variable {key!r} is there twice")
        variables[key] = file.variable(key)
    for _ in range(file.number("I", "number of aliases")):
        alias, of = file.string("an alias"), file.string("what an alias stands for")
        if alias in variables or of not in variables:
            raise file.wrong(f"the alias {alias!r} of {of!r} is there twice, or of nothing")
        variables[alias] = variables[of]
    if file.at != len(file.data):
        raise file.wrong(f"{len(file.data) - file.at:,} bytes follow the end")
    return variables


class _Cursor:
    """The bytes of a file and how far they were read."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        try:
            self.data = memoryview(path.read_bytes())
        except OSError as error:
            raise OvertureError(f"{path}: cannot be read ({error}).") from error

    def wrong(self, what: str) -> OvertureError:
        return OvertureError(f"{self.path}: damaged at byte {self.at:,}: {what}. Fetch it again.")

    def take(self, count: int, what: str) -> memoryview:
        left = len(self.data) - self.at
        if count > left:
            raise self.wrong(f"{what} takes {count:,} bytes, {left:,} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str, what: str) -> int:
        (found,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))
        return int(found)

    def string(self, what: str) -> str:
        raw = bytes(self.take(self.number("H", f"the length of {what}"), what))
        if not raw.endswith(b"\0"):
            raise self.wrong(f"{what} does not end")
        try:
            return raw[:-1].decode("utf8")
        except UnicodeDecodeError as error:
            raise self.wrong(f"{what} is no text ({error})") from error

    def variable(self, name: str) -> np.ndarray:
        rank = self.number("B", f"the rank of {name}")
        if rank > MOST_DIMENSIONS:
            raise self.wrong(f"{name} has {rank} dimensions")
        shape = tuple(self.number("I", f"the shape of {name}") for _ in range(rank))
        kind, size = self.number("B", f"the type of {name}"), self.number("I", f"the size of {name}")
        if kind >= len(TYPES):
            raise self.wrong(f"{name} is of type {kind}, which is unknown")
        dtype = TYPES[kind]
        if dtype is None:
            raise OvertureError(
                f"{self.path}: {name} is bfloat16, which cannot be read here: take a float16 conversion."
            )
        if size != math.prod(shape) * np.dtype(dtype).itemsize:
            raise self.wrong(f"{name} of shape {shape}, {np.dtype(dtype)}, has {size:,} bytes")
        return np.frombuffer(self.take(size, name), np.dtype(dtype).newbyteorder("<")).reshape(shape)
