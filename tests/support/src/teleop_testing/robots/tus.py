"""Requests of tus clients, one by one."""

import base64
from collections.abc import Mapping
from pathlib import Path

import httpx

# What every request says, and one with bytes.
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}
# A file that is uploaded, and where it lies then.
DATASET = {"robot_id": "robot_A", "dataset": "me/ds", "path": "data/file-000.parquet"}
STORED = "robot_A/me/ds/data/file-000.parquet"


def metadata_of(fields: Mapping[str, str]) -> dict[str, str]:
    """The header that tells `fields`."""
    pairs = (f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in fields.items())
    return {"Upload-Metadata": ",".join(pairs)}


async def create(http: httpx.AsyncClient, length: int, **fields: str) -> str:
    """Address of a new upload; `fields` are told of it beside, or instead of, those of DATASET."""
    headers = {**TUS, "Upload-Length": str(length), **metadata_of({**DATASET, **fields})}
    answer = await http.post("/files", headers=headers)
    assert answer.status_code == 201, answer.text
    location: str = answer.headers["Location"]
    return location


async def patch(
    http: httpx.AsyncClient, address: str, offset: int, content: bytes, **headers: str
) -> httpx.Response:
    """The answer to more bytes of an upload."""
    return await http.patch(
        address, content=content, headers={**BODY, "Upload-Offset": str(offset), **headers}
    )


async def offset_of(http: httpx.AsyncClient, address: str) -> int:
    """How many bytes of an upload have come."""
    answer = await http.head(address, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def arrived_bytes(store_root: Path) -> int:
    """How much lies in a store on a folder of uploads that have not ended."""
    return sum(path.stat().st_size for path in (store_root / ".incoming").iterdir())


def leftovers(store_root: Path) -> list[str]:
    """Names of what a store on a folder holds of uploads that have not ended."""
    return sorted(path.name for path in (store_root / ".incoming").iterdir())
