"""Erlang's formulas: how many calls are refused (B) or wait (C) for an offered traffic and a number of places.

Source: A. K. Erlang (1917); the recursions are those of the ITU Teletraffic Engineering Handbook, chapters 7 and 12.
Traffic is in erlangs: arrivals a second times the mean holding time in s.
"""

from __future__ import annotations


def erlang_b(offered_erl: float, places: int) -> float:
    """Return the share of arrivals that find all `places` taken and are lost, 0 to 1.

    1/B(n) = 1 + n/A · 1/B(n-1), B(0) = 1; exact for any distribution of the holding time.

    Raises:
        ValueError: negative traffic or places.
    """
    _check(offered_erl, places)
    if not offered_erl:
        return 0.0 if places else 1.0
    inverse = 1.0
    for number in range(1, places + 1):
        inverse = 1.0 + number / offered_erl * inverse
        if inverse > 1e300:
            return 0.0
    return 1.0 / inverse


def erlang_c(offered_erl: float, places: int) -> float:
    """Return the share of arrivals that must wait when all `places` are taken, 0 to 1; 1 when the queue only grows.

    C = n·B / (n - A·(1 - B)), for exponential holding times.

    Raises:
        ValueError: negative traffic or places.
    """
    blocked = erlang_b(offered_erl, places)
    if offered_erl >= places:
        return 1.0 if offered_erl or not places else 0.0
    return places * blocked / (places - offered_erl * (1.0 - blocked))


def mean_wait_s(offered_erl: float, places: int, holding_s: float) -> float:
    """Return the mean wait over all arrivals, in s; infinite when the queue only grows.

    W = C · h / (n - A).

    Raises:
        ValueError: negative traffic or places.
    """
    if offered_erl >= places:
        _check(offered_erl, places)
        return float("inf") if offered_erl else 0.0
    return erlang_c(offered_erl, places) * holding_s / (places - offered_erl)


def places_for_blocking(offered_erl: float, blocking: float) -> int:
    """Return the fewest places that lose no more than `blocking` (over 0, under 1) of the arrivals.

    Raises:
        ValueError: negative traffic, or a blocking that no number of places gives.
    """
    _check(offered_erl, 0)
    if not 0 < blocking < 1:
        raise ValueError(f"blocking must lie between 0 and 1, not {blocking}")
    places, inverse = 0, 1.0
    while offered_erl and inverse < 1.0 / blocking:
        places += 1
        inverse = 1.0 + places / offered_erl * inverse
    return places


def traffic_for_blocking(places: int, blocking: float) -> float:
    """Return the traffic in erlangs that `places` carry with no more than `blocking` of the arrivals lost.

    Raises:
        ValueError: negative places, or a blocking outside of 0 to 1.
    """
    _check(0.0, places)
    if not 0 < blocking < 1:
        raise ValueError(f"blocking must lie between 0 and 1, not {blocking}")
    low, high = 0.0, places / (1.0 - blocking) + 1.0
    while high - low > 1e-9 * max(high, 1.0):
        middle = (low + high) / 2
        if erlang_b(middle, places) <= blocking:
            low = middle
        else:
            high = middle
    return low


def _check(offered_erl: float, places: int) -> None:
    if offered_erl < 0 or places < 0:
        raise ValueError(f"traffic and places must not be negative: {offered_erl} erlangs, {places} places")
