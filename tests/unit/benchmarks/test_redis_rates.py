"""The benchmark of Redis measures both sides."""

import json

from benchmarks import redis_rates


def test_both_sides_are_measured(capsys):
    assert redis_rates.main(["--seconds", "0.4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["clients"], row["pipeline"]) for row in rows] == [(1, 1), (50, 1), (50, 20)]
    for row in rows:
        for side in ("redis_benchmark", "voxload"):
            assert row[side]["commands_per_s"] > 100
            assert row[side]["p50_ms"] > 0
