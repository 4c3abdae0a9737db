"""Every row of an export has the pictures that its sample saw: LeRobot decodes, the pictures tell."""

import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_testing.datasets.recorded_video import STARTED_US

US_PER_S = 1_000_000
# Rates of the cameras where several are needed.
CAMERAS = {"front": 30, "wrist": 15}


def open_dataset(root, **more):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(f"lab/{root.name}", root=root, **more)


@pytest.fixture(params=["torchcodec", "pyav"])
def backend(request):
    """What LeRobot decodes with: its default, and what it falls back to."""
    if request.param == "torchcodec":
        try:
            import torchcodec  # noqa: F401
        except (ImportError, OSError, RuntimeError):
            pytest.skip("torchcodec finds no libraries of FFmpeg: apt-get install ffmpeg")
    return request.param


def counter(image):
    """The number drawn into a picture as LeRobot gives it: (3, height, width), 0 to 1."""
    return read_frame_counter((image.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8))


def sample(item, loop_fps=60.0):
    """Which iteration of the loop a row's sample is."""
    return round((item["capture.time_ns"].item() / 1000 - STARTED_US) * loop_fps / US_PER_S)


def check_rows(dataset, rows, videos, loop_fps=60.0):
    """Each row's pictures are those that its sample saw; the iterations that the rows are."""
    found = []
    for row in rows:
        item = dataset[row]
        iteration = sample(item, loop_fps)
        found.append(iteration)
        for video in videos:
            shown = counter(item[f"observation.images.{video.camera}"])
            assert shown == video.shown(iteration), f"row {row}, iteration {iteration}, {video.camera}"
    return found


def test_half_of_the_samples_with_a_slower_camera(exporter, backend):
    """A loop of 60 Hz with a camera of 30 fps becomes rows at 30 per second, across borders of segments."""
    session = exporter.record(300, [(0, 121, "pick", None), (130, 300, "place", None)])
    video = exporter.film(session, 300, "front", segment=17)
    root = exporter.export(session, f"half-{backend}")
    dataset = open_dataset(root, video_backend=backend)
    assert dataset.fps == 30
    assert check_rows(dataset, range(len(dataset)), [video]) == [*range(0, 121, 2), *range(130, 300, 2)]
    ages = [dataset[row]["capture.picture_age_ms"].item() for row in range(len(dataset))]
    np.testing.assert_allclose(ages, 4.0, atol=0.01)


def test_two_cameras_at_different_rates(exporter):
    """At the loop's own rate, pictures of both repeat, each at its own pace; many pictures in few files."""
    session = exporter.record(240, [(0, 100, "pick", None), (100, 240, "pick", None)])
    videos = [
        exporter.film(session, 240, "front", fps=30, segment=20),
        exporter.film(session, 240, "wrist", fps=25, segment=33, height=64, width=96),
    ]
    root = exporter.export(session, "two", fps=60)
    dataset = open_dataset(root)
    assert dataset.fps == 60
    assert check_rows(dataset, range(len(dataset)), videos) == list(range(240))
    assert len(list((root / "videos").rglob("*.mp4"))) == 2


def test_dropped_and_late_pictures(exporter):
    """A camera begins late, loses single pictures, and many at once: what nothing stands in for is cut out,
    and everything is named."""
    session = exporter.record(400, [(0, 200, "pick", None), (200, 400, "pick", None)])
    lost = [20, *range(60, 80), 130]
    front = exporter.film(session, 400, "front", first=9, lost=lost, segment=25)
    wrist = exporter.film(session, 400, "wrist", fps=20, segment=30)
    root = exporter.export(session, "lossy", fps=60)
    dataset = open_dataset(root)
    origins = json.loads((root / "meta/backend.json").read_text())
    gone = (front.taken[59].seen_at + 1, front.taken[80].seen_at)
    assert [(each["first_frame"], each["end_frame"]) for each in origins["episodes"]] == [
        (9, gone[0]),
        (gone[1], 200),
        (200, 400),
    ]
    # A lost picture is named from the iteration after the one before it on, so that one stands in from there.
    stood_in = {130: 3, 20: 3}
    iterations = check_rows(dataset, range(len(dataset)), [front, wrist])
    assert iterations == [*range(9, gone[0]), *range(gone[1], 400)]
    report = origins["report"]
    excluded = [(each["first_frame"], each["frames"]) for each in report["sessions"][0]["excluded"]]
    assert excluded == [(0, 9), (gone[0], gone[1] - gone[0])]
    told = {each["camera"]: each for each in report["cameras"]}["front"]
    assert told["stood_in"] == sum(stood_in.values())
    assert told["used"] == len(front.taken) - len(lost)
    assert told["used"] + told["repeated"] == len(dataset)
    assert (told["copied"], told["encoded"]) == (3, [])


def test_times_alone_are_enough(exporter):
    """Of a sender that does not know which iteration saw a picture, each row has the nearest in time."""
    session = exporter.record(200, [])
    video = exporter.film(session, 200, "front", times_only=True, segment=40)
    dataset = open_dataset(exporter.export(session, "timed"))
    for row in range(len(dataset)):
        item = dataset[row]
        at_us = item["capture.time_ns"].item() / 1000
        nearest = min(video.taken, key=lambda picture: abs(picture.captured_us - at_us))
        assert counter(item["observation.images.front"]) == nearest.number


@pytest.mark.parametrize(
    ("about", "asked", "told"),
    [
        ({"gop": 10}, {"fps": 60}, "not a keyframe"),
        ({"gop": 10, "b_frames": 2}, {}, "order"),
        ({"codec": "hevc"}, {"fps": 20}, None),
        ({"codec": "av1", "gop": 2}, {}, None),
        ({"codec": "av1", "gop": 2}, {"fps": 60}, "not a keyframe"),
        ({"gop": 5}, {}, None),
    ],
)
def test_other_kinds_of_video(exporter, about, asked, told):
    """Copied where packets can be taken as they are, else re-encoded, by episode, with the reason."""
    session = exporter.record(240, [(0, 120, "pick", None), (120, 240, "pick", None)])
    video = exporter.film(session, 240, "front", segment=30, height=128, width=128, **about)
    name = "-".join(str(value) for value in (*about.values(), *asked.values()))
    root = exporter.export(session, f"kind-{name}", **asked)
    dataset = open_dataset(root)
    check_rows(dataset, range(len(dataset)), [video])
    (camera,) = json.loads((root / "meta/backend.json").read_text())["report"]["cameras"]
    reasons = [each["reason"] for each in camera["encoded"]]
    assert len(reasons) == (2 if told else 0)
    assert all(told in reason for reason in reasons)
    assert dataset.features["observation.images.front"]["info"]["video.codec"] == about.get("codec", "h264")


def test_sessions_of_several_robots_become_one_dataset(exporter):
    """Whatever differs from the first session's video is encoded like it."""
    first = exporter.record(120, [], robot_id="robot_A")
    second = exporter.record(120, [], robot_id="robot_B")
    third = exporter.record(60, [], robot_id="robot_B", fps=30.0)
    videos = [
        exporter.film(first, 120, "front", segment=20),
        exporter.film(second, 120, "front", segment=20, codec="hevc", height=48),
        exporter.film(third, 60, "front", loop_fps=30.0),
    ]
    root = exporter.export([first, second, third], "robots", fps=30)
    dataset = open_dataset(root)
    assert [each["length"] for each in dataset.meta.episodes] == [60, 60, 60]
    for episode, video in enumerate(videos):
        loop_fps = 30.0 if episode == 2 else 60.0
        check_rows(dataset, range(60 * episode, 60 * episode + 60), [video], loop_fps)
    (camera,) = json.loads((root / "meta/backend.json").read_text())["report"]["cameras"]
    assert [each["episode_index"] for each in camera["encoded"]] == [1]


def test_long_episodes_stay_whole(exporter, backend):
    """Of 10, 50 and 20 minutes: LeRobot, which computes in single precision, finds all pictures of each."""
    fps, segment, edges = 10, 500, [0, 6_000, 36_000, 48_000]
    session = exporter.record(48_000, [(*pair, "pick", None) for pair in pairwise(edges)], fps=float(fps))
    exporter.film(session, 48_000, "front", loop_fps=float(fps), fps=fps, segment=segment, same_pictures=True)
    dataset = open_dataset(exporter.export(session, f"long-{backend}"), video_backend=backend)
    assert [each["length"] for each in dataset.meta.episodes] == [6_000, 30_000, 12_000]
    rows = {row for edge in edges[1:] for row in range(edge - 3, min(edge + 3, 48_000))}
    rows |= set(np.random.default_rng(0).integers(0, 48_000, 40).tolist())
    for row in sorted(rows):
        assert counter(dataset[row]["observation.images.front"]) == row % segment


def test_joints_alone(exporter):
    """An empty list of cameras leaves the video out."""
    session = exporter.record(60, [])
    exporter.film(session, 60, "front")
    dataset = open_dataset(exporter.export(session, "joints", cameras=[]))
    assert (len(dataset), dataset.fps, dataset.meta.video_keys) == (60, 60, [])


def test_first_and_last_row_of_many_episodes(exporter):
    """A larger export, thinned out to a rate that no camera has."""
    edges = list(range(0, 6001, 150))
    session = exporter.record(6000, [(*pair, "pick", None) for pair in pairwise(edges)])
    videos = [exporter.film(session, 6000, name, segment=300, fps=fps) for name, fps in CAMERAS.items()]
    dataset = open_dataset(exporter.export(session, "many", fps=25))
    assert dataset.num_episodes == 40
    ends = [(each["dataset_from_index"], each["dataset_to_index"] - 1) for each in dataset.meta.episodes]
    check_rows(dataset, [row for pair in ends for row in pair], videos)


@pytest.fixture(scope="module")
def filmed(exporter):
    """An export of two episodes with two cameras, and what they saw."""
    session = exporter.record(400, [(0, 200, "pick", None), (200, 400, "place", None)])
    videos = [exporter.film(session, 400, name, fps=fps) for name, fps in CAMERAS.items()]
    return exporter.export(session, "filmed"), videos


def test_delta_timestamps(filmed):
    """Pictures around a row, padded where its episode ends."""
    root, videos = filmed
    deltas = {f"observation.images.{video.camera}": [-2 / 30, 0, 1 / 30] for video in videos}
    dataset = open_dataset(root, delta_timestamps=deltas)
    for row in (50, 99, 100):
        item = dataset[row]
        for video in videos:
            shown = [counter(image) for image in item[f"observation.images.{video.camera}"]]
            first, last = (0, 99) if row < 100 else (100, 199)
            around = [min(max(row + step, first), last) * 2 for step in (-2, 0, 1)]
            assert shown == [video.shown(iteration) for iteration in around]
    assert dataset[99]["observation.images.front_is_pad"].tolist() == [False, False, True]


def test_statistics_of_pictures_are_close_to_those_that_lerobot_takes(filmed):
    """From some of the frames that it would sample, with the same weight: means and deviations within 0.01 of
    each episode's and the whole's, white being 1, extremes and quantiles within five levels of 256."""
    from lerobot.datasets.compute_stats import get_feature_stats, sample_indices

    root, _ = filmed
    dataset = open_dataset(root)
    episodes = pq.read_table(root / "meta/episodes").to_pylist()
    for camera in CAMERAS:
        key = f"observation.images.{camera}"
        parts = []
        for episode in episodes:
            begin = episode["dataset_from_index"]
            rows = [begin + row for row in sample_indices(episode["length"])]
            pixels = np.stack([(dataset[row][key].numpy() * 255).round().astype(np.uint8) for row in rows])
            theirs = get_feature_stats(pixels, axis=(0, 2, 3), keepdims=True)
            for name, value in theirs.items():
                ours = np.array(episode[f"stats/{key}/{name}"])
                scale = 1 if name == "count" else 255
                shape = (1,) if name == "count" else (3, 1, 1)
                assert ours.shape == shape
                tolerance = 0.01 if name in ("mean", "std") else 5 / 255
                np.testing.assert_allclose(ours, value.reshape(shape) / scale, atol=tolerance)
            parts.append(pixels)
        whole = np.concatenate(parts) / 255.0
        stats = dataset.meta.stats[key]
        assert stats["count"].tolist() == [len(whole)]
        np.testing.assert_allclose(stats["mean"].ravel(), whole.mean(axis=(0, 2, 3)), atol=0.01)
        np.testing.assert_allclose(stats["std"].ravel(), whole.std(axis=(0, 2, 3)), atol=0.01)


@pytest.mark.filterwarnings("ignore")
def test_streaming_safe_export_is_streamed(exporter):
    """StreamingLeRobotDataset shows each row's own pictures, all sessions' in one file."""
    from lerobot.datasets.streaming_dataset import StreamingLeRobotDataset

    sessions = [exporter.record(120, [(0, 60, "pick", None), (60, 120, "place", None)]) for _ in range(2)]
    videos = [exporter.film(session, 120, "front") for session in sessions]
    root = exporter.export(sessions, "streamed", streaming_safe=True)
    assert len(list((root / "videos").rglob("*.mp4"))) == len(list((root / "data").rglob("*.parquet"))) == 1
    streamed = StreamingLeRobotDataset("lab/streamed", root=root, shuffle=False, max_num_shards=1)
    rows = 0
    for item in streamed:
        video = videos[int(item["index"]) // 60]
        iteration = round((int(item["capture.time_ns"]) / 1000 - STARTED_US) * 60 / US_PER_S)
        assert counter(item["observation.images.front"]) == video.shown(iteration)
        rows += 1
    assert rows == 120


def test_splits_are_ranges_that_lerobot_loads(exporter):
    """Their episodes and pictures, each of them in exactly one; the same request draws the same."""
    edges = [*range(0, 241, 24)]
    session = exporter.record(240, [(first, end, "pick", None) for first, end in pairwise(edges)])
    video = exporter.film(session, 240, "front")
    root = exporter.export(session, "split", split={"train": 0.8, "val": 0.2}, split_seed=7)
    splits = json.loads((root / "meta/info.json").read_text())["splits"]
    assert splits == {"train": "0:8", "val": "8:10"}
    begun = []
    for each in splits.values():
        episodes = list(range(*map(int, each.split(":"))))
        dataset = open_dataset(root, episodes=episodes)
        assert len(dataset) == 12 * len(episodes)
        iterations = check_rows(dataset, range(len(dataset)), [video])
        assert iterations[::12] == sorted(iterations[::12])
        begun += iterations[::12]
    assert sorted(begun) == edges[:-1]
    assert begun != sorted(begun)
