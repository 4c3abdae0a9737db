"""What the addresses of video-ingest-service name, such as `/datasets/{robot_id}/{name:path}…`."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from teleop_schema.errors import BackendError
from teleop_schema.identifiers import (
    DatasetName,
    FilePath,
    RobotId,
    check_dataset_name,
    check_file_path,
    check_robot_id,
)

FILES = "/files/"
TAGS = {
    "files": "Uploads that survive everything: announced (`/files/plan`), or by any client of tus 1.0",
    "upload": "One file in one request, as curl and browsers send it",
    "videos": "Chunks of the cameras' video",
    "datasets": "Datasets that robots have backed up, version by version",
    "hub": "The same datasets at the addresses of the Hugging Face Hub, for LeRobot's dataset visualizer",
    "sessions": "Recordings, their episodes, their frames, and their accounts",
}
NAMES = {
    "robot_id": RobotId,
    "name": DatasetName,
    "path": FilePath,
    "upload_id": Annotated[
        str,
        Meta(
            description="Id of the upload, a UUID: the last part of its `Location`",
            examples=["5b6d3c1e-8f1a-4a5e-9c57-6d9f0a2b7c41"],
        ),
    ],
    "session_id": Annotated[int, Meta(ge=0, description="Number of the session", examples=[7])],
    "video_id": Annotated[int, Meta(ge=0, description="Number of the video chunk", examples=[42])],
}


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
