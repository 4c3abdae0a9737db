"""httpx: sends a file as a form, and fetches it in two ranges. Prints what it reads of a compressed one."""

import sys
from pathlib import Path

import httpx

address, path, dataset, copy = sys.argv[1:]
fields = {"robot_id": "robot_http", "dataset": dataset, "path": "meta/notes.txt"}
with httpx.Client(base_url=address, timeout=60) as http:
    with Path(path).open("rb") as file:
        http.post("/upload/sync", data=fields, files={"file": file}).raise_for_status()

    stored = f"/datasets/robot_http/{dataset}/files/meta/notes.txt"
    first = http.get(stored, headers={"Range": "bytes=0-999999"})
    rest = http.get(stored, headers={"Range": "bytes=1000000-", "If-Range": first.headers["ETag"]})
    assert (first.status_code, rest.status_code) == (206, 206)
    Path(copy).write_bytes(first.content + rest.content)

    description = http.get("/openapi.json")
    print(description.headers["Content-Encoding"], description.json()["openapi"])
