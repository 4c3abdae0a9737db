"""`websocket-client`, which reads, and answers pings, only while somebody calls `recv`."""

import websocket
from pacing import ADDRESS, paced

line = websocket.create_connection(ADDRESS)
for text in paced():
    line.send(text)
line.close()
