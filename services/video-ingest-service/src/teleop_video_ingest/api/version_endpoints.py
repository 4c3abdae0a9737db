"""HTTP: makes, lists, verifies, repairs and serves versions of datasets."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.serving import problems
from teleop_runtime.serving.content import (
    FILENAME,
    RANGE_HEADERS,
    answer_content,
    attachment,
    content_answers,
)
from teleop_runtime.serving.operations import (
    Answer,
    Header,
    JsonResponse,
    Operation,
    read_body,
    read_query,
)
from teleop_runtime.store import Store
from teleop_runtime.turns import Turns
from teleop_schema.errors import BackendError, BadInput, BadRange, BadRobotId, BodyTooLarge, DatasetErased
from teleop_schema.files import MAX_DATASET_FILES, DatasetVersion, Manifest
from teleop_schema.identifiers import check_robot_id

from teleop_video_ingest.api.addresses import dataset_of, files_of
from teleop_video_ingest.api.archive import Archive
from teleop_video_ingest.api.content import BINARY, MEDIA_TYPES, answer_object, media_type_of
from teleop_video_ingest.datasets.repairs import Repairs
from teleop_video_ingest.datasets.versions import commit_version
from teleop_video_ingest.errors import (
    AlreadySound,
    Damaged,
    DatasetNotFound,
    FileNotFound,
    FilesMissing,
    NothingRecovered,
    VersionNotFound,
)
from teleop_video_ingest.files.verification import verify_objects
from teleop_video_ingest.model.views import DamagedFile, Repaired, Verified, VersionPage
from teleop_video_ingest.tables.state_table import (
    damaged_files,
    find_state,
    get_file,
    list_files,
    objects_of,
    published_ns,
)
from teleop_video_ingest.tables.version_table import MAX_VERSION, find_dataset, list_versions, view_of

# Time limit for a list of 100,000 files, from a busy database.
READ_TIMEOUT_S = 60.0
# 100,000 files of 200 bytes each, and paths that are longer than usual.
MAX_MANIFEST_BYTES = 32 * 1024 * 1024


# Paths in an error: enough to see what they have in common.
MAX_NAMED_FILES = 100


class MissingFiles(problems.Problem, kw_only=True):
    """The problem `files_missing`, with up to MAX_NAMED_FILES of the paths."""

    files: list[str]


class VersionFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which versions to list.

    cursor  `next_cursor` of the page before
    limit   versions of a page
    """

    cursor: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class WantedVersion(Struct, forbid_unknown_fields=True, kw_only=True):
    """One version.

    version  its number; what stands for none is said of each address
    """

    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None


async def get_versions(request: Request) -> Response:
    """Versions of a dataset, newest first; numbers that are absent were thinned out."""
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, VersionFilter)
    pool: Pool = request.state.ingest_pool
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        dataset_id = await find_dataset(connection, robot_id, dataset)
        rows = await list_versions(connection, dataset_id, wanted.cursor, wanted.limit + 1)
    versions = [view_of(row, robot_id, dataset) for row in rows[: wanted.limit]]
    next_cursor = versions[-1].version if len(rows) > wanted.limit else None
    return JsonResponse(VersionPage(versions=versions, next_cursor=next_cursor))


async def post_version(request: Request) -> Response:
    """Make the dataset's state a version, once all of its files are there.

    201 with the new version; 200 with the newest one if that is the same.
    """
    robot_id, dataset = dataset_of(request)
    manifest = await read_body(request, Manifest, limit_bytes=MAX_MANIFEST_BYTES)
    try:
        version, new = await commit_version(
            request.state.ingest_pool, request.state.store, robot_id, dataset, manifest
        )
    except FilesMissing as error:
        return _name_missing(request, error)
    return JsonResponse(version, 201 if new else 200)


def _name_missing(request: Request, error: FilesMissing) -> Response:
    problem = structs.asdict(problems.as_problem(error, request.scope.get("request_id")))
    body = MissingFiles(**problem, files=error.paths[:MAX_NAMED_FILES])
    return Response(msgspec.json.encode(body), error.status, media_type="application/problem+json")


async def verify_dataset(request: Request) -> Response:
    """Read every byte of a version, or of everything that the dataset has, and compare the hashes.

    Answers when everything is read. Damage stays recorded until the robot sends the bytes again.
    """
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, WantedVersion)
    pool: Pool = request.state.ingest_pool
    store: Store = request.state.store
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        dataset_id = await find_dataset(connection, robot_id, dataset)
        version_id = None
        if wanted.version is not None:
            version_id = (await find_state(connection, robot_id, dataset, wanted.version)).version_id
        objects = await objects_of(connection, dataset_id, version_id)
    # Reading all bytes may take hours, during which no connection is held.
    verifications: Turns = request.state.verifications
    async with verifications.place(robot_id):
        await verify_objects(pool, store, objects)
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        damaged = await damaged_files(connection, dataset_id, version_id)
    return JsonResponse(
        Verified(
            robot_id=robot_id,
            dataset=dataset,
            version=wanted.version,
            checked=len(objects),
            size_bytes=sum(size for _, size in objects),
            damaged=[DamagedFile(path=path, sha256=sha, damage=damage) for path, sha, damage in damaged],
        )
    )


async def repair_dataset(request: Request) -> Response:
    """Rebuild a version whose recorder was killed or that is damaged; the result is an additional version.

    Without a version: the newest one that came from the robot. Answers when it is done: every picture is
    decoded, so hours of video take long.
    """
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, WantedVersion)
    repairs: Repairs = request.state.repairs
    version, report = await repairs.repair(robot_id, dataset, wanted.version)
    return JsonResponse(Repaired(version=version, report=report), 201)


async def restore_dataset(request: Request) -> Response:
    """The dataset as a tar stream, or a range of it, in folders of its name; the same each time.

    Its files have the time at which the version was made, always later than that of earlier versions.

    Without a version: the newest that is finalised or repaired, or else the newest. If stored bytes turn out
    to be damaged, the connection is cut.
    """
    robot_id, dataset = dataset_of(request)
    wanted = read_query(request, WantedVersion)
    pool: Pool = request.state.ingest_pool
    store: Store = request.state.store
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        state = await find_state(connection, robot_id, dataset, wanted.version)
        files = await list_files(connection, state, "", MAX_DATASET_FILES)
        modified_ns = await published_ns(connection, state)
    for file in files:
        if file.damage is not None:
            raise Damaged(
                f"{file.path}: {file.damage}",
                field="path",
                hint=(
                    "download the others one by one from …/files/{path}; uploading this one again repairs it"
                ),
            )
    archive = Archive(pool, store, dataset, files, modified_ns=modified_ns)
    headers = attachment(f"{dataset.rsplit('/', 1)[-1]}.tar")
    if state.version is not None:
        headers["X-Dataset-Version"] = str(state.version.version)
    return await answer_content(
        request,
        archive.read,
        await asyncio.to_thread(archive.size_bytes),
        etag=await asyncio.to_thread(archive.etag),
        media_type="application/x-tar",
        headers=headers,
    )


async def get_dataset_file(request: Request) -> Response:
    """One file of a dataset, or a range of it."""
    robot_id = check_robot_id(request.path_params["robot_id"])
    wanted = read_query(request, WantedVersion)
    pool: Pool = request.state.ingest_pool
    refusal: BackendError | None = None
    async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
        for dataset, path in files_of(request):
            try:
                state = await find_state(connection, robot_id, dataset, wanted.version)
                file = await get_file(connection, state, path)
                break
            except (DatasetNotFound, VersionNotFound, FileNotFound) as error:
                refusal = refusal or error
        else:
            assert refusal is not None  # noqa: S101
            raise refusal
    return await answer_object(request, file.sha256, file.size_bytes, media_type_of(file.path))


EXAMPLE = {
    "files": [
        {
            "path": "meta/info.json",
            "size_bytes": 2,
            "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        }
    ],
    "total_episodes": 1,
    "total_frames": 1800,
    "finalised": True,
}
OF_ARCHIVE = [FILENAME, Header("X-Dataset-Version", "Number of the version, if there is one", int)]
OPERATIONS = (
    Operation(
        "GET",
        "/datasets/{robot_id}/{name:path}/versions",
        get_versions,
        needs="read",
        query=VersionFilter,
        answer=VersionPage,
        errors=[BadInput, BadRobotId, DatasetNotFound],
    ),
    Operation(
        "POST",
        "/datasets/{robot_id}/{name:path}/versions",
        post_version,
        needs="send",
        body=Manifest,
        example=EXAMPLE,
        answers=[
            Answer(200, "The newest version is the same", DatasetVersion),
            Answer(201, "The new version", DatasetVersion),
        ],
        errors=[BadInput, BadRobotId, BodyTooLarge, DatasetErased, DatasetNotFound, FilesMissing],
    ),
    Operation(
        "POST",
        "/datasets/{robot_id}/{name:path}/verify",
        verify_dataset,
        needs="verify",
        query=WantedVersion,
        answer=Verified,
        errors=[BadInput, BadRobotId, DatasetNotFound, VersionNotFound],
    ),
    Operation(
        "POST",
        "/datasets/{robot_id}/{name:path}/repair",
        repair_dataset,
        needs="operate",
        query=WantedVersion,
        answer=Repaired,
        status=201,
        errors=[BadInput, BadRobotId, DatasetNotFound, VersionNotFound, AlreadySound, NothingRecovered],
    ),
    Operation(
        "GET",
        "/datasets/{robot_id}/{name:path}/restore",
        restore_dataset,
        needs="read",
        query=WantedVersion,
        headers=RANGE_HEADERS,
        answers=content_answers(["application/x-tar"], OF_ARCHIVE),
        errors=[BadInput, BadRobotId, DatasetNotFound, VersionNotFound, BadRange, Damaged],
    ),
    Operation(
        "GET",
        "/datasets/{robot_id}/{name:path}/files/{path:path}",
        get_dataset_file,
        needs="read",
        query=WantedVersion,
        headers=RANGE_HEADERS,
        answers=content_answers({*MEDIA_TYPES.values(), BINARY}),
        errors=[BadInput, BadRobotId, DatasetNotFound, VersionNotFound, FileNotFound, BadRange],
    ),
)
