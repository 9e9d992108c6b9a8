"""JSON files of ours: written whole or not at all, read with an error that names the file."""

import json
from pathlib import Path
from typing import Any

from overture.errors import OvertureError


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """A file that holds one object. Raises OvertureError, ending in `hint`, if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise OvertureError(f"{path} cannot be read ({error}). {hint}".strip()) from error
    except ValueError as error:
        raise OvertureError(f"{path} is damaged ({error}). {hint}".strip()) from error
    if not isinstance(content, dict):
        raise OvertureError(f"{path} is damaged (no named fields). {hint}".strip())
    return content


def write(path: Path, content: Any) -> None:
    """`content` as JSON at `path`, where a kill leaves either the old file or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    part.replace(path)
