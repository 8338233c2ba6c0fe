"""The ranker compiled to machine code: the same scores to the last bit, two to four times as fast.

Off by default. It takes the extra `fast` (lleaves, which turns trees into machine code with LLVM) and USUAL_NATIVE=1
in the environment of the process that loads a bundle.

No machine code is shipped, so loading a bundle still runs none from it: a bundle holds LightGBM's text, which is
numbers, and the machine that ranks compiles it for its own processor when it loads the bundle, in seconds. The
result is cached in USUAL_HOME/cache/native, under the digests of the text, of compiler and processor, and of
itself; it may be deleted at any time. Whoever can write there can run code: it is the operator's, like all of
USUAL_HOME. Wherever anything is missing, fails or differs, LightGBM ranks, and the log says why.
"""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.common.arrays import Float32Array, Float64Array
from features.common.clock import SECOND, now
from features.common.errors import InputError
from features.common.paths import home
from features.common.threads import THREADS

if TYPE_CHECKING:
    import lightgbm

Predict = Callable[[Float32Array], Float64Array]
"""[n × features] → [n]."""

log = logging.getLogger("usual.models")
PROBES = 4096  # rows that must score the same
_BLOCK = 4096  # rows converted to float64 at once: 4 MB
_SINGLE_THREAD = 512  # up to so many rows a second thread costs more than it brings
_UNUSED_S = 30 * 86_400  # after which cached code is deleted
_SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-35, -1e-35, 1e-45, 3.4e38, -3.4e38], np.float32)


def compile_ranker(booster: "lightgbm.Booster", text: str) -> Predict | None:
    """Compile `booster`, whose text format is `text`; None where LightGBM has to rank.

    Raises `InputError` where USUAL_NATIVE is neither 0 nor 1.
    """
    if not is_enabled():
        return None
    if not find_spec("lleaves"):
        log.warning("USUAL_NATIVE=1, but lleaves is not installed: LightGBM ranks; `pip install the-usual[fast]`")
        return None
    start = time.perf_counter()
    try:
        predict = _compile(text, booster.num_trees())
        same = scores_match(predict, booster, text)
    except Exception as error:  # no failure of an accelerator may keep a bundle from loading
        log.warning("the ranker could not be compiled (%s: %s): LightGBM ranks", type(error).__name__, error)
        return None
    if not same:
        log.warning("the compiled ranker does not score as LightGBM does: LightGBM ranks")
        return None
    log.info("compiled ranker of %d trees ready in %.1f s", booster.num_trees(), time.perf_counter() - start)
    return predict


def is_enabled() -> bool:
    """Whether USUAL_NATIVE is 1; off if it is not set. Raises `InputError` where it is neither 0 nor 1."""
    text = os.environ.get("USUAL_NATIVE", "")
    if text not in ("", "0", "1"):
        raise InputError(f"USUAL_NATIVE is {text!r}; it must be 0 or 1")
    return text == "1"


def scores_match(predict: Predict, booster: "lightgbm.Booster", text: str) -> bool:
    """Whether both score `probe_rows` the same, bit for bit."""
    rows = probe_rows(text)
    return np.array_equal(predict(rows), np.asarray(booster.predict(rows, num_threads=THREADS)))


def probe_rows(text: str) -> Float32Array:
    """float32[PROBES × features]: each value at a threshold of its feature, just beside one, missing or extreme."""
    lines = {key: [line.partition("=")[2] for line in text.splitlines() if line.startswith(key)] for key in _KEYS}
    names, split, threshold = ("".join(f"{line} " for line in lines[key]).split() for key in _KEYS)
    feature, at = np.array(split, np.int64), np.array(threshold, np.float64).astype(np.float32)
    rng = np.random.default_rng(7)
    out = rng.choice(_SPECIAL, (PROBES, len(names)))
    for column in np.unique(feature):
        near = np.unique(at[feature == column])
        near = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
        usual = rng.random(PROBES) < 0.8
        out[usual, column] = rng.choice(near, usual.sum())
    # The largest value below zero that LightGBM takes for zero: at the threshold between the two, where a feature has
    # values below zero, it goes right for LightGBM and left for lleaves. No feature has it.
    out[out == np.float32(-1e-35)] = 0
    return out


_KEYS = ("feature_names=", "split_feature=", "threshold=")


def _compile(text: str, trees: int) -> Predict:
    """Compile `text` with lleaves, or load it from USUAL_HOME/cache/native; code long unused is deleted there."""
    import lleaves

    folder = home() / "cache" / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # In one block, so that the trees are added up in LightGBM's order and scores are equal to the last bit. Trees
    # that are functions of their own compile in seconds instead of minutes.
    options = {"fblocksize": max(1, trees), "finline": False}
    key = hashlib.sha256("\n".join([text, *_machine(), *map(str, options.items())]).encode()).hexdigest()[:32]
    cached = next((file for file in folder.glob(f"{key}-*.o") if file.stem == f"{key}-{_digest(file)}"), None)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = Path(scratch) / "ranker.txt"
        source.write_text(text)
        model = lleaves.Model(source)
        code = cached or Path(scratch) / "ranker.o"
        model.compile(cache=code, **options)
        if cached:
            cached.touch()  # used just now
        else:
            code.replace(folder / f"{key}-{_digest(code)}.o")
    for file in folder.glob("*.o"):
        if now() // SECOND - file.stat().st_mtime > _UNUSED_S:
            file.unlink(missing_ok=True)

    def predict(matrix: Float32Array) -> Float64Array:
        out = np.empty(len(matrix))
        jobs = THREADS if len(matrix) > _SINGLE_THREAD else 1
        for start in range(0, len(matrix), _BLOCK * jobs):
            rows = slice(start, start + _BLOCK * jobs)
            out[rows] = model.predict(matrix[rows], n_jobs=jobs)
        return out

    return predict


def _machine() -> list[str]:
    """Compiler and processor: machine code for another one must not be run."""
    import llvmlite.binding as llvm

    processor = [llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return [*(f"{name} {version(name)}" for name in ("lleaves", "llvmlite")), *processor]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]
