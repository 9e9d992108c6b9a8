"""All benchmarks, or their table.

python -m benchmarks          run all eight, one after the other (30 minutes on two quiet cores)
python -m benchmarks table    write the table in README.md from results/*.json
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ALL = (
    "list_time",
    "resume_time",
    "tera_step",
    "wav2vec2_step",
    "text_step",
    "sltrain_memory",
    "ctc_decode",
    "audio_to_batches",
)
BEGIN, END = "<!-- made by `python -m benchmarks table` -->", "<!-- end -->"


def row(name: str, result: dict[str, Any]) -> str:
    ours, peer = (result[side]["seconds"]["median"] for side in ("ours", "peer"))
    return (
        f"| `{name}` | {result['work']} | {ours:.3g} s | {peer:.3g} s ({result['peer']['name']}) | "
        f"{result['ratio']:.2f} | {result['runs']} | {result['date']} |"
    )


def more(name: str, result: dict[str, Any]) -> list[str]:
    """What a benchmark found beside its main ratio."""
    if name == "tera_step":
        return [
            f"- {size}: ours {at['ours']['seconds']['median']:.3g} s, {at['gflop_per_s']:.0f} GFLOP/s, {at['share_of_matrix_peak']:.0%} of the "
            f"measured {at['precision']} matrix-product peak; faster than "
            + ", ".join(f"{peer} {ratio:.2f} times" for peer, ratio in at["ratio"].items())
            for size, at in result["sizes"].items()
        ]
    if name == "text_step":
        return [
            f"- {model}: {at['tokens_per_s']['ours']:,.0f} tokens a second, {at['gflop_per_s']:.0f} GFLOP/s, {at['share_of_matrix_peak']:.0%} of "
            f"the measured {at['precision']} matrix-product peak, {at['ours']['peak_memory_mb']} MB; "
            + ", ".join(
                f"{ratio:.2f} times as fast as {peer} ({at[peer]['peak_memory_mb']} MB)"
                for peer, ratio in at["ratio"].items()
            )
            for model, at in result["sizes"].items()
        ]
    if name == "sltrain_memory":
        return [
            f"- {side}: {at['parameters'] / 1e6:.1f} M parameters, {at['peak_memory_mb']} MB at the peak, which is "
            f"{1 - 1 / result['memory_ratio'][side]:.0%} less than full, {at['seconds']['median']:.3g} s"
            for side, at in result["sides"].items()
        ]
    if name == "audio_to_batches":
        sides = {"ours": result["ours"], "lhotse": result["peer"], "ours, log-mel": result["log_mel"]}
        sides |= {
            "ours, stored features": result["stored"]["ours"],
            "lhotse, stored features": result["stored"]["peer"],
        }
        return [
            f"- {side}: {at['hours_per_second']:.2f} hours of audio a second, padding {at['padding']:.1%}, {at['peak_memory_mb']} MB, "
            f"{at['cpu_seconds']['median']:.3g} CPU seconds"
            for side, at in sides.items()
        ]
    if name == "wav2vec2_step":
        return [
            f"- {size}: {at['ratio']:.2f} times the audio a second, {at['ours']['peak_memory_mb']} against "
            f"{at['transformers']['peak_memory_mb']} MB; the loss alone {at['loss_time_ratio']:.0f} times as fast in "
            f"1/{at['loss_memory_ratio']:.0f} of the memory; front end, forward and backward, "
            f"{at['front_end_seconds']['ours']:.2g} against {at['front_end_seconds']['transformers']:.2g} s"
            for size, at in result["sizes"].items()
        ]
    if name == "ctc_decode":
        sides = {"ours, beam + LM": result["ours"], "pyctcdecode, beam + LM": result["peer"], **result["others"]}
        return [
            f"- {side}: real-time factor {at['real_time_factor']:.2g}, word error rate {at['word_error_rate']:.3f}"
            for side, at in sides.items()
        ] + [
            f"- at width {result['hypotheses']['width']}, {how}: {result['hypotheses'][how]['equal']} of "
            f"{result['hypotheses'][how]['of']} hypotheses equal"
            for how in ("beam", "beam+lm")
        ]
    if name == "resume_time":
        return [
            f"- {side}: same rows {'yes' if at['same_rows'] else 'no'}, same arrays {'yes' if at['same_arrays'] else 'no'}"
            for side, at in (("ours", result["ours"]), ("accelerate", result["peer"]))
        ]
    return []


def table() -> None:
    """Raises SystemExit when a result is missing or the README lost its marks."""
    results = {name: HERE / "results" / f"{name}.json" for name in ALL}
    if missing := [name for name, path in results.items() if not path.exists()]:
        raise SystemExit(f"no result of {', '.join(missing)}: run python -m benchmarks first")
    found = {name: json.loads(path.read_text(encoding="utf8")) for name, path in results.items()}
    lines = [
        "| benchmark | work | ours, median | peer, median | ratio | runs | date |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [row(name, result) for name, result in found.items()]
    for name, result in found.items():
        if extra := more(name, result):
            lines += ["", f"`{name}`:", "", *extra]
    machines = {
        json.dumps({k: v for k, v in r["machine"].items() if k != "load_before"}, sort_keys=True)
        for r in found.values()
    }
    for text in sorted(machines):
        about = json.loads(text)
        lines += ["", f"Measured on {about['cores']} cores of {about['processor']}, {about['memory_gb']} GB."]
    readme = HERE / "README.md"
    before, begin, rest = readme.read_text(encoding="utf8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md has lost its marks {BEGIN} and {END}")
    readme.write_text(before + "\n".join([begin, "", *lines, "", end]) + after, encoding="utf8")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "table"), default="run")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="folder for data that is made once")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; writes no result")
    args = parser.parse_args()
    if args.what == "run":
        for name in ALL:
            print(f"== {name}", flush=True)
            options = ["--work", str(args.work), *(["--quick"] if args.quick else [])]
            subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options], check=True)
    if not args.quick:
        table()


if __name__ == "__main__":
    main()
