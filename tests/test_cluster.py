"""A cluster is used from a thread: results, errors and its silence come out of it."""

from threading import Event

import pytest

from tokenlens.workers import cluster


@pytest.fixture
def left(monkeypatch):
    """What was left as lost; no Ray is asked for signs of life."""
    found = []
    monkeypatch.setattr(cluster, "_leave", lambda: found.append(True))
    monkeypatch.setattr(cluster._Use, "listen", lambda _: None)
    return found


def nothing():
    """Connect to nothing."""


def test_results_come_in_order_and_errors_are_raised_here(left):
    assert list(cluster.used(nothing, lambda: iter(range(9)))) == list(range(9))

    def broken():
        yield 1
        raise ZeroDivisionError

    found = cluster.used(nothing, broken)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    with pytest.raises(ConnectionError, match="no answer there"):
        list(cluster.used(lambda: cluster._reach("127.0.0.1:1", 0.0), nothing))
    assert left == []


def test_a_cluster_that_gives_no_sign_of_life_is_left(left, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECTING", 0.1)
    with pytest.raises(TimeoutError, match="no sign of life"):
        list(cluster.used(Event().wait, nothing))
    assert left == [True]


def test_nobody_works_on_for_who_has_gone(left):
    ended = Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            ended.set()

    found = cluster.used(nothing, endless)
    assert next(found) == 1
    found.close()
    assert ended.wait(10)


def test_an_address_that_names_no_port_is_left_to_ray():
    for address in ("", "auto", "local"):
        cluster._reach(address, 0.0)
    with pytest.raises(ConnectionError, match="no answer there"):
        cluster._reach("ray://127.0.0.1:1", 0.0)
