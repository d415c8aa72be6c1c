"""Erlang's formulas against published tables, and against calls played event by event."""

import random

import pytest
import simpy

from voxload.planning.erlang import erlang_b, erlang_c, mean_wait_s, places_for_blocking, traffic_for_blocking

# the usual printed table of Erlang B: traffic in erlangs that n places carry at a blocking of 1 %, 2 %, 5 %
TABLE = [
    (1, 0.0101, 0.0204, 0.0526),
    (2, 0.153, 0.223, 0.381),
    (5, 1.36, 1.66, 2.22),
    (10, 4.46, 5.08, 6.22),
    (20, 12.0, 13.2, 15.2),
    (30, 20.3, 21.9, 24.8),
    (50, 37.9, 40.3, 44.5),
    (100, 84.1, 88.0, 95.2),
]


@pytest.mark.parametrize(("places", "one", "two", "five"), TABLE)
def test_the_published_table_of_erlang_b(places, one, two, five):
    for blocking, traffic in ((0.01, one), (0.02, two), (0.05, five)):
        assert traffic_for_blocking(places, blocking) == pytest.approx(traffic, rel=0.006)
        assert erlang_b(traffic_for_blocking(places, blocking), places) == pytest.approx(blocking, rel=1e-4)


def test_known_values():
    assert erlang_b(1, 1) == pytest.approx(1 / 2)
    assert erlang_b(2, 2) == pytest.approx(2 / 5)
    assert erlang_b(10, 10) == pytest.approx(0.2146, abs=5e-5)
    assert erlang_c(1, 2) == pytest.approx(1 / 3)
    assert erlang_c(0.7, 1) == pytest.approx(0.7)
    assert erlang_c(8, 10) == pytest.approx(0.4092, abs=5e-5)
    assert mean_wait_s(0.5, 1, 10) == pytest.approx(10)  # M/M/1: rho/(1-rho) times the holding time


def test_the_edges():
    assert erlang_b(0, 0) == 1
    assert erlang_b(0, 3) == 0
    assert erlang_b(3, 0) == 1
    assert erlang_b(1, 5000) == 0
    assert erlang_c(5, 5) == 1
    assert mean_wait_s(5, 5, 1) == float("inf")
    assert places_for_blocking(0, 0.01) == 0
    for wrong in (lambda: erlang_b(-1, 2), lambda: erlang_c(1, -1), lambda: places_for_blocking(1, 0)):
        with pytest.raises(ValueError, match="must"):
            wrong()


@pytest.mark.parametrize("traffic", [0.3, 7.0, 250.0, 10_000.0])
def test_the_fewest_places(traffic):
    places = places_for_blocking(traffic, 0.001)
    assert erlang_b(traffic, places) <= 0.001 < erlang_b(traffic, places - 1)


def test_waiting_calls_played_event_by_event():
    """M/M/10 at 8 erlangs: 41 % wait, 2 s on average at a holding time of 9.78 s."""
    rng, environment = random.Random(3), simpy.Environment()
    places, waits = simpy.Resource(environment, 10), []

    def call():
        asked = environment.now
        with places.request() as place:
            yield place
            waits.append(environment.now - asked)
            yield environment.timeout(rng.expovariate(1.0))

    def arrive():
        while True:
            yield environment.timeout(rng.expovariate(8.0))
            environment.process(call())

    environment.process(arrive())
    environment.run(until=10_000)
    assert sum(wait > 1e-12 for wait in waits) / len(waits) == pytest.approx(erlang_c(8, 10), abs=0.02)
    assert sum(waits) / len(waits) == pytest.approx(mean_wait_s(8, 10, 1), rel=0.1)
