"""Erasure from bundles: a customer's id, features, history and predictions are removed from a saved bundle.

A bundle is written anew beside the old one, which it replaces as a whole. The customer's place stays, under a random
name that nobody keeps: positions of others do not move. What models learned from all customers stays as it is.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from features.common.arrays import AnyArray
from features.common.errors import InputError
from features.common.paths import make_private
from features.ranking.id_index import IdIndex
from models.bundle import file_digest, load_texts, read_manifest, save_texts

_ROWS = {
    "customers/features": np.nan,
    "customers/lifetime": np.nan,
    "customers/segments": 0,
    "predictions/values": np.nan,
    "predictions/next_categories": -1,
}


def find_bundles(root: Path) -> Iterator[Path]:
    """Yield every directory below `root` that holds a bundle, of this format or another."""
    for manifest in sorted(root.rglob("manifest.json")) if root.is_dir() else ():
        if (manifest.parent / "customers" / "ids.arrow").is_file():
            yield manifest.parent


def erase_customer(bundle: Path, customer: str) -> bool:
    """Remove `customer` from the bundle in directory `bundle`; returns whether it was there.

    Raises `InputError` for a bundle that cannot be read.
    """
    manifest = read_manifest(bundle)
    try:
        ids = load_texts(bundle / "customers" / "ids.arrow").to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"the bundle {bundle} is damaged: {error}") from error
    if customer not in ids:
        return False
    at = ids.index(customer)
    new, old = (bundle.with_name(f".{kind}-{uuid4().hex}") for kind in ("erasing", "erased"))
    try:
        shutil.copytree(bundle, new, copy_function=os.link)  # what is changed below is replaced, never written into
        changed = {name: value for name, value in _arrays(bundle, at).items() if f"{name}.npy" in manifest.files}
        ids[at] = f"erased-{uuid4().hex}"
        index = IdIndex.from_ids(ids)
        changed |= {"customers/hashes": index.hashes, "customers/order": index.order}
        files = dict(manifest.files)
        for name, array in changed.items():
            file = new / f"{name}.npy"
            file.unlink()
            np.save(file, array, allow_pickle=False)
            files[f"{name}.npy"] = file_digest(file)
        file = new / "customers" / "ids.arrow"
        file.unlink()
        save_texts(file, index.values)
        files["customers/ids.arrow"] = file_digest(file)
        content = manifest.model_copy(update={"files": files}).model_dump()
        (new / "manifest.json").unlink()
        (new / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
        make_private(new)
        bundle.rename(old)
        new.rename(bundle)
    except OSError as error:
        raise InputError(f"the bundle {bundle} cannot be written anew ({error}); nothing of it was erased") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return True


def _arrays(bundle: Path, at: int) -> dict[str, AnyArray]:
    """Return the arrays that say something of the customer at position `at`, without it."""

    def load(name: str) -> AnyArray:
        return np.load(bundle / f"{name}.npy", allow_pickle=False)  # type: ignore[no-any-return]

    changed: dict[str, AnyArray] = {}
    for name, nothing in _ROWS.items():
        if (bundle / f"{name}.npy").is_file():
            array = load(name)
            if len(array):
                array[at] = nothing if array.dtype.kind == "f" else max(nothing, np.iinfo(array.dtype).min)
            changed[name] = array
    indptr = load("history/indptr")
    start, end = int(indptr[at]), int(indptr[at + 1])
    indptr[at + 1 :] -= end - start
    changed["history/indptr"] = indptr
    for name in ("history/items", "history/values"):
        changed[name] = np.delete(load(name), np.s_[start:end], axis=0)
    if (bundle / "answers" / "indptr.npy").is_file():
        indptr = load("answers/indptr")
        start, end = int(indptr[at]), int(indptr[at + 1])
        indptr[at + 1 :] -= end - start
        changed["answers/indptr"] = indptr
        for file in sorted((bundle / "answers").glob("*.npy")):
            if file.stem not in ("indptr", "total"):
                changed[f"answers/{file.stem}"] = np.delete(load(f"answers/{file.stem}"), np.s_[start:end], axis=0)
    return changed
