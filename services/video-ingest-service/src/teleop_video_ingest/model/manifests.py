"""Checks manifests of dataset versions; pure."""

from teleop_schema.errors import BadInput
from teleop_schema.files import Manifest
from teleop_schema.identifiers import check_file_path, local_path


def check_manifest(manifest: Manifest) -> None:
    """Raise BadInput, naming the file, unless all of them can lie in one folder of a disk.

    Every path is one that a dataset may have, only once, and not also the folder of another file; as files
    are called there, not as the server keeps them.
    """
    files: set[str] = set()
    folders: dict[str, int] = {}
    for number, file in enumerate(manifest.files):
        try:
            path = local_path(check_file_path(file.path))
        except BadInput as refusal:
            refusal.field = f"files[{number}].path"
            raise
        if path in files:
            raise BadInput(f"{path!r} appears twice", field=f"files[{number}].path")
        files.add(path)
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders[path] = number
    if both := files & folders.keys():
        path = min(both)
        raise BadInput(
            f"{path!r} is listed as a file, and as the folder of another file",
            field=f"files[{folders[path]}].path",
            hint="a disk can't hold both: list one of them in this version",
        )
