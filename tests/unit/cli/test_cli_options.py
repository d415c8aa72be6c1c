"""Wrong options: each is named, all at once, together with what is wrong with the scenario; exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxload.cli.main import run_command_line

EXAMPLES = Path(__file__).parents[3] / "examples"


def errors(capsys, *arguments: object) -> list[str]:
    assert run_command_line([str(argument) for argument in arguments]) == 2
    return [line.removeprefix("voxload: ") for line in capsys.readouterr().err.splitlines()]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text((EXAMPLES / "smoke.yaml").read_text().replace("opening_hours", "x"))
    return path


def test_values_that_the_parser_refuses(capsys, broken):
    found = errors(capsys, "run", broken, "--users", -3, "--rate", "abc", "--share", "3", "--processes", "many")
    assert [line.split(": ")[0] for line in found] == ["--users", "--rate", "--processes", "--share", f"{broken}:21"]
    assert "-3 is not in the range" in found[0]


def test_values_that_stand_for_parts_of_the_scenario(capsys, broken, tmp_path):
    found = errors(
        capsys,
        *("run", broken, "--ca", tmp_path / "missing.pem", "--record", "200%x", "--target", "foo"),
        *("--source-address", "192.0.2.77", "--gate", "nonsense", "--latency", "x", "--remote"),
    )
    places = [line.split(": ")[0] for line in found]
    own = ("--ca", "--record", "--target", "--source-address", "--gate", "--latency")
    assert {option: places.count(option) for option in own} == dict.fromkeys(own, 1)
    assert "--remote and --web-port go with --workers N" in places
    assert f"{broken}:21" in places
    assert len(found) == len(own) + 2
    assert any("192.0.2.77 is not an address of this machine" in line for line in found)


def test_the_address_of_a_target_is_checked_under_its_option(capsys):
    smoke = EXAMPLES / "smoke.yaml"
    found = errors(capsys, "check", smoke, "--target", "http://a b/?x", "--source-address", "auto")
    assert found[0].startswith("--target: not a URL (write for example")


def test_options_that_exclude_each_other_are_named_with_the_file(capsys, broken):
    found = errors(
        capsys, "check", broken, "--users", 2, "--rate", 3, "--source-address", "auto", "--source-address", "::1"
    )
    assert [line.split(":")[0] for line in found] == [
        str(broken),
        "--source-address",
        "--users and --rate exclude each other (a load is closed or open)",
    ]


def test_commands_without_a_scenario_name_every_option_too(capsys):
    found = errors(capsys, "component", "redis", "--client", "none", "--rate", "x")
    assert [line.split(": ")[0] for line in found] == ["--rate", "--client"]


def test_what_the_parser_itself_refuses_keeps_its_usage(capsys):
    assert run_command_line(["run"]) == 2
    assert "Missing argument 'SCENARIO'" in capsys.readouterr().err


def test_an_option_of_a_component_test_is_named(capsys):
    assert errors(capsys, "component", "openai", "--target", "ftp://x") == [
        "--target: 'ftp://x' does not start with http:// or https://"
    ]
