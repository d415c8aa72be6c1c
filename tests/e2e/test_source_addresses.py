"""Calls from several addresses of this machine, seen on the sockets of the embedded agent."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from conftest import scenario_with

SOURCES = ("127.0.77.2", "127.0.77.3")


def quiet(calls, seconds=1):
    """So many callers at once who only listen."""
    return scenario_with(
        load={"shape": "concurrency", "concurrency": calls, "duration": f"{seconds}s", "ramp_up": "0.4s"},
        calls=[{"name": "quiet", "script": [{"listen": "1500ms"}]}],
        twin={"greeting": False},
    )


def to_the_agent():
    """Open connections that come from one of the addresses, and all others to the same port: (address, port)."""
    found = [
        (each.laddr.ip, each.raddr.port)
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_ESTABLISHED and each.raddr
    ]
    ports = {port for address, port in found if address in SOURCES}
    return [(address, port) for address, port in found if port in ports]


def most_at_once(run):
    """Look at the connections until the run is over; returns the most that each address had at once, and the ports."""
    most, ports = Counter(), set()
    while run.poll() is None:
        now = to_the_agent()
        most |= Counter(address for address, _ in now)
        ports |= {port for _, port in now}
        time.sleep(0.2)
    return most, ports


def test_calls_and_their_requests_come_from_the_addresses_in_turn(voxload):
    path = voxload.write({**quiet(20), "source_addresses": list(SOURCES)})
    run = voxload.start("run", str(path), "--quiet", "--processes", "2")
    most, ports = most_at_once(run)
    done = voxload.finish(run)
    assert "Calls come from 2 addresses in turn: 127.0.77.2, 127.0.77.3" in done.out
    assert set(done.summary.totals.outcomes) == {"completed"}, done.err
    assert len(ports) == 1  # set-up requests go to the port of the media sockets: none has come from elsewhere
    assert set(most) == set(SOURCES)
    assert all(most[address] >= 10 for address in SOURCES)


def test_a_search_of_the_capacity_comes_from_them_too(voxload):
    path = voxload.write(quiet(4))
    words = ("--gate", "call_success >= 1%", "--start", "4", "--max", "4", "--confirm", "1", "--step", "2s")
    run = voxload.start("capacity", str(path), *words, "--processes", "1", "--source-address", SOURCES[1])
    most, _ = most_at_once(run)
    done = voxload.finish(run)
    assert f"Calls come from {SOURCES[1]}" in done.out, done.out + done.err
    assert set(most) == {SOURCES[1]}


def test_a_worker_names_its_own(voxload):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    path = voxload.write(quiet(10))
    run = voxload.start("run", str(path), "--quiet", "--workers", "1", "--remote", "--master-port", port)
    words = ("--processes", "1", "--source-address", SOURCES[1])
    worker = voxload.start("worker", "--master-host", "127.0.0.1", "--master-port", port, *words)
    most, _ = most_at_once(run)
    done = voxload.finish(run)
    assert set(done.summary.totals.outcomes) == {"completed"}, done.err
    voxload.finish(worker)
    assert set(most) == {SOURCES[1]}


IN_A_NAMESPACE = 'ip link set lo up && echo 40000 40015 > /proc/sys/net/ipv4/ip_local_port_range && exec "$@"'


def namespaces_are_permitted():
    command = ["unshare", "-n", "ip", "link"]
    return shutil.which("unshare") and not subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.skipif(not namespaces_are_permitted(), reason="network namespaces are not permitted")
@pytest.mark.parametrize("sources", [(), ("--source-address", "auto")], ids=["one address", "auto"])
def test_more_calls_than_ports(voxload, sources):
    path = voxload.write({**quiet(30), "timeouts": {"hang_up": "1s"}})
    command = [sys.executable, "-m", "voxload", "run", str(path), "--processes", "1", "--json", *sources]
    inside = ["unshare", "-n", "sh", "-c", IN_A_NAMESPACE, "sh", *command]
    done = subprocess.run(inside, capture_output=True, text=True, cwd=voxload.folder, timeout=60, check=False)
    outcomes, told = json.loads(done.stdout)["totals"]["outcomes"], " ".join(done.stderr.split())
    if sources:
        assert set(outcomes) == {"completed"}
        assert "4 addresses in turn: 127.0.0.1, 127.0.0.2, 127.0.0.3, 127.0.0.4" in told
        assert "local ports" not in told
    else:
        assert outcomes["shed"] > 0
        assert "connect_failed" not in outcomes
        assert done.returncode == 4
        assert "4 source addresses have them" in told
