"""Numbers as a person reads them: fitting decimals, units, durations. Every function answers "–" for what is not a number."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

NONE = "–"


def finite(value: Any) -> TypeGuard[float]:
    """True for a real, finite number (not None, not NaN, not a bool)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimals_for(step: float) -> int:
    """How many decimals show a difference of `step`, at most 6."""
    return min(6, max(0, -math.floor(math.log10(step) + 1e-9))) if step > 0 and math.isfinite(step) else 3


def fixed(value: Any, decimals: int, *, sign: bool = False) -> str:
    """`value` with so many decimals, thousands apart, a true minus sign; with `sign` a plus too."""
    if not finite(value):
        return NONE
    text = f"{value:+,.{decimals}f}" if sign else f"{value:,.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def number(value: Any) -> str:
    """Three significant digits, powers of ten where they are shorter: 0.0613, 12,400, 2×10⁻⁴."""
    if not finite(value):
        return NONE if value is None else "not finite" if isinstance(value, float) else str(value)
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if isinstance(value, int) and power < 15:
        return fixed(value, 0)
    if power < -3 or power >= 7:
        mantissa = f"{value / 10**power:.2f}".rstrip("0").rstrip(".").replace("-", "\N{MINUS SIGN}")
        return f"{mantissa}×{ten_to(power)}"
    text = fixed(value, max(0, 2 - power))
    return text.rstrip("0").rstrip(".") if "." in text else text


def ten_to(power: int) -> str:
    """10⁻⁴ for -4."""
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def scaled(value: Any, unit: str = "") -> str:
    """With a metric prefix: 11.2 M, 91.0 k targets/s, 12.4 TFLOP."""
    if not finite(value):
        return NONE
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}\N{NO-BREAK SPACE}{prefix}{unit}"
    return f"{value:.3g}\N{NO-BREAK SPACE}{unit}".strip()


def duration(seconds: Any) -> str:
    """41 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    if not finite(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.2g}\N{NO-BREAK SPACE}s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count}\N{NO-BREAK SPACE}{unit}" for count, unit in parts[first : first + 2] if count)


def hours(value: Any) -> str:
    """Hours of audio: 33.1 h, below one hour as a duration."""
    return NONE if not finite(value) else f"{value:,.1f}\N{NO-BREAK SPACE}h" if value >= 1 else duration(value * 3600)


def p_value(p: Any) -> str:
    """p = 0.004, p < 0.001."""
    return NONE if not finite(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def listed(items: Iterable[str]) -> str:
    """a, b and c."""
    names = list(items)
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "none"


def counted(count: int, noun: str) -> str:
    """1 run, 3 runs."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted names, as --set takes them: {"players": [{"lr": 1}]} -> {"players.0.lr": 1}. Plain lists stay whole."""
    if isinstance(tree, list | tuple) and any(isinstance(item, dict) for item in tree):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        name: leaf
        for key, item in tree.items()
        for name, leaf in flat(item, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def heard(record: Mapping[str, Any]) -> str:
    """What a run has seen, of a logged update or an outcome: 2 h 5 min of audio heard, 1.2 M tokens read."""
    if record.get("tokens"):
        return f"{scaled(record['tokens'])} tokens read"
    return f"{hours(record.get('audio_hours'))} of audio heard"


def seen(record: Mapping[str, Any]) -> str:
    """The same as a number alone, for a column of such: 2 h 5 min, 1.2 M tokens."""
    return f"{scaled(record['tokens'])} tokens" if record.get("tokens") else hours(record.get("audio_hours"))


def amount(data: Mapping[str, Any]) -> str:
    """How large a corpus is, by what `run.json` says of it: 4.5 h, or 1,234,567 characters."""
    return f"{number(data['characters'])} characters" if data.get("characters") else hours(data.get("hours"))
