import threading

import pytest

from features.common.background import BackgroundCall


def test_a_call_runs_in_another_thread_and_its_result_is_waited_for():
    with BackgroundCall[int]() as call:
        assert call.wait() == []
        call.start(threading.get_ident)
        (thread,) = call.wait()
        assert thread != threading.get_ident()
        assert call.wait() == []


def test_one_call_at_a_time():
    released = threading.Event()
    with BackgroundCall[bool]() as call:
        call.start(released.wait, 10)
        with pytest.raises(RuntimeError, match="wait for it"):
            call.start(released.wait, 10)
        released.set()
        assert call.wait() == [True]


def test_an_error_is_raised_where_the_call_is_waited_for():
    with BackgroundCall[float]() as call:
        call.start(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call.wait()
        assert call.wait() == []
