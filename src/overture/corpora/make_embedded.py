"""Makes the embedded corpus out of two installed ones: python -m overture.corpora.make_embedded

75 minutes of real, transcribed speech in under 8 MB, so that every recipe can be tried and tested without a download: the short English
prompts of Asterisk, those prompts that exist in all five of its languages, 14 characters of Flight of the Amazon Queen, and one-word
utterances of its other characters. One Ogg/Opus file at 16 kHz a voice and language; rows say where in it they begin. What each column can
serve for is told in docs/corpora.md.
"""

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from overture.corpora.build import Listing, Row, build

FOLDER = Path(__file__).parent / "embedded"
RATE = 16_000  # Hz
GAP = 0.06  # s of silence between utterances, so that the codec mixes nothing of one into the next
COMPRESSION = 0.977  # libsndfile's scale; some 12 kbit/s
CHARACTERS = [
    "joe",
    "bob",
    "sparky",
    "tam",
    "jim",
    "witch",
    "faye",
    "death",
    "sec",
    "chief",
    "bud",
    "lou",
    "henry",
    "naomi",
]
TAKES, TAKES_OF_JOE = 64, 100  # utterances a character
WORDS = (  # utterances of one or two words that at least four of all characters say, six times or more; taken from every character
    "no", "yeah", "hello", "what", "hi joe", "hmm", "okay", "good idea", "that's okay", "oh okay", "hello joe", "goodbye", "umm", "uh huh",
    "sorry", "thanks", "no way", "yes", "oh", "oh yeah",
)  # fmt: skip
KEPT = (  # licences; the one of Asterisk's English package is the same as of the others
    ("asterisk-16k", "asterisk-core-sounds-en.copyright"),
    ("amazon-queen", "flight-of-the-amazon-queen.copyright"),
    ("amazon-queen", "flight-of-the-amazon-queen.readme.txt"),
)


def keyword(text: str) -> str | None:
    """The word of WORDS that `text` is, whatever its case, punctuation and drawl ('Hmmmm...' is 'hmm')."""
    plain = re.sub(r"\s+", " ", re.sub(r"[^\w' ]+", " ", text.casefold())).strip()
    plain = re.sub(r"(.)\1{2,}", r"\1\1", plain)
    return plain if plain in WORDS else None


def chosen() -> list[tuple[Row, str]]:
    """The rows to take and the file each goes to."""
    from overture.data.table import Table

    taken: list[tuple[Row, str]] = []
    prompts = Table.open("asterisk-16k", "text IS NOT NULL AND duration BETWEEN 0.2 AND 10")
    query = "SELECT prompt FROM rows GROUP BY prompt HAVING count(DISTINCT language) = 5 AND max(duration) < 3"
    everywhere = set(prompts.sql(query).column("prompt").to_pylist())
    for i in range(len(prompts)):
        row = prompts.row(i)
        if row["language"] == "en-US" or row["prompt"] in everywhere:
            extra = {"keyword": row["prompt"][-1] if row["kind"] == "digit" else None}
            taken.append((row | extra | {"id": f"asterisk/{row['id']}"}, f"{row['speaker']}-{row['language']}"))
    lines = Table.open("amazon-queen", "duration BETWEEN 0.35 AND 6 AND speaker IS NOT NULL")
    of: dict[str, list[Row]] = {}
    for i in range(len(lines)):
        row = lines.row(i)
        if row["speaker"] in CHARACTERS or keyword(row["text"]):
            of.setdefault(row["speaker"], []).append(row)
    for who, rows in sorted(of.items()):
        # words first, then whatever comes first in the order of the hashes: a choice without a preference that is the same every time
        rows.sort(key=lambda row: (keyword(row["text"]) is None, row["sha1"]))
        for row in rows[: TAKES_OF_JOE if who == "joe" else TAKES]:
            file = who if who in CHARACTERS else "other-characters"
            taken.append((row | {"keyword": keyword(row["text"]), "id": f"amazon-queen/{row['id']}"}, file))
    return taken


def rows(folder: Path) -> Listing:
    """Packs the chosen utterances into `folder/audio` and tells their rows."""
    import numpy as np
    import soundfile as sf

    from overture.data.audio import read
    from overture.data.table import find_corpus

    files: dict[str, list[np.ndarray]] = {}
    lengths: dict[str, int] = {}
    out: list[Row] = []
    (folder / "audio").mkdir()
    gap = np.zeros(round(GAP * RATE), dtype=np.float32)
    for row, file in chosen():
        samples = read(row["audio"], rate=RATE)
        at = lengths.setdefault(file, 0)
        files.setdefault(file, []).extend([samples, gap])
        lengths[file] += len(samples) + len(gap)
        free = {k: row.get(k) for k in ("kind", "keyword", "prompt", "translation_en")}
        kept = {k: row[k] for k in ("id", "text", "language", "speaker", "gender", "source", "licence")}
        out.append(kept | free | {"audio": f"audio/{file}.ogg", "start": at / RATE, "duration": len(samples) / RATE})
    for file, parts in files.items():
        path = folder / "audio" / f"{file}.ogg"
        with sf.SoundFile(path, "w", RATE, 1, "OPUS", format="OGG", compression_level=COMPRESSION) as sound:
            sound.write(np.concatenate(parts))
    (folder / "LICENCES").mkdir()
    for corpus, licence in KEPT:
        shutil.copyfile(find_corpus(corpus) / "LICENCES" / licence, folder / "LICENCES" / licence)
    (folder / "LICENCES" / "README.md").write_text(NOTICE, encoding="utf8")
    return Listing(
        rows=out,
        notes={
            "about": "Real speech in five languages, 18 voices with 64 utterances or more, packed small: Asterisk's prompts and a game's dialogue"
        },
    )


def add_phones() -> None:
    """Aligns the English rows: `phones` and `phone_ends` (see `overture.data.phones`), for recipes that speak. Needs the extra `align`."""
    from overture.data.score import scorer
    from overture.data.score.annotate import annotate

    with TemporaryDirectory() as place:
        copy = Path(place) / "embedded"
        shutil.copytree(FOLDER, copy)
        annotate(str(copy), {"phones": scorer("phones")})
        for name in ("table.parquet", "corpus.json"):
            shutil.copyfile(copy / name, FOLDER / name)


NOTICE = """\
# Whose recordings these are

**All of these files are modified versions**: cut, resampled to 16 kHz, packed and compressed (Ogg/Opus, about 12 kbit/s). The column
`licence` of table.parquet says which licence each utterance is under; the code of Overture has its own.

* Asterisk core sounds 1.6.1 (allison-smith-*, june-wallack-*, carlo-flora-*, ivrvoice-*): copyright Digium and the speakers Allison Smith
  (English, Spanish), June Wallack (French), Carlo Flora (Italian) and IVRvoice.ru (Russian). English, Spanish and French: Creative Commons
  Attribution-ShareAlike 3.0; Italian and Russian: Creative Commons Attribution 3.0. Details in asterisk-core-sounds-en.copyright, which is that
  of all five languages.
* Flight of the Amazon Queen (all other files): copyright John Passfield and Steven Stamatiadis, under the game's own licence, which stands in
  flight-of-the-amazon-queen.copyright and in its readme, kept here as it asks. **This is a modified version of parts of the game.**
  It must not be sold alone.
"""


if __name__ == "__main__":
    about = build("embedded", rows, folder=FOLDER, replace=True)
    add_phones()
    print(
        f"{about['rows']} utterances, {about['hours']:.2f} h, {sum(p.stat().st_size for p in FOLDER.rglob('*')) / 1e6:.2f} MB"
    )
