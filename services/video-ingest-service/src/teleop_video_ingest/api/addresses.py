"""Datasets as addresses name them: `/datasets/{robot_id}/{name:path}…`."""

from starlette.requests import Request
from teleop_schema.errors import BackendError
from teleop_schema.identifiers import check_dataset_name, check_file_path, check_robot_id

FILES = "/files/"


def dataset_of(request: Request) -> tuple[str, str]:
    """(robot_id, dataset) of the address; raises BadInput for a name that no dataset can have."""
    robot_id = check_robot_id(request.path_params["robot_id"])
    return robot_id, check_dataset_name(request.path_params["name"])


def files_of(request: Request) -> list[tuple[str, str]]:
    """(dataset, path) that the address of a file may mean: "files" may also be a folder within either.

    Raises BadInput if there is none.
    """
    address = request.path_params["name"] + FILES + request.path_params["path"]
    pieces = address.split(FILES)
    meanings, refusals = [], []
    for cut in range(1, len(pieces)):
        dataset, path = FILES.join(pieces[:cut]), FILES.join(pieces[cut:])
        try:
            meanings.append((check_dataset_name(dataset), check_file_path(path)))
        except BackendError as refusal:
            refusals.append(refusal)
    if not meanings:
        raise refusals[0]
    return meanings
