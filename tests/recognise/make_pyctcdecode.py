"""Write pyctcdecode.json: what pyctcdecode with KenLM makes of the frames in shared.py. Run once; the tests only read the result.

pyctcdecode asks for numpy below 2, so it needs an environment of its own, with this project's src on the path (no torch needed):

    python -m venv reference && reference/bin/pip install pyctcdecode==0.5.0 kenlm==0.3.0
    PYTHONPATH=src:. reference/bin/python tests/recognise/make_pyctcdecode.py
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import kenlm
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.decoder import BeamSearchDecoderCTC
from pyctcdecode.language_model import LanguageModel, load_unigram_set_from_arpa

sys.path.insert(0, str(Path(__file__).parent))
import shared

from overture.recognise.lm import NGram

WIDE = {"beam_width": 300, "beam_prune_logp": -25.0, "token_min_logp": -9.0}


def main() -> None:
    labels = ["", *shared.units().characters]
    hypotheses = []
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder) / "lm.arpa"
        NGram.estimate(shared.TEXTS, order=3).write(arpa)
        for setting in shared.SETTINGS:
            lm = None
            if setting is not None:
                lm = LanguageModel(
                    kenlm.Model(str(arpa)),
                    load_unigram_set_from_arpa(str(arpa)),
                    alpha=setting["alpha"],
                    beta=setting["beta"],
                    unk_score_offset=setting["unk"],
                )
            decoder = BeamSearchDecoderCTC(Alphabet(labels, False), lm)
            found = []
            for number, text in enumerate(shared.SPOKEN):
                best = decoder.decode_beams(shared.frames(text, number), **WIDE)[0]
                found.append({"text": best[0], "ctc": round(best[3], 4), "score": round(best[4], 4)})
                print(setting, best[0])
            hypotheses.append(found)
    made = {
        "made by": Path(__file__).name,
        "versions": {name: version(name) for name in ("pyctcdecode", "kenlm", "numpy")},
        "search": WIDE,
        "settings": shared.SETTINGS,
        "hypotheses": hypotheses,
    }
    shared.EXPECTED.write_text(json.dumps(made, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
