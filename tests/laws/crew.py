"""Ranks that stay: started once by torchrun, they do one `overture` command after the other, together.

Importing torch and transformers in fresh processes is nine tenths of what a test of two ranks would cost. A command is a file
`N.json` (its words) in the folder that is given; each rank answers with `N.RANK.done`, which holds what went wrong, if anything did.
"""

import itertools
import json
import os
import sys
import time
import traceback
from pathlib import Path


def serve(folder: Path) -> None:
    """Do what is asked until an empty command comes."""
    import torch
    import torch.distributed as dist

    from overture.cli import app

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, parent = os.environ["RANK"], os.getppid()
    for number in itertools.count():
        while not (path := folder / f"{number}.json").exists():
            if os.getppid() != parent:  # whoever asks is gone
                return
            time.sleep(0.02)
        words = json.loads(path.read_text(encoding="utf8"))
        if not words:
            return
        wrong = ""
        try:
            app(words, standalone_mode=False)
        except BaseException:
            wrong = traceback.format_exc()
        done = folder / f".{number}.{rank}.part"
        done.write_text(wrong, encoding="utf8")
        done.replace(folder / f"{number}.{rank}.done")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
