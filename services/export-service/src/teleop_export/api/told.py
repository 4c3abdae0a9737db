"""Exports as they are told over HTTP: one whose files are gone has failed, whatever its row says."""

import asyncio
from collections.abc import Collection
from typing import Protocol

from msgspec import structs
from teleop_runtime.serving.problems import as_problem

from teleop_export.errors import ExportFilesGone
from teleop_export.planning.views import ExportDetail, ExportFilter, ExportPage, ExportView
from teleop_export.work.folders import Folders


class Rows(Protocol):
    """The exports' rows; `ExportTable` has them."""

    async def get(self, export_id: int) -> ExportDetail:
        """As `ExportTable.get`."""

    async def state(self, export_id: int) -> ExportView:
        """As `ExportTable.state`."""

    async def page(self, wanted: ExportFilter, kept: Collection[str] | None) -> ExportPage:
        """As `ExportTable.page`."""

    async def published(self, export_id: int) -> tuple[str, str, str]:
        """As `ExportTable.published`."""


class ToldExports:
    """What became of exports. Every method raises StorageUnavailable when the database is away."""

    def __init__(self, exports: Rows, folders: Folders) -> None:
        self._exports = exports
        self._folders = folders

    async def detail(self, export_id: int) -> ExportDetail:
        """One export with its account; raises ExportNotFound, ExportErased."""
        return await self._told(await self._exports.get(export_id))

    async def state(self, export_id: int) -> ExportView:
        """One export without its account; raises ExportNotFound, ExportErased."""
        return await self._told(await self._exports.state(export_id))

    async def page(self, wanted: ExportFilter) -> ExportPage:
        """Up to `limit` exports older than the one `cursor` names, newest first."""
        kept = await asyncio.to_thread(self._folders.kept)
        page = await self._exports.page(wanted, kept)
        if not any(_is_lost(export) for export in page.exports):
            return page
        # What was published after the first look is not lost.
        came = {name.split("-")[0] for name in await asyncio.to_thread(self._folders.kept) or ()}
        told = [
            structs.replace(export, status="done") if str(export.id) in came and _is_lost(export) else export
            for export in page.exports
        ]
        wanted_of = [_with_reason(export) for export in told if wanted.status in (None, export.status)]
        return structs.replace(page, exports=wanted_of)

    async def has_lost_files(self, export_id: int) -> bool:
        """Whether the export was finished, and its files are gone since; raises as `state`."""
        status, fingerprint, _ = await self._exports.published(export_id)
        return status == "done" and await asyncio.to_thread(self._folders.has_lost, export_id, fingerprint)

    async def _told[View: ExportView](self, export: View) -> View:
        if export.status == "done" and await self.has_lost_files(export.id):
            return _with_reason(structs.replace(export, status="failed"))
        return export


def _is_lost(export: ExportView) -> bool:
    """Whether it failed without a problem of its own: it was done once."""
    return export.status == "failed" and export.error is None


def _with_reason[View: ExportView](export: View) -> View:
    if not _is_lost(export):
        return export
    return structs.replace(export, error=as_problem(ExportFilesGone.of(export.id)))
