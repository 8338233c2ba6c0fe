"""Pinned requirements of a Bento: the packages that serving needs, at the versions of this environment.

`python -m serving.deploy.requirements > serving/requirements.txt` after the environment has changed.
"""

import sys
from importlib.metadata import distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What features/, models/ and serving/ import; their own requirements follow.
DIRECT_REQUIREMENTS = (
    "bentoml",
    "common-expression-language",
    "cryptography",
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
    "pyjwt",
    "pyyaml",
    "scipy",
    "tzdata",
    "uvloop",
)


def pin(roots: tuple[str, ...] = DIRECT_REQUIREMENTS) -> list[str]:
    """Return `name==version` of `roots` and of everything they require, sorted by name."""
    versions: dict[str, str] = {}
    queue = [Requirement(root) for root in roots]
    resolved: set[tuple[str, str]] = set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        dist = distribution(name)
        versions[name] = dist.version
        for extra in ("", *requirement.extras):
            if (name, extra) in resolved:
                continue
            resolved.add((name, extra))
            environment: dict[str, str] = {**default_environment(), "extra": extra}  # type: ignore[dict-item]
            for text in dist.requires or []:
                dependency = Requirement(text)
                if dependency.marker is None or dependency.marker.evaluate(environment):
                    queue.append(dependency)
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


if __name__ == "__main__":
    sys.stdout.write("# Written by `python -m serving.deploy.requirements`.\n" + "\n".join(pin()) + "\n")
