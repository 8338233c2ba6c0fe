"""`python -m usual`: the same commands as the script `usual`."""

import sys
from pathlib import Path

# `python -m` looks for modules in the working directory first. A shop's own `models/` or `features/` there must not be
# imported in place of ours, so ours come first.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from usual.cli import main

if __name__ == "__main__":
    main()
