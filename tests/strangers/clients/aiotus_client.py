"""aiotus: sends a file in chunks, and goes on by itself after a cut. Prints how far it is."""

import asyncio
import io
import sys
from pathlib import Path

import aiotus

address, path, dataset, chunk_bytes = sys.argv[1:]
content = Path(path).read_bytes()
CHUNK_BYTES = int(chunk_bytes) or len(content)


class Told(io.BytesIO):
    """The content, which prints how far it has been read: what is before the last chunk is stored."""

    def read(self, size: int | None = -1) -> bytes:
        print(f"stored {self.tell()}", flush=True)
        return super().read(size)


async def send() -> None:
    fields = {"kind": "dataset", "robot_id": "robot_tus", "dataset": dataset, "path": "meta/notes.txt"}
    about = {name: value.encode() for name, value in fields.items()}
    patience = aiotus.RetryConfiguration(retry_attempts=5, max_retry_period_seconds=1)
    uploaded = await aiotus.upload(
        f"{address}/files/", Told(content), about, config=patience, chunksize=CHUNK_BYTES
    )
    # It has logged why.
    sys.exit(0 if uploaded else 1)


asyncio.run(send())
