"""Array types: numpy arrays by dtype, for annotations.

A bare `np.ndarray` says nothing that a type checker could use: a float64 array may then pass where a bundle, the
ranker or a shift of keys needs another dtype. Shapes stand in docstrings.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

ScalarT = TypeVar("ScalarT", bound=np.generic)
"""The dtype of a function that gives back what it takes: `npt.NDArray[ScalarT]`."""

BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
UInt32Array = npt.NDArray[np.uint32]
UInt64Array = npt.NDArray[np.uint64]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

IntArray = npt.NDArray[np.signedinteger[Any]]
"""int32 or int64: positions, codes, counts."""
FloatArray = npt.NDArray[np.floating[Any]]
"""float32 or float64."""
AnyArray = npt.NDArray[Any]
"""Any dtype: arrays by name, as in a bundle, and what numpy's stubs get wrong: they take each `np.bincount` for int64,
also with weights, where it is float64."""
