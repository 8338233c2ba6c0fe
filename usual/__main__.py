"""`python -m usual`: the same commands as the script `usual`."""

import sys
from pathlib import Path

# `python -m` looks for modules in the working directory first. A shop's own `models/` or `features/` there must not be
# imported in place of ours.
if not sys.flags.safe_path and Path(__file__).resolve().parent.parent != Path.cwd().resolve():
    del sys.path[0]

from usual.cli import main

if __name__ == "__main__":
    main()
