"""Sound effects: classes and kits from names, folders and archives read alike, a licence in every row."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.corpora import SOURCES, sound_effects
from overture.corpora.build import build
from overture.corpora.packages import Package
from overture.corpora.sound_effects import CLASSES, TAKEN, classify, kit_of, rows
from overture.data.split import split
from overture.data.table import Table

Put = Callable[..., Path]


@pytest.mark.parametrize(
    "package, clip, label",
    [
        ("hydrogen-drumkits", "The Black Pearl 1.0/SabianHatOpen-Soft.wav", "hihat"),
        ("hydrogen-drumkits", "BJA_Pacific/SN4_07.aiff", "snare_drum"),
        ("hydrogen-drumkits", "ElectricEmpireKit/EE_Kick_Dist.flac", "kick_drum"),
        ("hydrogen-drumkits", "Gimme A Hand 1.0/BongoHi-Hard.wav", "percussion"),
        ("lmms-common", "basses/bass01.ogg", None),
        ("lmms-common", "beats/break01.ogg", None),
        ("sonic-pi-samples", "bd_boom.flac", "kick_drum"),
        ("sonic-pi-samples", "loop_tabla.flac", None),
        ("bucklespring-data", "1c-0.wav", "key_click"),
        ("wesnoth-1.16-data", "human-female-die-2.ogg", "human_cry"),
        ("wesnoth-1.16-data", "orc-hit-1.ogg", "creature_cry"),
        ("wesnoth-1.16-data", "skeleton-hit-1.ogg", None),
        ("wesnoth-1.16-data", "magic-holy-miss-1.ogg", "magic"),
        ("wesnoth-1.16-data", "horse-hit-3.ogg", "horse"),
        ("wesnoth-1.16-data", "wolf-growl-2.ogg", "dog_or_wolf"),
        ("wesnoth-1.16-data", "horn-signals/horn-1.ogg", "horn_signal"),
        ("wesnoth-1.16-data", "ambient/night.ogg", None),
        ("0ad-data", "actor/human/death/male_death_12.ogg", "human_cry"),
        ("0ad-data", "attack/impact/arrow_wood_03.ogg", "hit_of_an_arrow"),
        ("0ad-data", "attack/weapon/arrowfly_03.ogg", "shot_of_a_bow"),
        ("0ad-data", "attack/weapon/sling_3.ogg", "throw"),
        ("0ad-data", "attack/impact/sling_metal_3.ogg", "hit_of_a_stone"),
        ("0ad-data", "actor/mounted/movement/mstep3.ogg", "horse"),
        ("0ad-data", "actor/fauna/animal/elephant_select3.ogg", "elephant"),
        ("0ad-data", "interface/alarm/alarmdefeat_1.ogg", None),
        ("0ad-data", "voice/greek/civ/civ_male_attack_1.ogg", None),
        ("megaglest-data", "techs/megapack/factions/norsemen/units/swordman/sounds/swordman_die1.wav", "human_cry"),
        # battle cries as often as blows
        ("megaglest-data", "techs/megapack/factions/norsemen/units/swordman/sounds/swordman_attack1.wav", None),
        ("megaglest-data", "techs/megapack/factions/magic/units/daemon/sounds/daemon_die1.wav", "creature_cry"),
        ("megaglest-data", "techs/megapack/commondata/air_attack1.wav", None),
        ("nexuiz-data", "player/marine/player/pain50.ogg", "human_cry"),
        ("nexuiz-data", "player/reptilian/player/pain50.ogg", "creature_cry"),
        ("nexuiz-data", "player/marine/coms/attack.ogg", None),
        ("nexuiz-data", "onslaught/generator_underattack.ogg", None),  # an announcer
        ("nexuiz-data", "porto/fire.ogg", None),  # a weapon's
        ("megaglest-data", "techs/megapack/factions/indian/units/fire_archer/sounds/archer_select1.wav", None),
        ("nexuiz-data", "weapons/rocket_impact.ogg", "explosion"),
        ("nexuiz-data", "misc/metalfootstep02.ogg", "footsteps"),
        ("openarena-data", "player/footsteps/splash1.ogg", "footsteps"),
        ("openarena-data", "weapons/plasma/hyprbf1a.ogg", "energy_weapon"),
        ("warzone2100-data", "sfx/weapons/mgbar1.ogg", "gunshot"),
        ("warzone2100-data", "sfx/vehicle/tread.ogg", "engine"),
        ("warzone2100-data", "taunts/taunt1/hahaha1.ogg", "laughter"),
        ("warzone2100-data", "taunts/taunt1/gmeover1.ogg", None),
        ("warmux-data", "default/voices/fire3.ogg", None),  # a shout
        ("warmux-data", "default/voices/injured_high2.ogg", "human_cry"),
        ("hedgewars-data", "voices/Default_es/Laugh.ogg", "laughter"),
        ("hedgewars-data", "voices/British/Grenade.ogg", None),
        ("hedgewars-data", "Droplet2.ogg", "water"),
    ],
)
def test_classes(package: str, clip: str, label: str | None) -> None:
    assert classify(package, clip) == label


@pytest.mark.parametrize(
    "package, clip, kit",
    [
        ("hydrogen-drumkits", "BJA_Pacific/SN4_07.aiff", "hydrogen-drumkits/BJA_Pacific"),
        ("hydrogen-drumkits", "Millo-Drums_v.1/a.wav", "hydrogen-drumkits/Millo"),
        ("hydrogen-drumkits", "Millo_MultiLayered2/b.wav", "hydrogen-drumkits/Millo"),
        ("bucklespring-data", "1c-0.wav", "bucklespring-data"),
        ("lmms-common", "drums/kick01.ogg", "lmms-common"),
        ("sonic-pi-samples", "tabla_ghe3.flac", "sonic-pi-samples/tabla"),
        ("0ad-data", "attack/weapon/sword_attack_12.ogg", "0ad-data/sword"),
        ("0ad-data", "attack/impact/arrow_wood_03.ogg", "0ad-data/arrow wood"),
        ("wesnoth-1.16-data", "human-female-die-2.ogg", "wesnoth-1.16-data/human female"),
        ("wesnoth-1.16-data", "human-female-hit-1.ogg", "wesnoth-1.16-data/human female"),
        ("wesnoth-1.16-data", "bow-puny-miss.ogg", "wesnoth-1.16-data/bow"),
        ("nexuiz-data", "player/marine/player/pain50.ogg", "nexuiz-data/player/marine/player"),
        ("nexuiz-data", "player/marine/player/death1.ogg", "nexuiz-data/player/marine/player"),
        ("hedgewars-data", "voices/British/Laugh.ogg", "hedgewars-data/voices/British"),
    ],
)
def test_kits(package: str, clip: str, kit: str) -> None:
    assert kit_of(package, clip) == kit


def noise(seed: int, seconds: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(16_000 * seconds)).astype(np.float32)


def packages(tmp_path: Path, sounds: dict[str, dict[str, np.ndarray]]) -> dict[str, Package]:
    """Miniature packages with these sounds {package: {path within its place: samples}}; the other packages are empty."""
    found = {}
    for name, place in TAKEN.items():
        found[name] = Package(name=name, version="1.0-1", folder=tmp_path / "un" / name)
        target = found[name].folder / place.path
        within = target
        if target.suffix in (".zip", ".pk3", ".wz"):
            target.parent.mkdir(parents=True)
            within = tmp_path / "packed" / name
        within.mkdir(parents=True)
        for clip, samples in sounds.get(name, {}).items():
            path = within / clip
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, samples, 16_000)
        if within != target:
            with zipfile.ZipFile(target, "w") as archive:
                for path in sorted(within.rglob("*.*")):
                    archive.write(path, path.relative_to(within))
    return found


@pytest.fixture
def mini(tmp_path: Path) -> dict[str, Package]:
    return packages(
        tmp_path,
        {
            "bucklespring-data": {"1e-1.wav": noise(1)},
            "hydrogen-drumkits": {
                "Kit/Snare-1.flac": noise(2),
                "Kit/What.flac": noise(3),
                "Audiophob/kick.wav": noise(4),
            },
            "hedgewars-data": {"Droplet1.ogg": noise(5), "splash.ogg": noise(6)},
            "0ad-data": {
                "audio/resource/mining/mine_stone_1.ogg": noise(7),
                "audio/resource/mining/mine_stone_2.ogg": noise(7),  # the same recording
                "audio/resource/mining/mine_metal_1.ogg": noise(8, 0.01),  # too short
                "art/mine_stone_3.ogg": noise(9),  # not where the sounds are
            },
        },
    )


def test_rows_of_folders_and_archives(mini: dict[str, Package], tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    found = rows(mini, folder)
    assert {r["id"]: (r["label"], r["kit"], r["licence"]) for r in found.rows} == {
        "0ad-data/resource/mining/mine_stone_1.ogg": ("mining", "0ad-data/mine stone", "CC-BY-SA-3.0"),
        "0ad-data/resource/mining/mine_stone_2.ogg": ("mining", "0ad-data/mine stone", "CC-BY-SA-3.0"),
        "bucklespring-data/1e-1.wav": ("key_click", "bucklespring-data", "GPL-2+"),
        "hedgewars-data/Droplet1.ogg": ("water", "hedgewars-data/droplet", "CC-BY-SA-3.0"),
        "hedgewars-data/splash.ogg": ("water", "hedgewars-data/splash", "GFDL-1.3"),
        "hydrogen-drumkits/Audiophob/kick.wav": ("kick_drum", "hydrogen-drumkits/Audiophob", "CC0-1.0"),
        "hydrogen-drumkits/Kit/Snare-1.flac": ("snare_drum", "hydrogen-drumkits/Kit", "GPL-2"),
    }
    assert all(r["source"] == r["id"].split("/")[0] + " 1.0-1" for r in found.rows)
    assert all((folder / r["audio"]).is_file() for r in found.rows)
    assert found.notes["clips_without_a_class_or_of_odd_length_left_out"] == 2
    assert len([p for p in (folder / "audio").rglob("*") if p.is_file()]) == len(found.rows)  # nothing is left behind


def test_a_package_without_its_archive(mini: dict[str, Package], tmp_path: Path) -> None:
    lost = mini["0ad-data"].folder / TAKEN["0ad-data"].path
    lost.unlink()
    with pytest.raises(FileNotFoundError) as error:
        rows(mini, tmp_path / "corpus")
    assert error.value.filename == str(lost)


@pytest.mark.usefixtures("home")
def test_only_equal_samples_are_dropped_and_kits_can_be_held_out(tmp_path: Path) -> None:
    takes = {
        f"audio/attack/weapon/{weapon}_attack_{i}.ogg": noise(10 * k + i)
        for k, weapon in enumerate(("sword", "pike", "spear"))
        for i in range(6)
    }
    takes["audio/attack/weapon/sword_attack_9.ogg"] = noise(0)  # as sword_attack_0
    drops = {f"{name}.ogg": noise(100 + k) for k, name in enumerate(("splash", "Droplet1", "planewater", "beewater"))}
    found = packages(tmp_path, {"0ad-data": takes, "hedgewars-data": drops})
    about = build("effects", lambda folder: rows(found, folder))
    assert (about["rows"], about["duplicates_dropped"]) == (22, 1)
    table = Table.open("effects")
    parts = split(table, {"train": 0.4, "dev": 0.3, "test": 0.3}, by="kit", stratify="label")
    kits = [set(parts.table(table, part).numpy("kit")) for part in ("train", "dev", "test")]
    assert sum(map(len, kits)) == len(set.union(*kits)) == 7
    assert all(set(parts.table(table, part).numpy("label")) == {"blow_of_a_weapon", "water"} for part in ("train", "dev", "test"))  # fmt: skip


def test_the_index_and_the_importer_agree() -> None:
    source = SOURCES["sound-effects"]
    assert source.module == "sound_effects" and set(source.packages) == set(TAKEN)
    assert {place.classes for place in TAKEN.values()} == set(CLASSES)
    labels = [label for table in CLASSES.values() for label in table if label]
    assert len(labels) == len(set(labels)) == 41 and f"{len(labels)} classes" in source.about
    assert sound_effects.LENGTH == (0.02, 60.0)
