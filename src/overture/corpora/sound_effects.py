"""Sound effects by class, from music programs and games: drums, keys, cries, animals, steps, weapons, work, water, fire and more.

The class (`label`) is read from the file's name and folders, so it is a weak label: names can be wrong, and effects of games are no field
recordings. What fits no class is left out, as are voices that speak, music and loops. `kit` names what was recorded together: a drum kit, a
keyboard, a voice, or the takes of one thing (sword 1, 2, 3 ...). Takes of a kit resemble each other closely: a fair test holds kits out.
"""

import errno
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the sounds of a package lie and how they are read."""

    path: str  # a folder, or a zip
    classes: str  # which table of CLASSES
    licence: str
    kit: str | None = None  # what of the beginning of a path is the kit, as a pattern; None: by name, as `kit_of` says
    inside: str = ""  # of a zip: the folder within
    but: Mapping[str, str] = field(default_factory=dict)  # beginnings of paths -> another licence


TAKEN = {
    "0ad-data": Place(
        path="usr/share/games/0ad/mods/public/public.zip", inside="audio/", classes="effects", licence="CC-BY-SA-3.0"
    ),
    "bucklespring-data": Place(path="usr/share/buckle/wav", classes="keys", licence="GPL-2+", kit=""),
    "hedgewars-data": Place(
        path="usr/share/games/hedgewars/Data/Sounds",
        classes="effects",
        licence="GFDL-1.3",
        but={"Droplet": "CC-BY-SA-3.0"},
    ),
    "hydrogen-drumkits": Place(
        path="usr/share/hydrogen/data/drumkits",
        classes="drums",
        licence="GPL-2",
        but={
            "Audiophob": "CC0-1.0",
            "BJA_Pacific": "CC-BY-SA-3.0-US",
            "circAfrique": "CC-BY-SA-3.0",
            "rumpf_kit": "CC-BY-3.0",
            "ElectricEmpireKit": "GPL-2+",
            "HardElectro1": "GPL-2+",
            "VariBreaks": "GPL-2+",
            "ColomboAcousticDrumkit": "GPL-2+ with an exception for compositions",
        },
        kit="Millo|[^/]+",  # three kits of one author, who may have played the same drums
    ),
    "lmms-common": Place(path="usr/share/lmms/samples", classes="drums", licence="GPL-2+", kit=""),
    "megaglest-data": Place(path="usr/share/games/megaglest", classes="effects", licence="CC-BY-SA-3.0"),
    "nexuiz-data": Place(
        path="usr/share/games/nexuiz/data/data.pk3", inside="sound/", classes="effects", licence="GPL-2+"
    ),
    "openarena-data": Place(
        path="usr/share/games/openarena/baseoa/pak0.pk3", inside="sound/", classes="effects", licence="GPL-2+"
    ),
    "sonic-pi-samples": Place(
        path="usr/share/sonic-pi/samples", classes="drums", licence="CC0-1.0", kit="[a-z]+"
    ),  # bd, drum, elec, tabla ...
    "warmux-data": Place(path="usr/share/games/warmux/sound", classes="effects", licence="GPL-2+"),
    "warzone2100-data": Place(
        path="usr/share/games/warzone2100/base.wz", inside="audio/", classes="effects", licence="GPL-2+"
    ),
    "wesnoth-1.16-data": Place(
        path="usr/share/games/wesnoth/1.16/data/core/sounds", classes="effects", licence="GPL-2+"
    ),
}
# Patterns for 'package / folder / folder / name' in words, of effects; of drums for the name, then for its folder. The first that fits is taken.
CLASSES = {
    "keys": {"key_click": r"."},
    "drums": {
        "": r"\b(loop|beats?|bass(?!drum| drum)|drumloops?|fx|empty ?sample|synth|waveforms|shapes|roll)\b",
        "clap": r"\b(hand)?claps?\b",
        "hihat": r"\b(hi ?hats?|hats?|hh|chh|ohh|hhat|open ?hat|cymbal (closed|open|pedal))\d*\b",
        "kick_drum": r"\b(kick|bass ?drum|drum bass|bd)\d*\b",
        "snare_drum": r"\b(snare|sn|sd|rim(shot)?|side ?stick|ss)\d*\b",
        "tom_drum": r"\b(tom|toms|tm|floor ?tom)\d*\b",
        "cymbal": r"\b(crash|ride|cymbal|splash|china|rd)\d*\b",
        "percussion": r"\b(cow ?bell|shaker|shake|tamb(ourine)?|conga|bongo|tabla|perc|claves?|maracas?|guiro|triang(le)?|djembe|agogo|cajon"
        r"|wood ?block|kenkeni|sangban|dununba)\w*\b",
    },
    "effects": {
        "laughter": r"/ voices / .*/ laugh|/ ha(ha)+ \d+$|/ nexus / laugh|/ dwarf laugh",
        "": r"\b(coms|tutorial|announcer|taunts?|ack|interface|porto|demons?|skeleton|lich|wose)\b|hedgewars.*/ voices /"
        r"|warmux.*/ voices / (?!death|injured)",
        "horse": r"\bhorse\b|/ mstep|horseman walk",
        "dog_or_wolf": r"/ wolf\b|\bdog (bark|move)",
        "farm_animal": r"/ (cattle|cow|bull|sheep|goat|mudchute cow|pig (die|death|squeal))\b",
        "elephant": r"/ ele(phant|attack|walk)?\b",
        "bird": r"/ (birds|chicken|rooster|owl|hawk|eagle|flamingo|peacock|day (temperate|tropical))\b",
        "human_cry": r"wesnoth.*/ (human|elf|dwarf|mermaid|mermen)\b.* (hit|die)\b|0ad.*/ human / death /|warzone.*/ scream"
        r"|(nexuiz|openarena).* player / (?!carni|reptilian)\w+( \w+)?( / player)? / (death|pain|falling)\b|warmux.*/ (death|injured)\b"
        r"|megaglest.*/ (archer|archmage|axe thrower|battlemage|genie|guard|horseman|initiate|princess|shaman|spearman|stickfighter"
        r"|summoner|swordman|technician|valkyrie|worker)? ?die\b",
        "creature_cry": r"wesnoth.* (hit|die|growl|shriek|hiss|groan|wail)\b|player / (carni|reptilian).* / (death|pain|falling)\b"
        r"|(openarena|hedgewars).*\bgrowl\b|megaglest.*/ (behemoth|daemon|mummy) die",
        "footsteps": r"\b(foo[rt]+step|metalfootstep)\b|/ (footsteps|singlesteps) /|/ hstep|(hedgewars|warmux).*/ steps?\b",
        "flesh": r"/ (gather meat|gather meatexpire|flesh(imp|stab)|gib|gibimp|gibsplt|squish|squishy)\b",
        "explosion": r"\b(explosion|explode|dynamite exp|hagexp|wstbexpl|rocklx|(sml|lrg|atnk|mpod|nxs)expl?d?)\b"
        r"|nexuiz.*/ (rocket|grenade|hookbomb|fireball) impact",
        "energy_weapon": r"/ (lasergun|crylink|electro|nex|minstanex) ?fire|openarena.*/ (hyprbf|bfg fire|railgf|lg fire)"
        r"|warzone.*/ (bemlsr|hevlsr|plslsr|rotlsr|lasstrk|plasflm|gaussgun|emp)\b",
        "gunshot": r"/ (gunshot|thunderstick|musket|gun|minigun|mortar|shotgun|shotgunfire|shotgun fire|uzi fire|campingrifle fire|machgf|sshotf"
        r"|vulcanf|asltmg|mgbar|mgheavy|mgtower|(rapd|lrg|med|sml|hivel)can|cluzooka shot)\b",
        "ricochet": r"/ (ric|ricoche|richet)\b",
        "clink": r"/ (brass|casings|grenade bounce|tink|hgrenb)\b",
        "hit_of_an_arrow": r"/ (fire)?arrow ?(hit|dirt|metal|stone|wood)?( \d+)?$",
        "shot_of_a_bow": r"/ (bow|crossbow|bow attack|arrowfly)\b|megaglest.*/ archer attack",
        "throw": r"/ (sling|dart|throw|throwing|jav)\b(?! (metal|stone|wood))",
        "hit_of_a_stone": r"/ sling (metal|stone|wood)",
        "blow_of_a_weapon": r"wesnoth.*/ (axe|club|sword|dagger|hatchet|spear|mace|staff|flail|knife|fist|dragonstick)\b"
        r"|0ad.*/ (sword|swordhit|spear|pike|shield)\b",
        "mining": r"/ (mine (metal|stone)|worker mine|con stone)\b",
        "wood_work": r"/ (lumber|con (wood|saw)|worker harvest wood)\b",
        "plants": r"/ (gather (field|fieldexpire|fruit|fruitexpire)|leaves|hoe)\b",
        "collapse": r"\b(building (fall|collapse)|bldfall|cave in)\b",
        "magic": r"wesnoth.*/ (magic|magicmissile|heal|lightning|entangle)\b"
        r"|megaglest.*/ (archmage (attack|hit)|(battlemage|initiate|shaman) hit)\b",
        "horn_signal": r"horn signals /|/ fanfare",
        "water": r"/ (water|river|waterfall|wave|wavecrash|waverocky|droplet|splash|outwater|watr|pipewater|drops|planewater|beewater|rain"
        r"|cf blubber)\b",
        "wind_or_thunder": r"/ (wind\w*|demonwind|painwind|thunder)\b|/ air$",
        "fire": r"/ (fire(?! archer)|firesoft|flame|campfire|embers|flamethrower|blowtorch|flmthrow|molotov|torch|melee fire|freroar)\b",
        "engine": r"/ sfx / vehicle /|/ (jetpack|jetpackboost|plane|rcplane|aircraft flying|supertux flying|drillgun|airhammer used"
        r"|machine walk)\b",
        "machine_hum": r"(nexuiz|openarena|warzone).*/ (fan|generator loop|transformer|lights|machine|machinevat|machinerydrone|drone|neonhum"
        r"|tim|powerhum|oilpump)\b",
        "beep": r"/ (beep|minetick|mine beep|countdown \d+$)",
        "interface_click": r"/ (click|clic|mouseclick|tech click|magic click|menu ?\d*$|radclik|shutterclick|typehit)\b",
    },
}
LENGTH = (0.02, 60.0)  # s
SOUNDS = (".wav", ".ogg", ".flac", ".aiff")
VARIANT = re.compile(  # what tells takes of a kit apart and nothing else
    r"\b(\w?\d+\w?|[a-z]|attack|big|call|death|die|fall|falling|fire|growl|ha(ha)+|hit|injured|high|light|medium|idle|laugh|miss|pain|puny|small|sml"
    r"|standing|walk)\b"
)


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every clip of 0.02 to 60 s whose name fits a class, as the packages' files."""
    out: list[Row] = []
    left_out = 0
    for name, place in TAKEN.items():
        package = packages[name]
        into = folder / "audio" / name
        for clip, take in _clips(package.folder / place.path, place):
            label = classify(name, clip)
            if label is None:
                left_out += 1
                continue
            to = into / clip
            to.parent.mkdir(parents=True, exist_ok=True)
            take(to)
            if not LENGTH[0] <= _seconds(to) <= LENGTH[1]:
                left_out += 1
                to.unlink()
                continue
            licence = next((v for start, v in place.but.items() if clip.startswith(start)), place.licence)
            out.append(
                {"id": f"{name}/{clip}", "audio": to.relative_to(folder).as_posix(), "text": None, "label": label,
                 "kit": kit_of(name, clip), "kind": "sound_effect", "source": package.source, "licence": licence}
            )  # fmt: skip
    return Listing(rows=out, notes={"clips_without_a_class_or_of_odd_length_left_out": left_out})


def classify(package: str, clip: str) -> str | None:
    """The class of a clip by its path, e.g. ('hydrogen-drumkits', 'BJA_Pacific/SN4_07.aiff') -> 'snare_drum'; None if none fits."""
    path = Path(clip)
    classes = TAKEN[package].classes
    whole = " / ".join(_words(part) for part in (package, *path.parent.parts, path.stem))
    for words in [whole] if classes == "effects" else [_words(path.stem), _words(path.parent.name)]:
        for label, pattern in CLASSES[classes].items():
            if re.search(pattern, words):
                return label or None
    return None


def kit_of(package: str, clip: str) -> str:
    """What a clip was recorded with, e.g. ('0ad-data', 'attack/weapon/sword_attack_12.ogg') -> '0ad-data/sword'.

    Where a name is nothing but variants (death1, pain50), the kit is its folder: a voice.
    """
    pattern, path = TAKEN[package].kit, Path(clip)
    if pattern is not None:
        found = re.match(pattern, clip)
        kit = found[0] if found else clip
    else:
        kit = " ".join(VARIANT.sub(" ", _words(path.stem)).split()) or path.parent.as_posix()
    return f"{package}/{kit}".rstrip("/")


def _clips(place: Path, how: Place) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """(path, what brings it to a new place) of every sound at a place, in the order of names."""
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, "no such folder or archive", str(place))
    if place.is_dir():
        for path in sorted(p for p in place.rglob("*") if p.suffix.lower() in SOUNDS):
            yield path.relative_to(place).as_posix(), partial(shutil.move, path)
        return
    with zipfile.ZipFile(place) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(how.inside) and name.lower().endswith(SOUNDS) and ".." not in Path(name).parts:
                yield name.removeprefix(how.inside), partial(_unzip, archive, name)


def _unzip(archive: zipfile.ZipFile, name: str, to: Path) -> None:
    to.write_bytes(archive.read(name))


def _words(name: str) -> str:
    """'SabianHatOpen-Soft_01' -> 'sabian hat open soft 01'."""
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", name).lower()).strip()


def _seconds(path: Path) -> float:
    import soundfile as sf

    try:
        return float(sf.info(str(path)).duration)
    except sf.LibsndfileError:
        return 0.0
