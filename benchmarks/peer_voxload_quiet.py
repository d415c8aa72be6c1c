"""voxload with calls that say little: one message a second of 8 kHz µ-law, in a protocol described by the scenario.

What a call costs that is hardly heard: its memory, its set-up (an HTTP request and a WebSocket), its pings.
"""

from __future__ import annotations

import sys

import uvloop

from benchmarks.harness import read_job
from benchmarks.peer_voxload import run
from voxload.dialects.rtmed import START_PATH

PEER = "voxload_quiet"
DIALECT = {
    "name": "json",
    "sample_rate": 8_000,
    "encoding": "mulaw",
    "frame_ms": 1000,
    "start": {"path": START_PATH, "take": {"session_id": "session_id"}},
    "socket": {"path": "/ws/call/${session_id}"},
    "send": {"audio": {"type": "audio", "data": "${audio}"}},
    "receive": {"messages": {"audio": [{"audio": "data"}]}},
}


def main() -> int:
    """Entry point."""
    uvloop.run(run(read_job(PEER), PEER, DIALECT)).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
