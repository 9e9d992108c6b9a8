"""Frames to text: greedy, prefix beam search, and beam search with a trigram model, against pyctcdecode with KenLM.

COMMAND   python benchmarks/ctc_decode.py [--peer PYTHON]
RUNTIME   3 minutes, one core (3 more to make the peer's environment where --peer names none)

The frames are simulated: sentences of the embedded corpus at 50 frames and 14 characters a second, with noise and with confusions
between characters that stay the same. The model is a trigram of the other sentences. Both sides search with width 32 and the same
weights; each keeps its own pruning. pyctcdecode asks for numpy below 2, so it runs in an environment of its own with kenlm and psutil,
which PYTHON may name. Before anything is timed the hypotheses are compared: with each other where both search almost everything, and with
what was said. Turns alternate. The real-time factor is CPU seconds for a second of speech.
"""

import json
import os
import random
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

from common import Side, alternate, finish, machine, parser, take_turns, versions

RATE = 50.0  # frames a second
WIDTH, WEIGHT, BONUS, UNKNOWN = 32, 0.5, 1.5, 6.0  # what a word that the model does not know costs is in nats
WIDE, COMPARED = 200, 8  # the width and the number of sentences where hypotheses are compared with each other
OURS, PEER = ("greedy", "beam", "beam+lm"), ("pyctcdecode beam", "pyctcdecode beam+lm")
LN10 = float(np.log(10))


def make_work(folder: Path, sentences: int) -> None:
    """frames.npz, work.json and lm.arpa: what every side reads."""
    import pyarrow.parquet as pq

    import overture
    from overture.recognise.lm import NGram
    from overture.recognise.units import Characters

    rows = pq.read_table(Path(overture.__file__).parent / "corpora" / "embedded" / "table.parquet").to_pylist()
    units = Characters.of(row["text"] for row in rows if row["text"] and row["language"].startswith("en"))
    texts = {units.normalise(row["text"]) for row in rows if row["text"] and row["language"].startswith("en")}
    ordered = sorted(text for text in texts if text)
    random.Random(0).shuffle(ordered)
    spoken = [text for text in ordered if 30 <= len(text) <= 90][:sentences]
    NGram.estimate((text for text in ordered if text not in spoken), order=3).write(folder / "lm.arpa")
    draw = np.random.RandomState(0)
    confusions = draw.standard_normal((len(units), len(units)))
    arrays = {}
    for number, text in enumerate(spoken):
        path: list[int] = []
        for i in units.encode(text, row=text):
            path += [i] * draw.randint(1, 3) + [0] * draw.randint(1, 4)  # 3.5 frames a character
        logits = confusions[path] + 1.5 * draw.standard_normal((len(path), len(units)))
        logits[np.arange(len(path)), path] += 7
        space = units.characters.index(" ") + 1
        logits[np.flatnonzero(np.array(path) == space)[-1] + 1 :, space] -= 30  # see the notes
        arrays[str(number)] = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    np.savez(folder / "frames.npz", **arrays)
    work = {"characters": units.characters, "spoken": spoken, "seconds": sum(map(len, arrays.values())) / RATE}
    (folder / "work.json").write_text(json.dumps(work), encoding="utf8")


def peer_python(folder: Path) -> str:
    """The interpreter of an environment that has the peer, made once."""
    home = folder / "pyctcdecode"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "-q", "pyctcdecode==0.5.0", "kenlm", "psutil"])
    if done.returncode:
        raise SystemExit(
            "pyctcdecode could not be installed: name an interpreter that has it, kenlm and psutil with --peer"
        )
    return str(python)


def ours(kind: str, folder: Path, characters: str, frames: list[np.ndarray]) -> Any:
    """A function of the beam's width that decodes everything."""
    import torch

    from overture.recognise.decode import Beam, beam_search, greedy
    from overture.recognise.lm import KenLM, NGram
    from overture.recognise.units import Characters

    torch.set_num_threads(1)
    units = Characters(characters)
    if kind == "greedy":
        return lambda width: [
            units.decode(greedy(torch.from_numpy(x)[None], torch.tensor([len(x)]))[0]) for x in frames
        ]
    lm = NGram.read(folder / "lm.arpa") if kind == "beam+lm" else None
    if lm is not None and not isinstance(lm, KenLM):
        raise SystemExit("this benchmark needs KenLM on our side too: pip install 'overture[lm]'")

    def decode(width: int) -> list[str]:
        wide = {"prune": 25.0, "token_prune": 9.0} if width == WIDE else {}
        beam = Beam(width=width, lm_weight=WEIGHT, word_bonus=BONUS, unknown=UNKNOWN, **wide)
        return [beam_search(x, units, lm, beam)[0].text for x in (frames[:COMPARED] if wide else frames)]

    return decode


def theirs(kind: str, folder: Path, characters: str, frames: list[np.ndarray]) -> Any:
    import kenlm
    from pyctcdecode.alphabet import Alphabet
    from pyctcdecode.decoder import BeamSearchDecoderCTC
    from pyctcdecode.language_model import LanguageModel, load_unigram_set_from_arpa

    lm = None
    if kind == "pyctcdecode beam+lm":
        path = str(folder / "lm.arpa")
        offset = -UNKNOWN / WEIGHT / LN10
        lm = LanguageModel(kenlm.Model(path), load_unigram_set_from_arpa(path), WEIGHT, BONUS, offset)
    decoder = BeamSearchDecoderCTC(Alphabet(["", *characters], False), lm)

    def decode(width: int) -> list[str]:
        wide = {"beam_prune_logp": -25.0, "token_min_logp": -9.0} if width == WIDE else {}
        return [
            decoder.decode_beams(x, beam_width=width, **wide)[0][0] for x in (frames[:COMPARED] if wide else frames)
        ]

    return decode


def side(kind: str, folder: Path) -> None:
    work = json.loads((folder / "work.json").read_text(encoding="utf8"))
    with np.load(folder / "frames.npz") as stored:
        frames = [stored[str(number)] for number in range(len(work["spoken"]))]
    decode = (theirs if kind in PEER else ours)(kind, folder, work["characters"], frames)
    hypotheses = decode(WIDTH)
    wide = [] if kind == "greedy" else decode(WIDE)
    take_turns(lambda: decode(WIDTH), hypotheses=hypotheses, wide=wide)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--peer", help="an interpreter with pyctcdecode, kenlm and psutil")
    options.add_argument("--inside", action="store_true", help="this process runs in the peer's environment")
    args = options.parse_args()
    folder = args.work / "ctc_decode"
    if args.side:
        if args.side in PEER and not args.inside:  # the same process, in the other environment
            os.execv(args.peer, [args.peer, *sys.argv, "--inside"])
        side(args.side, folder)
        return
    about = machine()
    folder.mkdir(parents=True, exist_ok=True)
    peer = args.peer or peer_python(folder)
    make_work(folder, 4 if args.quick else 24)
    work = json.loads((folder / "work.json").read_text(encoding="utf8"))

    import jiwer

    script = str(Path(__file__).resolve())
    given = ("--work", str(args.work), "--peer", peer)
    sides = {kind: Side(script, kind, *given, env={"OMP_NUM_THREADS": "1"}) for kind in (*OURS, *PEER)}
    rounds = 2 if args.quick else 5
    alternate(list(sides.values()), rounds)
    for s in sides.values():
        s.close()
    found = {
        kind: {
            "name": kind,
            "seconds": s["seconds"],
            "cpu_seconds": s["cpu"],
            "real_time_factor": round(s["cpu"]["median"] / work["seconds"], 6),
            "word_error_rate": round(jiwer.wer(work["spoken"], s.ready["hypotheses"]), 4),
        }
        for kind, s in sides.items()
    }
    compared = work["spoken"][:COMPARED]
    same = {
        kind: {
            "equal": sum(a == b for a, b in zip(sides[kind].ready["wide"], sides[theirs].ready["wide"])),
            "of": len(compared),
            "word_error_rate": {k: round(jiwer.wer(compared, sides[k].ready["wide"]), 4) for k in (kind, theirs)},
        }
        for kind, theirs in zip(OURS[1:], PEER)
    }
    amount = (
        f"{len(work['spoken'])} sentences, {work['seconds']:.0f} s of 50 Hz frames, {len(work['characters']) + 1} units"
    )
    result = {
        "work": f"{amount}: beam of {WIDTH} with a trigram model",
        "ours": found["beam+lm"],
        "peer": {**found[PEER[1]], "name": "pyctcdecode 0.5.0 with kenlm"},
        "ratio": found[PEER[1]]["seconds"]["median"] / found["beam+lm"]["seconds"]["median"],
        "runs": rounds,
        "others": {kind: found[kind] for kind in ("greedy", "beam", PEER[0])},
        "hypotheses": {"width": WIDE, **same},
        "machine": about,
        "versions": versions("kenlm"),
        "notes": [
            "Equal hypotheses are counted where both search almost everything; times and the other error rates are those of width 32.",
            "pyctcdecode takes a space at the very end for an unknown word, and the text without it too; so the last word has none here.",
        ],
    }
    finish("ctc_decode", result, quick=args.quick)


if __name__ == "__main__":
    main()
