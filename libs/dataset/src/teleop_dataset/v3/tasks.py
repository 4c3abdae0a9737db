"""`meta/tasks.parquet`: the tasks, each in the row of its index."""

import json
from collections.abc import Sequence

import pyarrow as pa

# What pandas writes for DataFrame({"task_index": …}, index=Index(…, name="task")): LeRobot reads the task
# through that index, so without this footer it would see numbers instead of tasks.
_PANDAS = {
    "index_columns": ["task"],
    "column_indexes": [
        {
            "name": None,
            "field_name": None,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }
    ],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {
            "name": "task",
            "field_name": "task",
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": None,
        },
    ],
    "creator": {"library": "pyarrow", "version": pa.__version__},
    "pandas_version": "2.0.0",
}

# Names of the column of tasks: that of today, and that which pandas gives to an index without a name.
TASK_COLUMNS = ("task", "__index_level_0__")

TASKS_SCHEMA = pa.schema(
    [pa.field("task_index", pa.int64()), pa.field("task", pa.string())],
    metadata={"pandas": json.dumps(_PANDAS)},
)


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """The table of `tasks`, in the order of their indexes."""
    return pa.table([pa.array(range(len(tasks)), pa.int64()), pa.array(tasks, pa.string())], TASKS_SCHEMA)
