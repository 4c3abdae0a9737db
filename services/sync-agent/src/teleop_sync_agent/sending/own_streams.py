"""Which streams of the spool an agent sends: robots and agents of several servers may share one spool."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lerobot_robot_backend.spool.stream import SpoolError, find_streams, read_stream
from teleop_client.address import check_backend_url, same_backend

Kind = Literal["samples", "video"]
_SHIPPERS: dict[Kind, str] = {"samples": "shipper", "video": "video_shipper"}


@dataclass(frozen=True)
class OwnStreams:
    """The streams of one agent.

    Those of its robot, whatever address they were recorded for, because a server's address may change; of
    other robots only those that were recorded for its server, because what was recorded for another server
    is not for the people who read this one.
    """

    spool_dir: Path
    robot_id: str
    server: str

    def find(self) -> Iterator[Path]:
        """Their folders. A stream that can't be read is left out."""
        for stream_dir in find_streams(self.spool_dir):
            try:
                if self.includes(stream_dir):
                    yield stream_dir
            # Whoever looks through the whole spool reports it.
            except SpoolError:
                continue

    def includes(self, stream_dir: Path) -> bool:
        """Whether it is one of them; raises SpoolError if its description can't be read."""
        # The folder of a robot has its name, so nothing is read for most streams.
        return stream_dir.parent.name == self.robot_id or same_backend(
            read_stream(stream_dir).backend_url, self.server
        )

    def why_left_alone(self, kind: Kind, stream_dir: Path) -> str:
        """Text for people: why samples or video of another stream are not sent, and what sends them."""
        command = f"python -m lerobot_robot_backend.{_SHIPPERS[kind]} {stream_dir}"
        return (
            f"{kind} of {stream_dir.parent.name}, {stream_dir}: recorded for "
            f"{read_stream(stream_dir).backend_url}, and left alone: {command} sends it there; "
            f"with --backend_url {check_backend_url(self.server)} it sends it to this agent's server"
        )
