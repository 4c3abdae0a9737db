"""What the addresses of exports name."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from teleop_runtime.serving.operations import Header
from teleop_schema.identifiers import MAX_ID, FilePath

from teleop_export.errors import ExportNotFound

TAGS = {"exports": "Datasets made of sessions: ask for one, follow it, fetch it, have it pushed to the Hub"}
LOCATION = Header("Location", "Absolute address of the export", required=True)
NAMES = {
    "export_id": Annotated[int, Meta(ge=0, description="Number of the export", examples=[3])],
    "path": FilePath,
}


def export_id_of(request: Request) -> int:
    """Export id of the address; raises ExportNotFound for one that no export can have."""
    export_id: int = request.path_params["export_id"]
    if not 1 <= export_id <= MAX_ID:
        raise ExportNotFound.of(export_id)
    return export_id
