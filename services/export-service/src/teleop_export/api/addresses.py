"""What the addresses of exports name."""

from starlette.requests import Request

from teleop_export.errors import ExportNotFound
from teleop_export.planning.request import MAX_ID


def export_id_of(request: Request) -> int:
    """Export id of the address; raises ExportNotFound for one that no export can have."""
    export_id: int = request.path_params["export_id"]
    if not 1 <= export_id <= MAX_ID:
        raise ExportNotFound(f"there is no export {export_id}", field="export_id")
    return export_id
