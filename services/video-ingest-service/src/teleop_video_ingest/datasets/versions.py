"""Makes versions of datasets: a version has all of its files, or does not exist."""

import asyncio

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import check_dataset
from teleop_runtime.postgres.pool import Pool, transaction
from teleop_runtime.store import Store
from teleop_schema.files import DatasetVersion, Manifest, digest_of
from teleop_schema.identifiers import check_dataset_name, check_robot_id

from teleop_video_ingest.datasets.version_notes import note_version
from teleop_video_ingest.errors import FilesMissing
from teleop_video_ingest.model.manifests import check_manifest
from teleop_video_ingest.tables.version_table import (
    absent_files,
    add_version,
    find_dataset,
    find_repair,
    newest_of_robot,
    view_of,
)

log = get_logger(__name__)

# A hundred thousand files take a few seconds.
WRITE_TIMEOUT_S = 120.0


async def commit_version(
    pool: Pool, store: Store, robot_id: str, dataset: str, manifest: Manifest
) -> tuple[DatasetVersion, bool]:
    """Make a version of exactly `manifest`, with its note in the store; returns it, and whether it is new.

    If it equals the newest one that came from the robot, it is not a new version.
    Raises BadInput, DatasetErased, DatasetNotFound, and FilesMissing.
    """
    check_robot_id(robot_id)
    check_dataset_name(dataset)
    await asyncio.to_thread(check_manifest, manifest)
    digest = await asyncio.to_thread(digest_of, manifest)
    async with transaction(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
        await check_dataset(connection, robot_id, dataset, hold=True)
        dataset_id = await find_dataset(connection, robot_id, dataset, lock=True)
        newest = await newest_of_robot(connection, dataset_id)
        if newest is not None and newest["manifest_sha256"] == digest:
            return view_of(newest, robot_id, dataset), False
        if absent := await absent_files(connection, dataset_id, manifest.files):
            raise FilesMissing(absent)
        row = await add_version(connection, dataset_id, manifest, digest)
        await note_version(connection, store, row["id"])
    version = view_of(row, robot_id, dataset)
    log.info("version", **_facts(version))
    return version, True


async def commit_repair(
    pool: Pool, store: Store, robot_id: str, dataset: str, manifest: Manifest, *, repaired_from: int
) -> DatasetVersion:
    """Make the version that results from a repair; the same repair again gives the same version.

    Its objects' rows have just been touched, so no sweep removes them meanwhile. Raises DatasetErased.
    """
    digest = await asyncio.to_thread(digest_of, manifest)
    async with transaction(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
        await check_dataset(connection, robot_id, dataset, hold=True)
        dataset_id = await find_dataset(connection, robot_id, dataset, lock=True)
        row = await find_repair(connection, dataset_id, repaired_from, digest)
        if row is None:
            row = await add_version(connection, dataset_id, manifest, digest, repaired_from=repaired_from)
            await note_version(connection, store, row["id"])
    version = view_of(row, robot_id, dataset)
    log.info("version", **_facts(version))
    return version


def _facts(version: DatasetVersion) -> dict[str, object]:
    return {
        "robot_id": version.robot_id,
        "dataset": version.dataset,
        "version": version.version,
        "source": version.source,
        "files": version.files,
        "size_bytes": version.size_bytes,
    }
