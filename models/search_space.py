"""Tuning ranges, which stand beside the setting they are of: `Annotated[PositiveInt, Between(7, 63, log=True)]`.

A field without a range is not tuned. On a field that holds a mapping, the range is that of each of its values.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Between:
    """The range from `low` to `high`, both included; `log`: as likely between 1 and 10 as between 10 and 100.

    `only`: the one recommender that the setting matters to; one_to_one_visit tunes all settings.
    """

    low: float
    high: float
    log: bool = False
    only: Literal["one_to_one", "predictive"] | None = None
