"""overture.corpora.derive: telephone speech that is exactly G.711, rows that keep what they said, made once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from overture.cli.data import app
from overture.corpora.add import add
from overture.corpora.derive import derive
from overture.data.audio import read, read_native
from overture.data.augment import WaveAugment
from overture.data.table import Table, about_corpus, corpora_home
from overture.data.waves import mulaw_decode, mulaw_encode, power
from overture.errors import OvertureError


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """The corpus `talk`: eight real utterances at two rates, one of them loud to the full, with a free column; and `hum`, noise."""
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    rng, embedded = np.random.default_rng(0), Table.open("embedded", "duration BETWEEN 0.6 AND 1.2 AND language = 'en'")
    folder, lines = tmp_path / "in", ["path\ttext\tspeaker\tlicence\tsource\ttake"]
    (folder / "hum").mkdir(parents=True)
    (folder / "talk").mkdir()
    for i in range(8):
        row, rate = embedded.row(i), 16_000 if i < 5 else 22_050
        wave = read(row["audio"], rate=rate, start=row["start"], duration=row["duration"])
        wave = wave / np.abs(wave).max() if i == 1 else wave
        sf.write(folder / "talk" / f"{i}.wav", wave, rate)
        lines.append(f"{i}.wav\ttext {i}\ts{i % 2}\tCC0-1.0\tradio {i // 4}\t{i}")
    (folder / "talk.tsv").write_text("\n".join(lines) + "\n")
    add("talk", folder / "talk", transcripts=folder / "talk.tsv")
    for i in range(3):
        sf.write(folder / "hum" / f"{i}.wav", 0.1 * rng.standard_normal(32_000), 16_000)
    add("hum", folder / "hum", fill={"licence": "CC-BY-4.0"})
    return Table.open("talk")


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "120"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_telephone_corpus_is_g711_and_keeps_what_rows_say(parent: Table) -> None:
    assert "calls: 8 utterances" in said("derive", "calls", "--from", "talk", "--telephone")
    calls = Table.open("calls")
    for column in ("id", "text", "speaker", "source", "licence", "take"):
        assert calls.numpy(column).tolist() == parent.numpy(column).tolist()
    assert set(calls.numpy("rate").tolist()) == {8_000} and set(calls.numpy("derived_from").tolist()) == {"talk"}
    for i in range(len(calls)):
        row, before = calls.row(i), parent.row(i)
        info = sf.info(row["audio"])
        assert (info.subtype, info.samplerate) == ("ULAW", 8_000)
        assert row["duration"] == pytest.approx(before["duration"], abs=1 / 8_000)
        samples = sf.read(row["audio"], dtype="int16")[0]
        assert np.array_equal(mulaw_decode(mulaw_encode(samples)), samples)
        assert row["derived"].startswith("300-3400 Hz; 8000 Hz, G.711 mu-law; gain ")
        assert row["clipped"] == 0.0 and row["peak"] <= 32_124 / 32_768
        if row["peak"] < 0.9:
            assert row["level"] == pytest.approx(-26.0, abs=0.2)
        old, new = read(before["audio"], rate=8_000), samples / 32_768
        spectrum = np.abs(np.fft.rfft(new)) ** 2
        hertz = np.fft.rfftfreq(len(new), 1 / 8_000)
        assert spectrum[hertz < 150].sum() < 0.001 * spectrum.sum()
        lags = np.correlate(new, old, "full")
        assert abs(int(lags.argmax()) - (len(old) - 1)) <= 1  # heard at the same time
    about = about_corpus(corpora_home() / "calls")
    assert about["derived"]["augment"]["mulaw"] is True and about["derived"]["from"] == "talk"


def test_noise_is_added_at_the_noted_ratio_and_a_loud_recording_is_lowered_not_clipped(parent: Table) -> None:
    derive("loud", "talk", WaveAugment(speed=(1.0,), noise="hum", snr=(4.0, 9.0), share=1.0), seed=3)
    loud = Table.open("loud")
    ratios = loud.numpy("noise_snr")
    assert loud.numpy("rate").tolist() == parent.numpy("rate").tolist() and len(set(ratios.tolist())) == 8
    for i in range(len(loud)):
        row = loud.row(i)
        assert sf.info(row["audio"]).subtype == "PCM_16" and Path(row["audio"]).suffix == ".flac"
        clean, noisy = read_native(parent.row(i)["audio"])[0][:, 0], read_native(row["audio"])[0][:, 0]
        assert len(clean) == len(noisy) and row["clipped"] == 0.0
        scale = float(clean @ noisy / (clean @ clean))  # what of it is speech, by least squares
        found = 10 * np.log10(power(scale * clean) / power(noisy - scale * clean))
        assert 4.0 <= ratios[i] <= 9.0 and found == pytest.approx(
            ratios[i], abs=0.3
        )  # speech and noise are not quite orthogonal
        assert f"noise at {ratios[i]:.1f} dB" in row["derived"] and row["noise"] in {"0", "1", "2"}
    # The one at full scale has a higher peak in noise than before, so all of it is lowered, which is said.
    assert "gain -" in loud.row(1)["derived"] and loud.row(1)["peak"] == pytest.approx(10 ** (-0.1 / 20), abs=1e-4)
    assert about_corpus(corpora_home() / "loud")["derived"]["mixed_in_licences"] == {"hum": ["CC-BY-4.0"]}


def test_the_same_command_again_does_nothing_and_another_is_refused(parent: Table, tmp_path: Path) -> None:
    command = [
        "derive",
        "calls",
        "--from",
        "talk",
        "--telephone",
        "--noise",
        "hum",
        "--snr",
        "5,20",
        "--where",
        "take < 4",
    ]
    assert "calls: 4 utterances" in said(*command)
    made = corpora_home() / "calls" / "table.parquet"
    before, sums = made.stat().st_mtime_ns, Table.open("calls").numpy("sha1").tolist()
    assert "calls: 4 utterances" in said(*command) and made.stat().st_mtime_ns == before
    for other in (["--seed", "1"], ["--snr", "6,20"], ["--where", "take < 5"]):
        with pytest.raises(OvertureError, match="'calls' already"):
            said(*command, *other)
    assert made.stat().st_mtime_ns == before
    said(*command, "--replace")
    assert made.stat().st_mtime_ns > before and Table.open("calls").numpy("sha1").tolist() == sums  # to the bit
    said(*command, "--seed", "1", "--replace")
    assert Table.open("calls").numpy("sha1").tolist() != sums
    # What a row says is part of what a corpus was made of, and so are the recordings of the noise.
    said(*command, "--replace")
    lines = (tmp_path / "in" / "talk.tsv").read_text().replace("CC0-1.0", "CC-BY-4.0")
    (tmp_path / "in" / "talk.tsv").write_text(lines)
    add("talk", tmp_path / "in" / "talk", transcripts=tmp_path / "in" / "talk.tsv", replace=True)
    with pytest.raises(OvertureError, match="'calls' already"):
        said(*command)
    # A row's noise is its own: it does not depend on which other rows are taken.
    derive("all", "talk", WaveAugment(speed=(1.0,), noise="hum", band=(300.0, 3_400.0), mulaw=True, share=1.0))
    assert Table.open("all").numpy("sha1").tolist()[:4] == sums
    assert not list(corpora_home().glob(".*"))


def test_what_cannot_be_derived_says_why_and_leaves_nothing(parent: Table, tmp_path: Path) -> None:
    telephone = ["derive", "calls", "--from", "talk", "--telephone"]
    for words, why in (
        (["derive", "calls", "--from", "talk"], "nothing to do"),
        ([*telephone, "--snr", "5,20"], "needs --noise"),
        ([*telephone, "--noise", "hum", "--snr", "loud"], r"--snr 'loud': write LOW,HIGH"),
        ([*telephone, "--noise", "hum", "--snr", "1,2,3"], "write LOW,HIGH"),
        ([*telephone, "--noise", "hum", "--snr", "20,5"], "smaller first"),
        ([*telephone, "--noise", "humm"], "no corpus 'humm'.*'hum'"),
        ([*telephone, "--where", "take > 100"], "no row of 'talk' is left"),
        (["derive", "talk", "--from", "talk", "--telephone", "--replace"], "cannot be made of itself"),
        (["derive", "hum", "--from", "talk", "--noise", "hum", "--replace"], "cannot be made of itself"),
        (["derive", "a/b", "--from", "talk", "--telephone"], "cannot name a corpus"),
    ):
        with pytest.raises(OvertureError, match=why):
            said(*words)
    with pytest.raises(OvertureError, match="treated whole"):
        derive("calls", "talk", WaveAugment(mulaw=True))
    shutil.move(tmp_path / "in" / "talk" / "3.wav", tmp_path / "3.wav")
    with pytest.raises(OvertureError, match=r"row '3': .*3\.wav"):
        said(*telephone)
    assert sorted(p.name for p in corpora_home().iterdir()) == ["hum", "talk"]


def test_a_corpus_of_cut_recordings_can_be_derived(parent: Table) -> None:
    derive("short", "embedded", WaveAugment(speed=(0.9,), mulaw=True, share=1.0), where="duration < 0.4")
    short, before = Table.open("short"), Table.open("embedded", "duration < 0.4")
    np.testing.assert_allclose(short.numpy("duration"), before.numpy("duration") / 0.9, atol=2 / 8_000)
    assert all(text.startswith("speed 0.9; 8000 Hz") for text in short.numpy("derived"))
    assert json.loads((corpora_home() / "short" / "corpus.json").read_text())["derived"]["where"] == "duration < 0.4"
    assert short.numpy("start").tolist() == [0.0] * len(short)
