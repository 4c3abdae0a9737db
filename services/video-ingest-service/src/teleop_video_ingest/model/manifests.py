"""Manifests of dataset versions: what is asked of them; pure."""

from teleop_schema.errors import BadInput
from teleop_schema.files import Manifest
from teleop_schema.identifiers import check_file_path


def check_manifest(manifest: Manifest) -> None:
    """Raise BadInput, naming the file, unless every path may lie in a dataset, and only once."""
    seen: set[str] = set()
    for number, file in enumerate(manifest.files):
        try:
            check_file_path(file.path)
        except BadInput as refusal:
            refusal.field = f"files[{number}].path"
            raise
        if file.path in seen:
            raise BadInput(f"{file.path!r} appears twice", field=f"files[{number}].path")
        seen.add(file.path)
