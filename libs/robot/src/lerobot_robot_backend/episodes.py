"""Episodes of a LeRobot dataset, told as episodes of the session."""

from lerobot_robot_backend.client import TelemetryClient


class EpisodeTracker:
    """Follows what LeRobot does with its dataset.

    A frame belongs to the episode if LeRobot added it to the dataset; the frames of the phase in which the
    scene is reset are recorded, too, and belong to none. Numbers are the session's own: an episode that is
    recorded again is told as discarded, and gets a new number.
    """

    def __init__(self, client: TelemetryClient) -> None:
        self._client = client
        self._end_frame: int | None = None
        self._task: str | None = None

    def add_frame(self, task: str | None) -> None:
        """LeRobot has added the frame that was logged last."""
        logged = self._client.logged
        if logged == 0:
            return
        if self._end_frame is None:
            self._client.start_episode(task, first_frame=logged - 1)
        elif task is not None and task != self._task:
            self._client.change_task(task, first_frame=logged - 1)
        self._end_frame, self._task = logged, task

    def save(self) -> None:
        """LeRobot has saved the episode."""
        self._finish(discarded=None)

    def discard(self, why: str) -> None:
        """LeRobot has thrown the episode away."""
        self._finish(discarded=why)

    def _finish(self, *, discarded: str | None) -> None:
        if self._end_frame is None:
            return
        end_frame, self._end_frame = self._end_frame, None
        self._client.end_episode("discarded" if discarded else None, note=discarded, end_frame=end_frame)
