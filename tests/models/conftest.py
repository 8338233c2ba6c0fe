import pytest

from features.snapshot import Snapshot
from models.bundle import Bundle
from tests.models import fitted


@pytest.fixture(scope="session")
def bundle(simulated_snapshot: Snapshot) -> Bundle:
    """Both recommenders on the simulated shop; nothing was measured, but they are trained."""
    return fitted.bundle(simulated_snapshot)
