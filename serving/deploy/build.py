"""`python -m serving.deploy.build`: the part of building a Bento that runs in a process of its own.

BentoML fixes its stores at first use and imports the service that it packs; in a subprocess neither affects the
caller. The working directory is the stage, and imports look there first: what is imported is what is packed.
"""

import logging
import os
import shutil
import sys
from pathlib import Path

import bentoml

from features.common.errors import InputError
from models.interface import RankingRequest
from models.recommender import load
from serving.settings import open_environment


def build_from_stage(bundle: Path, model_tag: str, label: str, version: str) -> Path:
    """Copy `bundle` into the model store unless `model_tag` is there, build, and return the Bento's path.

    Ranks once with it first: if a Bento cannot serve, its workers would fail one after the other, and BentoML restarts
    them for ever.
    """
    load(bundle).recommend([RankingRequest(limit=1)])
    # BentoML imports the service to describe it. API keys are up to where it will run, so it must import without.
    environment = open_environment(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    if not any(str(model.tag) == model_tag for model in bentoml.models.list()):
        with bentoml.models.create(model_tag, labels={"version": label}) as model:
            shutil.copytree(bundle, model.path_of("bundle"))
    bento = bentoml.bentos.build_bentofile("bentofile.yaml", version=version, build_ctx=".")
    return Path(bento.path)


if __name__ == "__main__":
    logging.getLogger("bentoml").setLevel(logging.WARNING)
    try:
        print(build_from_stage(Path(sys.argv[1]), *sys.argv[2:]))  # bento.py reads the last line
    except InputError as error:
        sys.exit(f"usual: {error}")
