"""tuspy: sends a file in chunks, and goes on by itself after a cut. Prints how far it is."""

import sys
from pathlib import Path

from tusclient.client import TusClient

address, file, dataset, chunk_bytes = sys.argv[1:]
size_bytes = Path(file).stat().st_size
uploader = TusClient(f"{address}/files/").uploader(
    file,
    metadata={"kind": "dataset", "robot_id": "robot_tus", "dataset": dataset, "path": "meta/notes.txt"},
    chunk_size=int(chunk_bytes) or size_bytes,
    retries=5,
    retry_delay=1,
)
while uploader.offset < size_bytes:
    uploader.upload_chunk()
    print(f"stored {uploader.offset}", flush=True)
print(uploader.url)
