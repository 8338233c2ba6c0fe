"""Thread counts, all set here when the package `features` is imported.

`USUAL_THREADS` (default: the processors this process may use) is what LightGBM, implicit and Polars
get. BLAS always gets one: implicit parallelises over customers itself and is up to ten times slower
when BLAS does so too, and a result that depends on a thread count could not be compared bit for bit.
"""

import os


def _available() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _configured() -> int:
    text = os.environ.get("USUAL_THREADS", "")
    if not text:
        return _available()
    if not text.isdigit() or int(text) < 1:
        raise SystemExit(f"usual: USUAL_THREADS is {text!r}; it must be a whole number of at least 1")
    return int(text)


THREADS = _configured()

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_name] = "1"
# Idle OpenMP threads sleep instead of spinning: it costs nothing on an idle machine, and beside another busy process
# training is three to four times faster than with spinning threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))
