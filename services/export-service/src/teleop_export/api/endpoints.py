"""HTTP: follow exports, fetch them, compare them."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from teleop_runtime.serving.content import (
    FILENAME,
    RANGE_HEADERS,
    answer_content,
    attachment,
    content_answers,
)
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import (
    Answer,
    JsonResponse,
    Operation,
    read_query,
)
from teleop_runtime.store.threads import read_file
from teleop_schema.errors import (
    BadInput,
    BadRange,
    NotFound,
)
from teleop_schema.identifiers import MAX_ID

from teleop_export.api.addresses import export_id_of
from teleop_export.api.archive import FolderTar
from teleop_export.api.report_text import report_text
from teleop_export.api.told import ToldExports
from teleop_export.errors import (
    ExportErased,
    ExportFilesGone,
    ExportNotFound,
    ExportNotReady,
    NotComparable,
)
from teleop_export.planning.comparing import Comparison, compare
from teleop_export.planning.views import ExportDetail, ExportFilter, ExportPage
from teleop_export.tables.export_table import ExportTable
from teleop_export.work.folders import Folders


async def list_exports(request: Request) -> Response:
    """Exports, newest first, a page at a time."""
    told: ToldExports = request.state.told_exports
    return JsonResponse(await told.page(read_query(request, ExportFilter)))


async def get_export(request: Request) -> Response:
    """One export: how far it is, what it consists of, which frames it holds and which not."""
    told: ToldExports = request.state.told_exports
    return JsonResponse(await told.detail(export_id_of(request)))


async def get_report(request: Request) -> Response:
    """The account of an export as text: what it consists of, and where every recorded frame is."""
    told: ToldExports = request.state.told_exports
    return PlainTextResponse(report_text(await told.detail(export_id_of(request))))


class ComparedWith(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which export to compare with.

    with  the other export, from which this one differs
    """

    baseline: Annotated[int, Meta(ge=1, le=MAX_ID)] = field(name="with")


async def compare_exports(request: Request) -> Response:
    """How one dataset differs from another: episodes added, removed, relabelled and cut otherwise."""
    exports: ExportTable = request.state.exports
    export_id, other = export_id_of(request), read_query(request, ComparedWith).baseline
    # The guard has asked this of the export in the address.
    if not caller_of(request).may_touch(await exports.robots_of(other)):
        raise ExportNotFound.of(other)
    found = [await exports.compared(each) for each in (export_id, other)]
    return JsonResponse(await asyncio.to_thread(compare, *found))


async def delete_export(request: Request) -> Response:
    """Cancel an export that is queued or running; remove one that has ended, with its files."""
    exports: ExportTable = request.state.exports
    folders: Folders = request.state.export_folders
    export_id = export_id_of(request)

    async def discard(name: str) -> None:
        await asyncio.to_thread(folders.discard, folders.published(export_id, name))

    await exports.remove(export_id, discard)
    return Response(status_code=204)


async def get_archive(request: Request) -> Response:
    """The dataset as an uncompressed tar stream in a folder of the dataset's name, or a range of it.

    It is the same each time.

    Its files have the time of publication, always later than that of earlier exports of that name.
    """
    folder, repo_id = await _published(request)
    name = repo_id.split("/")[1]
    archive = await asyncio.to_thread(FolderTar, folder, name)
    return await answer_content(
        request,
        archive.read,
        archive.size_bytes,
        etag=archive.etag,
        media_type="application/x-tar",
        headers=attachment(f"{name}.tar"),
    )


async def get_file(request: Request) -> Response:
    """One file of the dataset, or a range of it."""
    folder, _ = await _published(request)
    path = await asyncio.to_thread(partial(_find, folder, request.path_params["path"]))
    media = "application/json" if path.suffix == ".json" else "application/octet-stream"
    found = await asyncio.to_thread(path.stat)
    return await answer_content(
        request,
        partial(read_file, path),
        found.st_size,
        etag=f'"{found.st_mtime_ns:x}-{found.st_size:x}"',
        media_type=media,
    )


async def _published(request: Request) -> tuple[Path, str]:
    """Folder and repo_id of a finished export; raises ExportNotFound, ExportErased,
    ExportNotReady, ExportFilesGone."""
    exports: ExportTable = request.state.exports
    folders: Folders = request.state.export_folders
    export_id = export_id_of(request)
    status, name, repo_id = await exports.published(export_id)
    if status != "done":
        raise ExportNotReady(
            f"export {export_id} is {status}", hint=f"GET /exports/{export_id} has the details"
        )
    folder = folders.published(export_id, name)
    if not await asyncio.to_thread(folder.is_dir):
        raise ExportFilesGone.of(export_id)
    return folder, repo_id


def _find(folder: Path, path: str) -> Path:
    """The file at `path` below `folder`; raises NotFound for anything else, wherever it may point."""
    try:
        found = (folder / path).resolve()
        if found.is_relative_to(folder.resolve()) and found.is_file():
            return found
    except (OSError, ValueError):
        pass
    raise NotFound(f"the dataset has no file {path!r}", field="path")


OPERATIONS = (
    Operation(
        "GET",
        "/exports",
        list_exports,
        needs="browse",
        query=ExportFilter,
        answer=ExportPage,
        errors=[BadInput],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}",
        get_export,
        needs="browse",
        answer=ExportDetail,
        errors=[ExportNotFound, ExportErased],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/report.txt",
        get_report,
        needs="browse",
        answers=[Answer(200, "Text", media={"text/plain": str})],
        errors=[ExportNotFound, ExportErased],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/compare",
        compare_exports,
        needs="browse",
        query=ComparedWith,
        answer=Comparison,
        errors=[BadInput, ExportNotFound, ExportErased, NotComparable],
    ),
    Operation(
        "DELETE",
        "/exports/{export_id:int}",
        delete_export,
        needs="operate",
        status=204,
        errors=[ExportNotFound, ExportErased],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/archive",
        get_archive,
        needs="browse",
        headers=RANGE_HEADERS,
        answers=content_answers(["application/x-tar"], [FILENAME]),
        errors=[ExportNotFound, ExportErased, ExportFilesGone, ExportNotReady, BadRange],
    ),
    Operation(
        "GET",
        "/exports/{export_id:int}/files/{path:path}",
        get_file,
        needs="browse",
        headers=RANGE_HEADERS,
        answers=content_answers(["application/octet-stream", "application/json"]),
        errors=[ExportNotFound, ExportErased, ExportFilesGone, NotFound, ExportNotReady, BadRange],
    ),
)
