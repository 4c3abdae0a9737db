"""requests: sends a file as a form, fetches it in two ranges. Prints what it reads of a compressed one."""

import sys
from pathlib import Path

import requests

address, path, dataset, copy = sys.argv[1:]
fields = {"robot_id": "robot_http", "dataset": dataset, "path": "meta/notes.txt"}
with Path(path).open("rb") as file:
    requests.post(f"{address}/upload/sync", data=fields, files={"file": file}, timeout=60).raise_for_status()

stored = f"{address}/datasets/robot_http/{dataset}/files/meta/notes.txt"
first = requests.get(stored, headers={"Range": "bytes=0-999999"}, timeout=60)
asked = {"Range": "bytes=1000000-", "If-Range": first.headers["ETag"]}
rest = requests.get(stored, headers=asked, timeout=60)
assert (first.status_code, rest.status_code) == (206, 206)
Path(copy).write_bytes(first.content + rest.content)

description = requests.get(f"{address}/openapi.json", timeout=60)
print(description.headers["Content-Encoding"], description.json()["openapi"])
