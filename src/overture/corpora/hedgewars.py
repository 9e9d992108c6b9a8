"""Hedgewars: some 55 short exclamations by each of 15 game voices, named after the event that they comment on, with one laugh a voice.

There are no texts, and each voice words an event its own way, so the event is no transcript. What emotion an event suggests is a guess of ours.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

LANGUAGES = {
    "Default_es": "es",
    "Default_pl": "pl",
    "Default_ru": "ru",
    "Default_uk": "uk",
    "Russian_pl": "pl",
}  # the others: en
EMOTIONS = {
    "amused": "Laugh", "pain": "Ooff1 Ooff2 Ooff3 Ow1 Ow2 Ow3 Ow4 Ouch", "fear": "Nooo Runaway Takecover Incoming Leavemealone",
    "anger": "Coward Traitor Revenge Youllregretthat Illgetyou Justyouwait Cutitout Bugger Stupid Nutter",
    "joy": "Amazing Brilliant Excellent Victory Flawless", "sad": "Oops Ohdear Drat Missed", "bored": "Boring",
    "neutral": "Hello Byebye Solong Yessir Hmm",
}  # fmt: skip
GUESS = {event: emotion for emotion, events in EMOTIONS.items() for event in events.split()}


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every exclamation, as the package's Ogg files."""
    package = packages["hedgewars-data"]
    voices = package.folder / "usr/share/games/hedgewars/Data/Sounds/voices"
    out: list[Row] = []
    for path in sorted(voices.glob("*/*.ogg")):
        voice, event = path.parent.name, path.stem
        to = folder / "audio" / voice / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, to)
        out.append(
            {"id": f"{voice}/{event}", "audio": f"audio/{voice}/{path.name}", "text": None, "language": LANGUAGES.get(voice, "en"),
             "speaker": f"hedgewars-{voice}", "event": event, "emotion_guess": GUESS.get(event), "laughter": event == "Laugh",
             "kind": "exclamation", "source": package.source, "licence": "GFDL-1.3"}
        )  # fmt: skip
    return Listing(rows=out)
