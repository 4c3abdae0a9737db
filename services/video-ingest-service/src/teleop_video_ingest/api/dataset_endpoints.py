"""HTTP: the datasets that robots have backed up."""

from typing import Annotated

import asyncpg
from msgspec import Meta, Struct, structs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import JsonResponse, Operation, read_query
from teleop_schema.errors import BadInput, BadRobotId
from teleop_schema.identifiers import MAX_ID, RobotId, check_robot_id

from teleop_video_ingest.api.addresses import dataset_of
from teleop_video_ingest.errors import DatasetNotFound, VersionNotFound
from teleop_video_ingest.model.views import DatasetDetail, DatasetPage, DatasetStatus, DatasetView, FileView
from teleop_video_ingest.tables.dataset_table import list_datasets
from teleop_video_ingest.tables.state_table import find_state, list_files
from teleop_video_ingest.tables.version_table import MAX_VERSION, view_of

# Time limit for a list of 100,000 files, from a busy database.
READ_TIMEOUT_S = 60.0
# No dataset's name ends like this; these addresses accept only POST.
COMMANDS = ("/repair", "/verify")


class DatasetFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which datasets to list.

    robot_id  those of this robot
    cursor    `next_cursor` of the page before
    limit     datasets of a page
    """

    robot_id: RobotId | None = None
    cursor: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class FileFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which files of a dataset to list.

    version  number of the version; by default the newest one that is finalised or repaired, or else the
             newest
    after    those whose paths come after this one: `next_after` of the page before
    limit    files of a page
    """

    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


async def get_datasets(request: Request) -> Response:
    """Datasets, newest first, a page at a time."""
    wanted = read_query(request, DatasetFilter)
    if wanted.robot_id is not None:
        check_robot_id(wanted.robot_id)
    robot_id = caller_of(request).chosen_robot(wanted.robot_id)
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        rows = await list_datasets(connection, robot_id, None, wanted.cursor, wanted.limit + 1)
    more = len(rows) > wanted.limit
    page = rows[: wanted.limit]
    next_cursor = page[-1]["number"] if more else None
    return JsonResponse(DatasetPage(datasets=[_view(row) for row in page], next_cursor=next_cursor))


async def get_dataset(request: Request) -> Response:
    """One dataset with its files: of a version, of the best one, or of the tree if there is no version."""
    if request.path_params["name"].endswith(COMMANDS):
        raise HTTPException(405)
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, FileFilter)
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        state = await find_state(connection, robot_id, dataset, wanted.version)
        (row,) = await list_datasets(connection, robot_id, dataset, None, 1)
        found = await list_files(connection, state, wanted.after, wanted.limit + 1)
    files = [FileView(**file._asdict()) for file in found[: wanted.limit]]
    return JsonResponse(
        DatasetDetail(
            **structs.asdict(_view(row)),
            files=files,
            next_after=files[-1].path if len(found) > wanted.limit else None,
        )
    )


def _view(row: asyncpg.Record) -> DatasetView:
    newest = None if row["id"] is None else view_of(row, row["robot_id"], row["name"])
    return DatasetView(
        robot_id=row["robot_id"],
        dataset=row["name"],
        created_at=row["made_at"],
        status=_status(row),
        versions=row["versions"],
        newest=newest,
    )


def _status(row: asyncpg.Record) -> DatasetStatus:
    if row["id"] is None:
        return "incoming"
    if row["damaged"]:
        return "damaged"
    if row["source"] == "repair":
        return "repaired"
    return "finalised" if row["finalised"] else "unfinalised"


OPERATIONS = (
    Operation(
        "GET",
        "/datasets",
        get_datasets,
        needs="read",
        own_check=True,
        query=DatasetFilter,
        answer=DatasetPage,
        errors=[BadInput, BadRobotId],
    ),
    Operation(
        "GET",
        "/datasets/{robot_id}/{name:path}",
        get_dataset,
        needs="read",
        query=FileFilter,
        answer=DatasetDetail,
        errors=[BadInput, BadRobotId, DatasetNotFound, VersionNotFound],
    ),
)
