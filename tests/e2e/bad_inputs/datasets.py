"""Datasets of some kB whose repair was to take all memory or time, with the answer and what it names."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.info import DEFAULT_FEATURES
from teleop_testing.datasets.parquet_bombs import crowded_footer, equal_rows

INFO, DATA = "meta/info.json", "data/chunk-000/file-000.parquet"
ROWS = 20
SCHEMA = data_schema(DEFAULT_FEATURES)


def _info(**changes: object) -> bytes:
    about = {"codebase_version": "v3.0", "fps": 30, "total_episodes": 1, "total_frames": ROWS}
    return json.dumps(about | {"features": DEFAULT_FEATURES} | changes).encode()


def _data() -> bytes:
    columns = {name: [0] * ROWS for name in SCHEMA.names}
    columns |= {name: list(range(ROWS)) for name in ("index", "frame_index")}
    content = io.BytesIO()
    times = [row / 30 for row in range(ROWS)]
    pq.write_table(pa.table({**columns, "timestamp": times}, schema=SCHEMA), content)
    return content.getvalue()


def _many_dimensions() -> bytes:
    deep = {"dtype": "float32", "shape": [1] * 100_000, "names": None}
    return _info(features={**DEFAULT_FEATURES, "action": deep})


DATASETS = {
    "a billion equal rows": (
        {INFO: _info(), DATA: equal_rows(SCHEMA, 49_000_000, groups=20)},
        "bytes would be",
    ),
    "row groups without end": ({INFO: _info(), DATA: crowded_footer(SCHEMA, 600_000)}, "elements"),
    "many dimensions": ({INFO: _many_dimensions(), DATA: _data()}, "100000 dimensions"),
    "a page": ({INFO: b"<html></html>", DATA: b"<html></html>"}, "info.json is missing or torn"),
}
SOUND = {INFO: _info(total_episodes=10**12), DATA: _data()}
