"""Reading ahead and writing behind: the order is kept, and errors come out where they belong."""

import threading

import pytest

from signal_diffusion.errors import InputError
from signal_diffusion.streaming.background import ahead, behind


def test_one_item_is_fetched_ahead_and_no_more() -> None:
    fetched, allowed = [], threading.Semaphore(2)

    def source():
        for number in range(5):
            assert allowed.acquire(timeout=10)
            fetched.append(number)
            yield number

    items = ahead(source())
    assert next(items) == 0
    while len(fetched) < 2:
        pass
    assert fetched == [0, 1]
    for _ in range(3):
        allowed.release()
    assert list(items) == [1, 2, 3, 4]


def test_an_error_of_the_source_comes_after_what_came_before_it() -> None:
    def source():
        yield 1
        raise InputError("row 2 is no number")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(InputError, match="row 2"):
        next(items)


def test_leaving_early_closes_the_thread() -> None:
    before = threading.active_count()
    items = ahead(iter(range(10)))
    next(items)
    items.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("calls", [1, 3])
def test_an_error_of_the_sink_is_raised_at_last(calls: int) -> None:
    def sink(number):
        if number == calls - 1:
            raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"), behind(sink) as push:
        for number in range(calls):
            push(number)


def test_calls_keep_their_order_and_are_done_at_the_end() -> None:
    seen, going = [], threading.Event()

    def sink(number):
        assert going.wait(10)
        seen.append(number)

    with behind(sink) as push:
        push(0)
        assert seen == []
        going.set()
        for number in range(1, 50):
            push(number)
    assert seen == list(range(50))
