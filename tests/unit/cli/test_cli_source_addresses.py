"""Source addresses that cannot work, said before the run with exit code 2; and how many a plan needs."""

import json

import msgspec
import pytest
from click.testing import CliRunner

from voxload.cli.capacity import capacity_command
from voxload.cli.check import check_command
from voxload.cli.run import run_command
from voxload.cli.worker import worker_command_line
from voxload.errors import BadInputError
from voxload.runners import preflight
from voxload.runners.machine import read_machine

SCENARIO = {
    "name": "sources",
    "target": "twin",
    "load": {"shape": "constant", "arrival_rate": 100, "duration": "60s"},
    "calls": [{"name": "quiet", "script": [{"listen": "10s"}, "hang_up"]}],
}


def run(tmp_path, command, fields, *options):
    path = tmp_path / "scenario.yaml"
    path.write_text(json.dumps({**SCENARIO, **fields}))
    return CliRunner().invoke(command, [str(path), *options], standalone_mode=False)


@pytest.mark.parametrize("command", [check_command, run_command, capacity_command], ids=["check", "run", "capacity"])
@pytest.mark.parametrize(
    ("fields", "options", "words"),
    [
        ({"source_addresses": ["127.0.0.2", "192.0.2.77"]}, [], "192.0.2.77 is not an address of this machine"),
        ({}, ["--source-address", "192.0.2.77"], "192.0.2.77 is not an address of this machine"),
        ({"source_addresses": "eth0"}, [], "'eth0' is no IP address, and not auto"),
        ({}, ["--source-address", "auto", "--source-address", "127.0.0.2"], "auto goes alone"),
        ({"target": "http://198.51.100.7"}, ["--source-address", "auto"], "198.51.100.7 is none"),
        ({"target": "http://198.51.100.7"}, ["--source-address", "127.0.0.2"], "cannot be reached from 127.0.0.2"),
        ({"target": "http://[::1]:9"}, ["--source-address", "127.0.0.2"], "::1 cannot be reached from 127.0.0.2"),
    ],
)
def test_what_cannot_work(tmp_path, command, fields, options, words):
    result = run(tmp_path, command, fields, *options)
    assert isinstance(result.exception, BadInputError)
    assert [words in problem.message for problem in result.exception.problems] == [True]


def test_all_foreign_addresses_are_named_with_their_line(tmp_path):
    result = run(tmp_path, check_command, {"source_addresses": ["192.0.2.77", "192.0.2.78"]})
    assert len(result.exception.problems) == 2
    assert all(problem.line == 1 and "127.0.0.1" in problem.suggestion for problem in result.exception.problems)


def test_addresses_here_are_not_those_of_remote_workers(tmp_path):
    result = run(tmp_path, run_command, {}, "--source-address", "127.0.0.2", "--workers", "2", "--remote")
    assert "not those of --remote workers" in result.exception.problems[0].message


def test_a_worker_with_a_foreign_address_does_not_start():
    options = ["--master-host", "127.0.0.1", "--source-address", "127.0.0.2", "--source-address", "192.0.2.77"]
    result = CliRunner().invoke(worker_command_line, options, standalone_mode=False)
    assert [problem.message.split()[1] for problem in result.exception.problems] == ["192.0.2.77"]


def test_no_way_by_a_socks_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://198.51.100.9:1080")
    monkeypatch.delenv("NO_PROXY", raising=False)
    own = {"target": "http://agent.example", "source_addresses": ["127.0.0.2"]}
    assert "SOCKS proxy" in run(tmp_path, check_command, own).exception.problems[0].message


def test_check_says_how_many_addresses_a_plan_needs(tmp_path, monkeypatch):
    few = msgspec.structs.replace(read_machine(), ports=3000, cores=64, cpu_quota_cores=None)
    monkeypatch.setattr(preflight, "read_machine", lambda: few)
    one = json.loads(run(tmp_path, check_command, {}, "--json").stdout)
    # 1,000 calls at once and 100 that end in each of 60 s
    assert ["7,000 local ports" in text and "3 source addresses have them" in text for text in one["warnings"]] == [
        True
    ]
    three = json.loads(run(tmp_path, check_command, {}, "--source-address", "auto", "--json").stdout)
    assert three["source_addresses"] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert three["warnings"] == []
