"""Source addresses: the addresses of this machine from which calls reach the target, and sockets bound to them.

Towards one address and port of a target, a source address has as many connections as the machine has ephemeral ports
(28,232 by default on Linux); further addresses have as many each.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys

NO_PORT_LEFT = frozenset({errno.EADDRNOTAVAIL, errno.EADDRINUSE})
"""Error numbers with which connect(2) and bind(2) say that every ephemeral port of a source address is taken."""
_IP_BIND_ADDRESS_NO_PORT = 24
"""`linux/in.h`; Python names it from 3.12 on."""


def family_of(address: str) -> socket.AddressFamily:
    """Return the address family of an IP address."""
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def socket_from(address: str) -> socket.socket:
    """Return a TCP socket that will connect from `address`; its port is chosen on connecting, for that target alone.

    Raises:
        OSError: the address is not one of this machine's.
    """
    made = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((address, 0))
    except OSError:
        made.close()
        raise
    return made


def is_here(address: str) -> bool:
    """Return whether sockets of this machine can be bound to an IP address."""
    with contextlib.suppress(OSError):
        socket_from(address).close()
        return True
    return False
