import pytest
from lerobot_robot_backend.episodes import EpisodeTracker


class FakeClient:
    """Keeps what it is told; `logged` as the test says."""

    def __init__(self) -> None:
        self.logged = 0
        self.told: list[tuple] = []

    def start_episode(self, task, *, first_frame):
        self.told.append(("start", task, first_frame))

    def change_task(self, task, *, first_frame):
        self.told.append(("task", task, first_frame))

    def end_episode(self, outcome, *, note, end_frame):
        self.told.append(("end", outcome, note, end_frame))


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def record(client: FakeClient, tracker: EpisodeTracker, frames: int, task: str = "pick") -> None:
    for _ in range(frames):
        client.logged += 1
        tracker.add_frame(task)


def test_reset_phase_belongs_to_no_episode(client):
    """The episode ends with the last frame of the dataset, not with the last frame before it is saved."""
    tracker = EpisodeTracker(client)
    client.logged = 5
    record(client, tracker, 3)
    client.logged += 10
    tracker.save()
    record(client, tracker, 2)
    tracker.save()
    assert client.told == [
        ("start", "pick", 5),
        ("end", None, None, 8),
        ("start", "pick", 18),
        ("end", None, None, 20),
    ]


def test_each_frame_has_its_task(client):
    """As in LeRobot's dataset, where it may be another than that of the frame before; each episode begins
    with its own."""
    tracker = EpisodeTracker(client)
    record(client, tracker, 2, "open")
    client.logged += 3
    record(client, tracker, 2, "take")
    record(client, tracker, 1, "open")
    tracker.save()
    record(client, tracker, 2, "open")
    assert client.told == [
        ("start", "open", 0),
        ("task", "take", 5),
        ("task", "open", 7),
        ("end", None, None, 8),
        ("start", "open", 8),
    ]


def test_episode_recorded_again_is_discarded_once(client):
    """Throwing an episode away tells so once; saving nothing tells nothing."""
    tracker = EpisodeTracker(client)
    record(client, tracker, 2)
    tracker.discard("recorded again")
    tracker.discard("the recording ended")
    tracker.save()
    assert client.told == [("start", "pick", 0), ("end", "discarded", "recorded again", 2)]


def test_frame_that_was_never_logged_opens_nothing(client):
    """A dataset that is filled from elsewhere is no episode of this session."""
    EpisodeTracker(client).add_frame("pick")
    assert client.told == []
