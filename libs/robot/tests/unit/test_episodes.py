import numpy as np
import pytest
from lerobot_robot_backend.lerobot.dataset_tap import IMAGES
from lerobot_robot_backend.lerobot.episodes import Added, EpisodeTracker, Step


class FakeClient:
    """Keeps what it is told; `frames` are those logged, each with its columns, or why it is missing."""

    def __init__(self) -> None:
        self.frames: list = []
        self.told: list[tuple] = []

    @property
    def logged(self) -> int:
        return len(self.frames)

    def lose(self, reason):
        self.frames.append(reason)

    def start_episode(self, task, *, first_frame):
        self.told.append(("start", task, first_frame))

    def change_task(self, task, *, first_frame):
        self.told.append(("task", task, first_frame))

    def pause_episode(self, first_frame, end_frame=None):
        self.told.append(("pause", first_frame, end_frame))

    def end_episode(self, outcome, *, note, end_frame):
        self.told.append(("end", outcome, note, end_frame))


class Loop:
    """A robot's loop beside a dataset; the joint is wherever the test puts it."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.tracker = EpisodeTracker(self.client, ["j"], ["j"], fps=8)
        self.observation: dict[str, float] | None = None
        self.sent = True
        self.added = False

    def observe(self, position: float = 0.0) -> float:
        self.observation, self.sent, self.added = {"j": position}, False, False
        return position

    def act(self, action: float = 0.0) -> None:
        self.sent = True
        self.tracker.step(Step(self.observation, {"j": action}, self.client.frames.append), hold=True)

    def add(
        self, number: int | None = None, state: float = 0.0, action: float = 0.0, task: str = "pick"
    ) -> None:
        frame = {"observation.state": np.float32([state]), "action": np.float32([action])}
        columns = {} if number is None else {"n": number}
        alone = [] if self.sent or self.added else [self.observation]
        log = self.client.frames.append
        added = Added(frame, columns, task, lambda columns: log({**columns, **alone[0]}))
        self.added |= self.tracker.add_frame(added, *(alone or [None]))

    def add_as_it_is(self, frame: dict, number: int) -> None:
        added = Added(frame, {"n": number}, "pick", self.client.frames.append)
        self.tracker.add_frame(added, self.observation)

    def steps(self, count: int, *, added: bool, task: str = "pick") -> None:
        for _ in range(count):
            self.observe()
            self.act()
            if added:
                self.add(task=task)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def numbers(loop: Loop) -> list:
    """Which frame of the dataset each logged one is."""
    return [frame if isinstance(frame, str) else (frame or {}).get("n") for frame in loop.client.frames]


def test_reset_phase_belongs_to_no_episode(loop):
    """The episode ends with the last frame of the dataset, not with the last frame before it is saved."""
    loop.steps(5, added=False)
    loop.steps(3, added=True)
    loop.steps(10, added=False)
    loop.tracker.save()
    loop.steps(2, added=True)
    loop.tracker.save()
    assert loop.client.told == [
        ("start", "pick", 5),
        ("pause", 8, None),
        ("end", None, None, 8),
        ("start", "pick", 18),
        ("end", None, None, 20),
    ]


def test_each_frame_has_its_task(loop):
    """As in LeRobot's dataset, where it may be another than that of the frame before; each episode begins
    with its own."""
    loop.steps(2, added=True, task="open")
    loop.steps(3, added=False)
    loop.steps(2, added=True, task="take")
    loop.steps(1, added=True, task="open")
    loop.tracker.save()
    loop.steps(2, added=True, task="open")
    assert loop.client.told == [
        ("start", "open", 0),
        ("pause", 2, None),
        ("pause", 2, 5),
        ("task", "take", 5),
        ("task", "open", 7),
        ("end", None, None, 8),
        ("start", "open", 8),
    ]


def test_frames_that_are_not_added_are_a_pause_of_the_episode(loop):
    """However many, between two that are: a person takes over, every third frame is added only."""
    loop.steps(2, added=True)
    loop.steps(4, added=False)
    loop.steps(1, added=True)
    loop.steps(1, added=False)
    loop.steps(1, added=True)
    loop.steps(3, added=False)
    loop.tracker.save()
    loop.tracker.let_go()
    assert loop.client.told == [
        ("start", "pick", 0),
        ("pause", 2, None),
        ("pause", 2, 6),
        ("pause", 7, 8),
        ("end", None, None, 9),
    ]
    assert loop.client.logged == 12


def test_a_pause_is_told_before_its_first_frame(loop):
    """Whenever the process is killed, at most the step that waits for its frame is not accounted for."""
    loop.steps(2, added=True)
    loop.steps(1, added=False)
    assert (loop.client.told, loop.client.logged) == ([("start", "pick", 0)], 2)
    log = []
    loop.client.pause_episode = lambda first, end=None: log.append((first, end, loop.client.logged))
    loop.steps(3, added=False)
    assert log == [(2, None, 2)]


def test_watching_in_the_reset_is_a_pause_too(loop):
    """Nobody acts while the scene is reset by hand: the first frame that is only observed begins it."""
    loop.steps(2, added=True)
    for _ in range(3):
        loop.observe()
        loop.tracker.without_action()
        loop.tracker.pass_over(loop.client.frames.append)
    assert loop.client.told == [("start", "pick", 0), ("pause", 2, None)]


def test_a_frame_is_logged_although_its_pause_cannot_be_told(loop):
    """The disk is full at that moment; the pause is told with the next one."""
    loop.steps(2, added=True)
    told, loop.client.pause_episode = loop.client.pause_episode, fail
    loop.steps(1, added=False)
    with pytest.raises(OSError, match="full"):
        loop.steps(1, added=False)
    assert loop.client.logged == 3
    loop.client.pause_episode = told
    loop.tracker.let_go()
    assert loop.client.told == [("start", "pick", 0), ("pause", 2, None)]


def fail(*_):
    raise OSError("the disk is full")


def test_usual_pauses_are_told_once_each(loop):
    """A recorder that adds every third frame tells one event more in each episode, not twice as many; one
    that lasts longer than usual, or than half a second whatever is usual, is told when it does."""
    for _ in range(2):
        loop.client.told.clear()
        for _ in range(5):
            loop.steps(1, added=True)
            loop.steps(2, added=False)
        begun = [told[1:] for told in loop.client.told if told[0] == "pause"]
        first = begun[0][0]
        assert begun == [(first, None), *((first + 3 * each, first + 3 * each + 2) for each in range(4))]
        loop.steps(2, added=False)
        assert loop.client.told[-1] == ("pause", first + 12, None)
        loop.steps(20, added=False)
        loop.steps(1, added=True)
        assert loop.client.told[-1][:2] == ("pause", first + 12)
        loop.client.told.clear()
        loop.steps(5, added=False)
        assert loop.client.told == []
        loop.steps(1, added=False)
        assert [told[2] for told in loop.client.told] == [None]
        loop.tracker.save()


def test_episode_recorded_again_is_discarded_once(loop):
    """Throwing an episode away tells so once; saving nothing tells nothing."""
    loop.steps(2, added=True)
    loop.tracker.discard("recorded again")
    loop.tracker.discard("the recording ended")
    loop.tracker.save()
    assert loop.client.told == [("start", "pick", 0), ("end", "discarded", "recorded again", 2)]


def test_frame_that_was_never_logged_opens_nothing(loop):
    """A dataset that is filled from elsewhere is no episode of this session."""
    loop.add()
    assert (loop.client.told, loop.tracker.not_placed) == ([], 0)


@pytest.mark.parametrize("moves", [True, False])
def test_frame_that_is_added_before_the_action_waits_for_it(loop, moves):
    """Its columns stay its own, episodes begin and end with their own actions, also of a robot at rest."""
    for number in range(6):
        position = loop.observe(float(number) if moves else 0.0)
        loop.add(number, position, float(number))
        loop.act(float(number))
        if number in (2, 5):
            loop.tracker.save()
    assert numbers(loop) == [0, 1, 2, 3, 4, 5]
    assert [each[-1] for each in loop.client.told] == [0, 3, 3, 6]


def test_environments_observe_once_more_before_they_add(loop):
    """What they add is the observation that the action followed, not the one that it led to."""
    position = loop.observe(0.0)
    for number in range(4):
        loop.act(float(number))
        before, position = position, loop.observe(number + 1.0)
        loop.add(number, before, float(number))
    loop.tracker.save()
    assert numbers(loop) == [0, 1, 2, 3]
    assert loop.client.told == [("start", "pick", 0), ("end", None, None, 4)]


def test_frame_whose_action_is_never_sent_is_what_the_dataset_has(loop):
    """Beside its own observation, in its own place, whether the episode is saved then or thrown away, or
    another frame is added."""
    for number in range(2):
        loop.add(number, loop.observe(float(number)))
        loop.act()
    loop.add(2, loop.observe(2.0))
    loop.add(3, loop.observe(3.0))
    loop.tracker.save()
    loop.add(4, loop.observe(4.0))
    loop.tracker.discard("recorded again")
    assert numbers(loop) == [0, 1, 2, 3, 4]
    assert [frame["j"] for frame in loop.client.frames[2:]] == [2.0, 3.0, 4.0]
    assert loop.client.told == [
        ("start", "pick", 0),
        ("end", None, None, 4),
        ("start", "pick", 4),
        ("end", "discarded", "recorded again", 5),
    ]


def test_one_observation_is_one_frame(loop):
    """A dataset that is filled from elsewhere meanwhile: nobody can say what the robot saw then."""
    loop.add(0, loop.observe(0.0))
    loop.add(1)
    loop.add(2)
    loop.act()
    loop.tracker.save()
    assert (numbers(loop), loop.tracker.not_placed) == ([0], 2)


def test_more_frames_than_actions_are_counted(loop):
    """A strategy that adds what it has buffered: nobody can say which steps that was."""
    loop.steps(5, added=False)
    for number in range(5):
        loop.add(number)
    loop.tracker.save()
    assert (loop.tracker.not_placed, loop.client.told) == (4, [("start", "pick", 4), ("end", None, None, 5)])


def environment(loop, positions, *, action, pictures=False):
    """What an environment's recorder does: it adds what it observed before it acted, once it has observed
    again; `action` is that of the frame.

    pictures  each observation has one, an array of its own
    """

    def observe(position):
        loop.observe(position)
        loop.observation["front"] = np.zeros(1)
        return dict(loop.observation)

    before = observe(positions[0])
    for number, position in enumerate(positions):
        loop.act(float(number))
        now = observe(position)
        frame = {"observation.state": np.float32([before["j"]]), "action": np.float32(action(number))}
        if pictures:
            frame |= {IMAGES + "front": before["front"]}
        loop.add_as_it_is(frame, number)
        before = now
    loop.tracker.save()


@pytest.mark.parametrize(("action", "pictures"), [([0.0, 1.0], False), ([0.0, 1.0], True), ([-1.0], True)])
def test_a_robot_at_rest_hides_no_order(loop, action, pictures):
    """Where the first observations are alike and actions are of another form than the robot's, pictures tell
    whose frame it is, and to act first is what is usual: no row is another's."""
    environment(loop, [0.0] * 5 + [1.0, 2.0, 3.0], action=lambda _: action, pictures=pictures)
    assert numbers(loop) == [*range(8)]
    assert loop.client.told == [("start", "pick", 0), ("end", None, None, 8)]


def test_a_wrong_order_is_corrected_once_the_robot_moves(loop):
    """Actions of the same number of values, scaled, tell wrongly; from the first motion on it is right."""
    environment(loop, [0.0] * 5 + [float(number) for number in range(1, 6)], action=lambda n: [10.0 * n + 1])
    assert numbers(loop)[6:] == [*range(6, 10)]
    assert loop.tracker.not_placed == 1


def test_adding_first_after_a_rest_is_told_by_the_pictures(loop):
    """Nothing moved while the scene was reset, and the first frames show the same joints and actions."""
    for number in range(8):
        loop.observe(0.0)
        loop.observation["front"] = np.zeros(1)
        if number >= 3:
            frame = {"observation.state": np.float32([0.0]), "action": np.float32([0.0])}
            frame |= {IMAGES + "front": loop.observation["front"]}
            loop.add_as_it_is(frame, number)
        loop.act(0.0)
    loop.tracker.save()
    loop.tracker.let_go()
    assert numbers(loop) == [None, None, None, *range(3, 8)]
