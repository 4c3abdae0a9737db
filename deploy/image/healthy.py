"""Exit status 0 while the service of this container answers /healthz; takes 20 ms, no more."""

import os
import socket
import sys

# Less than what the image's HEALTHCHECK gives it; a busy machine may need seconds to let a process run.
TIMEOUT_S = 15
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

with socket.create_connection(("127.0.0.1", int(os.environ["SERVICE_PORT"])), TIMEOUT_S) as connection:
    connection.sendall(REQUEST)
    sys.exit(not connection.recv(64).startswith(b"HTTP/1.1 200"))
