"""Where examples come from. This index is all that is loaded to list the sources; each is one file, loaded when it is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus that `overture data get` can install from Debian packages."""

    module: str  # in overture.corpora
    function: str = "rows"  # (packages, folder) -> Listing
    about: str
    hours: float
    languages: str
    licence: str
    packages: tuple[str, ...]
    download_mb: int
    disk_mb: int  # unpacked and while it is made
    extra: str = ""  # optional dependency of Overture that it needs
    library: str = ""  # the module that extra brings


def _asterisk(kind: str) -> tuple[str, ...]:
    return tuple(
        f"asterisk-core-sounds-{language}{s}" for language in ("en", "es", "fr", "it", "ru") for s in ("", f"-{kind}")
    )


SOURCES = {
    "amazon-queen": Source(
        module="amazon_queen",
        about="Flight of the Amazon Queen: acted English dialogue of a game, 30 named characters, the script as text",
        hours=4.5,
        languages="en",
        licence="own, free; not to be sold alone",
        packages=("flight-of-the-amazon-queen",),
        download_mb=35,
        disk_mb=350,
    ),
    "asterisk": Source(
        module="asterisk",
        function="rows_8k",
        about="Asterisk telephone prompts, 8 kHz: one professional voice a language, parallel by prompt",
        hours=2.1,
        languages="en es fr it ru",
        licence="CC-BY-SA-3.0, CC-BY-3.0",
        packages=_asterisk("wav"),
        download_mb=98,
        disk_mb=300,
    ),
    "asterisk-16k": Source(
        module="asterisk",
        function="rows_16k",
        about="Asterisk telephone prompts, 16 kHz: the same takes from their wide-band version",
        hours=2.1,
        languages="en es fr it ru",
        licence="CC-BY-SA-3.0, CC-BY-3.0",
        packages=_asterisk("g722"),
        download_mb=56,
        disk_mb=300,
        extra="g722",
        library="av",
    ),
    "fillets-ng": Source(
        module="fillets_ng",
        about="Fish Fillets NG: acted Czech and Dutch dialogue, each line in English and ten more languages",
        hours=3.3,
        languages="cs nl",
        licence="GPL-2",
        packages=("fillets-ng-data", "fillets-ng-data-cs", "fillets-ng-data-nl"),
        download_mb=142,
        disk_mb=250,
    ),
    "tuxpaint": Source(
        module="tuxpaint",
        about="Tux Paint stamps: spoken descriptions of 800 pictures, parallel by picture; digits in 22 languages",
        hours=2.6,
        languages="ro es ru fr bg el be ca da, some en lt nl ml pt-BR",
        licence="GPL-2",
        packages=("tuxpaint-stamps-default",),
        download_mb=161,
        disk_mb=350,
    ),
    "klettres": Source(
        module="klettres",
        about="KLettres: letters and syllables, one reader a language",
        hours=0.85,
        languages="20, most ml es it pt-BR lt ru uk hu",
        licence="GPL-2+",
        packages=("klettres-data",),
        download_mb=40,
        disk_mb=130,
    ),
    "ktuberling": Source(
        module="ktuberling",
        about="KTuberling: names of things, parallel by concept, one speaker a language; text for English only",
        hours=0.52,
        languages="23",
        licence="GPL-2+",
        packages=("ktuberling-data",),
        download_mb=47,
        disk_mb=150,
    ),
    "hedgewars": Source(
        module="hedgewars",
        about="Hedgewars: exclamations of 15 game voices by event, one laugh each; no text",
        hours=0.24,
        languages="en es pl ru uk",
        licence="GFDL-1.3",
        packages=("hedgewars-data",),
        download_mb=145,
        disk_mb=250,
    ),
    "sound-effects": Source(
        module="sound_effects",
        about="Sound effects of games and music programs in 41 classes (weak labels from names): drums, cries, animals, steps, weapons, work",
        hours=1.1,
        languages="-",
        licence="GPL-2+, CC, GFDL-1.3, CC0-1.0",
        packages=(
            "0ad-data",
            "bucklespring-data",
            "hedgewars-data",
            "hydrogen-drumkits",
            "lmms-common",
            "megaglest-data",
            "nexuiz-data",
            "openarena-data",
            "sonic-pi-samples",
            "warmux-data",
            "warzone2100-data",
            "wesnoth-1.16-data",
        ),
        download_mb=2640,
        disk_mb=5200,
    ),
}
