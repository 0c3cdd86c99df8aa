"""Stands for the network of a container: `relay.internal` is where RELAY_PORT says, whatever port is asked for.

What `docker run --add-host relay.internal:host-gateway` and the listener's own port do in the guide.
"""

import os
import socket

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, port, *arguments, **named):
    if host == "relay.internal":
        host, port = "127.0.0.1", int(os.environ["RELAY_PORT"])
    return _getaddrinfo(host, port, *arguments, **named)


socket.getaddrinfo = getaddrinfo
