"""`aiohttp`, which answers pings only while somebody calls `receive`."""

import asyncio

import aiohttp
from pacing import ADDRESS, paced_in_loop


async def main() -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(ADDRESS) as line:
        async for text in paced_in_loop():
            await line.send_str(text)


asyncio.run(main())
