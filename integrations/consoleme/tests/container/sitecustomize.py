"""Replaces the network of a container: `relay.internal` resolves to 127.0.0.1 and port RELAY_PORT, whatever port is requested.

In the guide, `docker run --add-host relay.internal:host-gateway` and the listener's port do this.
"""

import os
import socket

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, port, *arguments, **named):
    if host == "relay.internal":
        host, port = "127.0.0.1", int(os.environ["RELAY_PORT"])
    return _getaddrinfo(host, port, *arguments, **named)


socket.getaddrinfo = getaddrinfo
