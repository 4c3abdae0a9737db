"""aiohttp: sends a file as a form, and fetches it in two ranges. Prints what it reads of a compressed one."""

import asyncio
import sys
from pathlib import Path

import aiohttp

address, path, dataset, copy = sys.argv[1:]


async def main(content: bytes) -> bytes:
    form = aiohttp.FormData({"robot_id": "robot_http", "dataset": dataset, "path": "meta/notes.txt"})
    form.add_field("file", content, filename="notes.txt")
    async with aiohttp.ClientSession(address) as http:
        async with http.post("/upload/sync", data=form) as answer:
            answer.raise_for_status()
        stored = f"/datasets/robot_http/{dataset}/files/meta/notes.txt"
        async with http.get(stored, headers={"Range": "bytes=0-999999"}) as first:
            begun = await first.read()
        asked = {"Range": "bytes=1000000-", "If-Range": first.headers["ETag"]}
        async with http.get(stored, headers=asked) as rest:
            begun += await rest.read()
        assert (first.status, rest.status) == (206, 206)
        async with http.get("/openapi.json") as description:
            print(description.headers["Content-Encoding"], (await description.json())["openapi"])
    return begun


Path(copy).write_bytes(asyncio.run(main(Path(path).read_bytes())))
