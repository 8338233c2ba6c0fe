import os
import threading
import time
from pathlib import Path

import pytest

from features.common.errors import InputError
from features.common.locks import exclusive_lock


@pytest.mark.parametrize("remove", [False, True])
def test_a_second_holder_is_refused_with_the_first_ones_process_id(tmp_path: Path, remove: bool):
    lock = tmp_path / "lock"
    with (
        exclusive_lock(lock, remove=remove),
        pytest.raises(InputError, match=f"^held by {os.getpid()}$"),
        exclusive_lock(lock, if_held="held by {}".format, remove=remove),
    ):
        pytest.fail("two hold the lock")
    assert lock.exists() is not remove
    with exclusive_lock(lock, if_held="held by {}".format, remove=remove):
        assert lock.read_text() == str(os.getpid())


@pytest.mark.parametrize("remove", [False, True])
def test_without_a_message_the_second_holder_waits(tmp_path: Path, remove: bool):
    order: list[str] = []

    def second() -> None:
        with exclusive_lock(tmp_path / "lock", remove=remove):
            order.append("second")

    with exclusive_lock(tmp_path / "lock", remove=remove):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_an_error_releases_the_lock(tmp_path: Path):
    with pytest.raises(ValueError, match="failed"), exclusive_lock(tmp_path / "lock"):
        raise ValueError("failed")
    with exclusive_lock(tmp_path / "lock", if_held="held by {}".format):
        pass
