"""Public benchmarks: data sets as their publishers release them, in the protocol of the papers that report on them.

One module per data set, each of which declares its `BENCHMARK`: what it is, the published figures, and how it is run
from the published files to ours; `registry.py` lists them. `next_click.py` and `next_basket.py` are the two protocols;
open `diginetica.py` first.

May import `dataset`, `evaluation`, `recipe` and `train` of this package, and everything in `features` and `models`.
"""
