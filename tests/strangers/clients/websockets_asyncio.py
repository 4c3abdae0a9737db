"""`websockets` in asyncio, which stops reading once 16 messages wait to be taken."""

import asyncio

from pacing import ADDRESS, paced_in_loop
from websockets.asyncio.client import connect


async def main() -> None:
    async with connect(ADDRESS) as line:
        async for text in paced_in_loop():
            await line.send(text)


asyncio.run(main())
