"""`python -m serving.deploy.build`: the part of packaging that runs in a process of its own.

BentoML fixes its stores at first use and imports the service it packs; done here, neither touches the
process that asked. The working directory is the staged code, so what is imported is what is packed.
"""

import logging
import os
import shutil
import sys
from pathlib import Path

import bentoml

from features.common.errors import InputError
from models.interface import Request
from models.recommender import load
from serving.api.middleware.api_keys import open_environment


def build(bundle: Path, model_tag: str, label: str, version: str) -> Path:
    """Copy `bundle` into the model store unless `model_tag` is there, build, and return the Bento's path.

    Ranks once with it first: a Bento that cannot serve would only be found out by its workers, which
    BentoML restarts for ever.
    """
    load(bundle).recommend([Request(limit=1)])
    # The service is imported to be described; who may ask it is up to where it will run.
    without_keys = open_environment(os.environ)
    os.environ.clear()
    os.environ.update(without_keys)
    if not any(str(model.tag) == model_tag for model in bentoml.models.list()):
        with bentoml.models.create(model_tag, labels={"version": label}) as model:
            shutil.copytree(bundle, model.path_of("bundle"))
    bento = bentoml.bentos.build_bentofile("bentofile.yaml", version=version, build_ctx=".")
    return Path(bento.path)


if __name__ == "__main__":
    logging.getLogger("bentoml").setLevel(logging.WARNING)
    try:
        print(build(Path(sys.argv[1]), *sys.argv[2:]))  # the last line is what packaging.py reads
    except InputError as error:
        sys.exit(f"usual: {error}")
