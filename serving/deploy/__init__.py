"""Deployment: from a bundle to a running server.

`bento.py` builds a Bento (BentoML's deployable directory) around a bundle, `build.py` is its subprocess,
`requirements.py` pins what it installs. `server.py` starts the server, from a Bento or from this code. `refresh.py`
publishes the champion over a newer snapshot, every night; `erase.py` removes a customer from the whole installation;
`demo.py` is the visit of `usual demo`.

The top room of `serving`: may import any other. Everything here works from a checkout as from an installed wheel, and
from any working directory: `features.common.subprocesses` starts the subprocesses.
"""
