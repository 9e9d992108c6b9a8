"""CTranslate2's file: what was written is read, and whatever is broken is said, never believed."""

from pathlib import Path

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.models import ctranslate2

from .fabricated import model_bin

VARIABLES = {
    "a/weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "a/half": np.array([[[0.5]], [[-2.25]]], np.float16),
    "b/small": np.array(-3, np.int8),
    "b/short": np.array([7, -8], np.int16),
    "ü": np.array([1 << 20], np.int32),
}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    found = ctranslate2.read(written(tmp_path / "model.bin", model_bin(VARIABLES, {"c": "a/weight"})), "WhisperSpec", 3)
    assert set(found) == {*VARIABLES, "c"} and found["c"] is found["a/weight"]
    for name, value in VARIABLES.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype and found[name].shape == value.shape and not found[name].flags.writeable


def test_a_file_that_ends_anywhere_is_refused(tmp_path: Path) -> None:
    whole = model_bin(VARIABLES, {"c": "a/weight"})
    path = tmp_path / "model.bin"
    for count in range(len(whole)):
        with pytest.raises(
            OvertureError, match=r"model\.bin: damaged at byte [\d,]+: .* bytes, [\d,]+ are left\. Fetch it again"
        ):
            ctranslate2.read(written(path, whole[:count]), "WhisperSpec", 3)
    with pytest.raises(OvertureError, match="3 bytes follow the end"):
        ctranslate2.read(written(path, whole + b"abc"), "WhisperSpec", 3)


def test_a_changed_byte_is_never_followed_out_of_the_file(tmp_path: Path) -> None:
    whole, refused = model_bin(VARIABLES, {"c": "a/weight"}), 0
    path = tmp_path / "model.bin"
    for at in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            data = bytearray(whole)
            data[at] ^= change
            written(path, bytes(data))
            try:
                ctranslate2.read(path, "WhisperSpec", 3)
            except OvertureError:
                refused += 1
    numbers = sum(v.nbytes for v in VARIABLES.values())  # a changed number or letter is no damage that shows
    assert refused > 3 * (len(whole) - numbers) / 2


@pytest.mark.parametrize(
    "data, says",
    [
        (model_bin({}, {}, name="TransformerSpec"), "holds 'TransformerSpec' revision 3"),
        (model_bin({}, {}, revision=4), "'WhisperSpec' revision 4, where 'WhisperSpec' 3 was expected"),
        (model_bin({}, {}, version=3), r"no model\.bin of CTranslate2 that can be read \(version 3"),
        (model_bin(VARIABLES, {"c": "d"}), "alias 'c' of 'd'"),
        (model_bin(VARIABLES, {"ü": "a/weight"}), "alias 'ü' of 'a/weight'"),
        (model_bin({"x": np.zeros(2, np.float32)}, {}).replace(b"\x02\0\0\0\0\x08", b"\x02\0\0\0\x05\x08"), "x is bfloat16"),
        (model_bin({"x": np.zeros(2, np.float32)}, {}).replace(b"\x02\0\0\0\0\x08", b"\x02\0\0\0\x06\x08"), "x is of type 6"),
        (model_bin({"x": np.zeros(2, np.float32)}, {}).replace(b"\x02\0\0\0\0\x08", b"\x02\0\0\0\x04\x08"), "x of shape .2,., float16, has 8"),
    ],
)  # fmt: skip
def test_another_file_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(OvertureError, match=says):
        ctranslate2.read(written(tmp_path / "model.bin", data), "WhisperSpec", 3)


def test_a_variable_that_comes_twice_is_refused(tmp_path: Path) -> None:
    data = model_bin({"x": np.zeros(1, np.int8), "y": np.zeros(1, np.int8)}, {}).replace(b"y\0", b"x\0")
    with pytest.raises(OvertureError, match="'x' is there twice"):
        ctranslate2.read(written(tmp_path / "model.bin", data), "WhisperSpec", 3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"model\.bin: cannot be read"):
        ctranslate2.read(tmp_path / "model.bin", "WhisperSpec", 3)
