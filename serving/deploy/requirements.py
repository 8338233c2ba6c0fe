"""Pins what a Bento installs: the packages serving needs, at the versions of this environment.

`python -m serving.deploy.requirements > serving/requirements.txt` after the environment has changed.
"""

import sys
from importlib.metadata import distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What features/, models/ and serving/ import; the rest follows from their own requirements.
ROOTS = (
    "bentoml",
    "fastapi",
    "fastapi-offline",
    "fastexcel",
    "httptools",
    "httpx",
    "implicit",
    "lightgbm",
    "narwhals",
    "numpy",
    "polars",
    "prometheus-client",
    "psycopg[binary]",
    "pyarrow",
    "pydantic",
    "pydantic-settings",
    "pyyaml",
    "scipy",
    "uvloop",
)


def pinned(roots: tuple[str, ...] = ROOTS) -> list[str]:
    """`name==version` of `roots` and of all they require, sorted by name."""
    found: dict[str, str] = {}
    todo = [Requirement(root) for root in roots]
    seen: set[tuple[str, str]] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        dist = distribution(name)
        found[name] = dist.version
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            environment: dict[str, str] = {**default_environment(), "extra": extra}  # type: ignore[dict-item]
            for text in dist.requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate(environment):
                    todo.append(needed)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    sys.stdout.write("# Written by `python -m serving.deploy.requirements`.\n" + "\n".join(pinned()) + "\n")
