"""WebSocket connections with the patience of the tests; the library gives up after ten or twenty seconds."""

from functools import partial

from websockets.asyncio import client
from websockets.sync import client as client_in_thread

from teleop_testing.waiting import PATIENCE_S

connect = partial(client.connect, open_timeout=PATIENCE_S, ping_timeout=PATIENCE_S)
# Blocks.
connect_in_thread = partial(client_in_thread.connect, open_timeout=PATIENCE_S, ping_timeout=PATIENCE_S)
