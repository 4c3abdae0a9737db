"""`picows`, which calls a listener for each message; this one listens to nothing."""

import asyncio

from pacing import ADDRESS, paced_in_loop
from picows import WSCloseCode, WSListener, WSMsgType, ws_connect


async def main() -> None:
    line, _ = await ws_connect(WSListener, ADDRESS)
    async for text in paced_in_loop():
        line.send(WSMsgType.TEXT, text.encode())
    line.send_close(WSCloseCode.OK)
    await line.wait_disconnected()


asyncio.run(main())
