"""What candidate generators share."""

import numpy as np

Arrays = dict[str, np.ndarray]  # what a generator has learnt; shipped as .npy files
