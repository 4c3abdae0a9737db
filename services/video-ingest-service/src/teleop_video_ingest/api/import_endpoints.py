"""HTTP: asks for imports of datasets, and tells how far they are."""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.erasing import check_dataset
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import Answer, JsonResponse, Operation, read_query
from teleop_schema.errors import BadInput, BadRobotId, DatasetErased

from teleop_video_ingest.api.addresses import dataset_of
from teleop_video_ingest.api.version_endpoints import WantedVersion
from teleop_video_ingest.errors import DatasetNotFound, ImportNotFound, NotFinalised, VersionNotFound
from teleop_video_ingest.model.views import DatasetImport
from teleop_video_ingest.tables.import_table import ask, imports_of
from teleop_video_ingest.tables.state_table import find_state
from teleop_video_ingest.tables.version_table import MAX_VERSION, find_dataset

# Time limit for some rows by their keys.
TIMEOUT_S = 30.0


class WantedImport(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to import.

    version  its number; without one, the newest that is finalised or repaired
    again    true: also if episodes of it are then in the library twice
    """

    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None
    again: bool = False


async def import_dataset(request: Request) -> Response:
    """Make a session of a version of a dataset: its frames, episodes, tasks, further columns and video.

    202: it is queued, or under way; GET tells how far it is. 200: it is done, and nothing is done again.
    A later version that only adds episodes goes on in the same session.
    """
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, WantedImport)
    pool: Pool = request.state.ingest_pool
    async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
        await check_dataset(connection, robot_id, dataset, hold=True)
        state = await find_state(connection, robot_id, dataset, wanted.version)
        version = state.version
        if version is None or not (version.finalised or version.source == "repair"):
            raise NotFinalised(
                f"version {version.version if version else 'none'} of dataset {dataset!r} is not finalised",
                field="version",
                hint="finish the recording; or, if its recorder was killed, repair the dataset first",
            )
        asked_by = caller_of(request).name
        await ask(connection, state.dataset_id, version.version, again=wanted.again, asked_by=asked_by)
        found = await imports_of(connection, state.dataset_id, robot_id, dataset, version.version)
    return JsonResponse(found[0], 200 if found[0].status == "done" else 202)


async def get_import(request: Request) -> Response:
    """How far the import of a version is. Without a version: the newest that was asked for."""
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, WantedVersion)
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        dataset_id = await find_dataset(connection, robot_id, dataset)
        found = await imports_of(connection, dataset_id, robot_id, dataset, wanted.version)
    return JsonResponse(found[0])


ADDRESS = "/datasets/{robot_id}/{name:path}/import"
OPERATIONS = (
    Operation(
        "POST",
        ADDRESS,
        import_dataset,
        needs="operate",
        query=WantedImport,
        answers=[
            Answer(200, "It has been imported before", DatasetImport),
            Answer(202, "It is queued, or under way", DatasetImport),
        ],
        errors=[BadInput, BadRobotId, DatasetErased, DatasetNotFound, NotFinalised, VersionNotFound],
    ),
    Operation(
        "GET",
        ADDRESS,
        get_import,
        needs="read",
        query=WantedVersion,
        answer=DatasetImport,
        errors=[BadInput, BadRobotId, DatasetNotFound, ImportNotFound],
    ),
)
