"""Source `simulated`: the log of a simulated shop, see `simulator/`; its settings are those of `SimulatorConfig`."""

from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.shop import read
from features.sources.source import Source

SOURCE = Source(
    "simulated",
    "a simulated shop, of any size and kind",
    lambda _, options: read(options.config or SimulatorConfig()),
    {"config": "settings of the simulated shop."},
    reads_files=False,
)
