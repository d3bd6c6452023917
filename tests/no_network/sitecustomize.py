"""No socket of this process leaves this machine. Python imports this file at its start where this folder is on PYTHONPATH.

What was asked for is refused, and noted in the file that NO_NETWORK names, for whoever asks may live with a refusal.
"""

import ipaddress
import os
import sys
from typing import Any

_ADDRESS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}


def is_here(host: object) -> bool:
    """Loopback, or another address of this machine: one that a socket can be bound to."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)  # type: ignore[arg-type]
    except ValueError:
        return False
    if address.is_multicast or address.packed[-1] == 255:  # to many machines, though a socket can be bound to it
        return False
    import socket

    try:
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
        return True
    except OSError:
        return False


def hear(event: str, given: tuple[Any, ...]) -> None:
    if event not in _ADDRESS or not os.environ.get("NO_NETWORK"):
        return
    address = given[_ADDRESS[event]]
    if event.startswith("socket.get"):
        host = address
    elif isinstance(address, tuple):
        host = address[0]
    else:
        return  # a path: a socket of this machine
    if is_here(host):
        return
    with open(os.environ["NO_NETWORK"], "a", encoding="utf-8") as file:
        file.write(f"{event} {address!r} by {' '.join(sys.argv[:3]) or sys.executable}\n")
    raise PermissionError(f"The tests were started with --no-network, and this asks for {address!r}.")


sys.addaudithook(hear)
