"""The errors a person sees: each names the file, row or field that is wrong and the way out.

Everything a user can cause is an `OvertureError`; the command line prints its text without a traceback.
Anything else that escapes is a bug of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class OvertureError(Exception):
    """A problem the user can mend. `str(error)` is the whole message."""


class MissingExtra(OvertureError):
    """An optional library is needed and not installed."""

    def __init__(self, extra: str, why: str) -> None:
        super().__init__(f"{why} needs an optional library: pip install 'overture[{extra}]'")


def near(name: str, known: Iterable[str]) -> str:
    """A sentence for the end of an error: what `name` may have meant, else all that is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "Known: " + (", ".join(names) if names else "none") + "."
