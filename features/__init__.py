"""Events in, point-in-time tables out. Importing the package fixes the thread counts (see threads.py)."""

from features.common import threads as threads  # first: BLAS reads its settings when numpy is imported
