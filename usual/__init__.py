"""The Usual's command line: `usual COMMAND`, also `python -m usual COMMAND`.

`usual.cli` has one module per group of commands, each a few lines that call `features`, `models`, `training` or
`serving`. Nothing imports this package but its own tests.
"""

from importlib.metadata import version

__version__ = version("the-usual")
