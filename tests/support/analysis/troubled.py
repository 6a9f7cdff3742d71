"""Stands in for a script that has its troubles: it does what a file beside the results asks for."""

import os
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

shared = import_module("shared")

if __name__ == "__main__":
    experiment, output = shared.places()
    trouble = experiment / "trouble"
    if trouble.exists():
        text = trouble.read_text()
        if text == "hang":
            (experiment / "hangs").write_text(str(os.getpid()))
            while True:
                pass
        if text == "environment":
            sys.exit(" ".join(os.environ))
        sys.exit(f"\x1b[31m{text}")
    (output / "troubled.png").write_bytes(shared.picture(1))
