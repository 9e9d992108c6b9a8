"""overture.data.phones: labels of frames from two columns, cropped as the frames are; rows without are left out; bad ones are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.config import fingerprint
from overture.data.augment import WaveAugment
from overture.data.draws import Draws
from overture.data.phones import PHONES, FramePhones, labels_at, phone_ids
from overture.data.source import collate
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.durations import FILE, PhoneDurations
from overture.recipes.flow_tts import tiny
from overture.run import Data
from overture.train.examples import Utterances

SAID = [["SIL", "HH", "AY"], None, ["M", "SIL"], ["SIL"]]
ENDS = [[0.1, 0.25, 0.6], None, [0.2, 0.5], [0.4]]


def table(said: list[list[str] | None] = SAID, ends: list[list[float] | None] = ENDS) -> Table:
    columns = {
        "id": [f"r{i}" for i in range(len(said))],
        "audio": ["none"] * len(said),
        "duration": [e[-1] if e else 1.0 for e in ends],
        "phones": pa.array(said, pa.list_(pa.string())),
        "phone_ends": pa.array(ends, pa.list_(pa.float32())),
    }
    return Table(pa.table(columns), name="said", root=Path())


class Ramp:
    """Frames that say which they are: ten a second."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.arange([6, 10, 5, 4][index], dtype=np.float32)[:, None]


def test_a_frame_has_the_phone_at_its_centre() -> None:
    of = FramePhones().labels(table(), 10.0)
    sil, hh, ay, m = phone_ids(["SIL", "HH", "AY", "M"])
    assert of(0, 6).tolist() == [sil, hh, ay, ay, ay, ay]  # centres .05 .15 .25 ...: .25 belongs to what begins
    assert of(2, 5).tolist() == [m, m, sil, sil, sil] and of(2, 5).dtype == np.int64
    assert [PHONES[i] for i in of(3, 4)] == ["SIL"] * 4
    assert labels_at(np.array([5, 7]), np.array([0.0, 0.1, 0.2]), 3, 10.0).tolist() == [5, 7, -1]


def test_rows_without_phones_are_left_out() -> None:
    assert FramePhones().rows(table()).tolist() == [0, 2, 3]
    with pytest.raises(OvertureError, match="has no column 'words'"):
        FramePhones(name="word").rows(table())
    with pytest.raises(OvertureError, match="no row of corpus 'said' has phones"):
        FramePhones().rows(table([None], [None]))


def test_what_does_not_fit_is_named() -> None:
    for said, ends, message in (
        ([["QQ"]], [[1.0]], r"row 'r0', column 'phones': .*Score it again"),
        ([["AH", "T"]], [[1.0]], r"row 'r0': 2 phones and 1 phone_ends"),
        ([["AH"]], [[0.3]], r"row 'r0': its phones end at 0.30 s, its recording at 0.60"),
        ([["AH"]], [[0.9]], r"row 'r0': its phones end at 0.90 s, its recording at 0.60"),
    ):
        with pytest.raises(OvertureError, match=message):
            FramePhones().labels(table(said, ends), 10.0)(0, 6)


def test_labels_are_cropped_as_the_frames_are() -> None:
    rows = table()
    of = FramePhones().labels(rows, 10.0)
    indices = np.array([2, 0, 3])
    starts = set()
    for update in range(12):
        batch = collate(Ramp(), rows.rows, indices, longest=3, draws=Draws(0, update), channels={"phone": of})
        for b, index in enumerate(indices.tolist()):
            n, frames = int(batch.lengths[b]), len(Ramp()[index])
            places = batch.x[b, :n, 0].long()
            assert n == 3 and batch.channels["phone"][b, :n].equal(torch.from_numpy(of(index, frames))[places])
            starts.add((index, int(places[0])))
    assert len(starts) > 5  # crops were drawn
    whole = collate(Ramp(), rows.rows, indices, longest=99, draws=None, channels={"phone": of})
    assert whole.channels["phone"].shape == (3, 6) and not whole.channels["phone"][0, 5:].any()


def test_a_run_hears_aligned_rows_alone_and_says_how_many_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    few = Table.open("embedded", "duration between 0.5 and 3").take(np.arange(4))
    ends = [None if i == 2 else [float(d) / 2, float(d)] for i, d in enumerate(few.numpy("duration"))]
    said = [e and ["SIL", "AY"] for e in ends]
    columns = few.columns.select([c for c in few.columns.column_names if c not in ("phones", "phone_ends")])
    columns = columns.append_column("phones", pa.array(said, pa.list_(pa.string())))
    columns = columns.append_column("phone_ends", pa.array(ends, pa.list_(pa.float32())))
    Table(columns, name="few", root=few.root).save("few")
    run = tiny()
    found = Utterances.prepare(replace(run, data=replace(run.data, corpus="few", where=None, max_seconds=9.0)))
    assert found.about()["without_phones"] == 1 and found.table.rows.tolist() == [0, 1, 3]
    batch = found.batch(np.array([2, 0]), Draws(0, 0))
    assert batch.rows.tolist() == [3, 0] and batch.channels["phone"].shape == batch.x.shape[:2]
    sil, ay = phone_ids(["SIL", "AY"])
    for labels, n in zip(batch.channels["phone"], batch.lengths.tolist()):
        assert sorted(set(labels[:n].tolist())) == sorted([sil, ay]) and abs((labels[:n] == ay).sum() - n / 2) <= 1
    found.leave(tmp_path)
    assert PhoneDurations.load(tmp_path / FILE).seen["AY"][0] == 3
    altered = replace(run.data, corpus="few", where=None, cache=False, augment=WaveAugment(speed=(0.9,)))
    with pytest.raises(OvertureError, match=r"data\.phones says what is heard when"):
        Utterances.prepare(replace(run, data=altered))


def test_phones_are_in_no_fingerprint_of_runs_that_have_none() -> None:
    assert fingerprint(Data()) == fingerprint(replace(Data(), phones=None)) != fingerprint(Data(phones=FramePhones()))
