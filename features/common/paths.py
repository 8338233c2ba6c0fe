"""Where the commands keep what they produce."""

import os
from pathlib import Path


def home() -> Path:
    """`USUAL_HOME`, or `.usual` in the working directory; absolute, not created."""
    return Path(os.environ.get("USUAL_HOME") or ".usual").expanduser().absolute()


def bentoml_home() -> Path:
    """BentoML's model and Bento stores; what `bentoml` itself reads from BENTOML_HOME."""
    return home() / "bentoml"
