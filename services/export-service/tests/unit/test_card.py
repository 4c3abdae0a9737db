"""The card of a dataset on the Hub."""

import yaml
from teleop_export.hub.card import MARK, MAX_TASKS, card

INFO = {
    "codebase_version": "v3.0",
    "robot_type": "so101_follower",
    "fps": 30,
    "total_episodes": 1200,
    "total_frames": 30 * 3725,
    "total_tasks": 2,
    "features": {
        "action": {"dtype": "float32", "shape": [2], "names": ["a.pos", "b|c"]},
        "observation.images.front": {"dtype": "video", "shape": [48, 64, 3], "names": None},
    },
}


def report(**of_session):
    session = {
        "session_id": 7, "committed": 1000, "exported": 990, "episodes": 3, "excluded": [], "gaps": [],
    }  # fmt: skip
    return {"committed": 1000, "excluded": 10, "exported": 990, "sessions": [session | of_session]}


def made(tasks=("pick",), info=INFO, **of_session):
    return card("lab/pick", info, report(**of_session), tasks, 1_234_567)


def test_front_matter_is_yaml_that_the_hub_reads():
    """With the tag by which LeRobot's datasets are found, and where the viewer finds rows."""
    _, front, text = made().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["tags"] == ["LeRobot"]
    assert told["configs"] == [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    assert MARK in text
    assert 'LeRobotDataset("lab/pick")' in text


def test_contents_and_features():
    """Figures for people; what means something to Markdown means nothing."""
    text = made()
    for row in (
        "| robot | so101\\_follower |",
        "| episodes | 1,200 |",
        "| duration | 1:02:05 |",
        "| cameras | front |",
        "| size | 1.2 MB |",
        "| `action` | float32 | 2 | a.pos, b\\|c |",
        "| `observation.images.front` | video | 48×64×3 |  |",
    ):
        assert row in text
    assert "| cameras | none |" in made(info=INFO | {"features": {"action": INFO["features"]["action"]}})


def test_tasks_are_lines_of_their_own():
    """Of very many only the first ones are listed, and the others counted."""
    text = made(tasks=["fold\n<b>it</b>", *(f"task {number}" for number in range(MAX_TASKS + 4))])
    assert "- fold \\<b\\>it\\</b\\>\n" in text
    assert f"- task {MAX_TASKS - 2}\n" in text
    assert f"- task {MAX_TASKS - 1}\n" not in text
    assert "… and 5 more." in text


def test_the_ledger_says_what_is_not_there_and_why():
    """Reasons are added up, lost frames and stalls counted."""
    text = made(
        excluded=[
            {"reason": "discarded", "frames": 4},
            {"reason": "outside of every episode", "frames": 3},
            {"reason": "discarded", "frames": 2},
        ],
        gaps=[{"first_frame": 5, "end_frame": 8}],
        times=[{"stalls": [{"seconds": 0.5}, {"seconds": 1.25}]}, {"stalls": []}],
        measured_hz=29.974,
        declared_fps=30.0,
    )
    assert "Frames recorded: 1,000; left out: 10; in this dataset: 990." in text
    (row,) = (line for line in text.splitlines() if line.startswith("| 7 | 1,000 | 990 | 3 | "))
    assert "29.97 Hz, 30 declared" in row
    for reason in ("6: discarded", "3: outside of every episode", "3 never recorded", "1.8 s"):
        assert reason in row


def test_reports_of_older_versions_tell_less():
    """Without rates, columns and what was not recorded there is a card all the same."""
    assert "| 7 | 1,000 | 990 | 3 |  |  |" in made()
    text = made(measured_hz=None, declared_fps=30.0)
    assert "| 3 | 30 Hz declared |" in text
    assert "Columns that" not in text
    assert "What the robot" not in text


def test_columns_that_are_not_as_they_were():
    """Each once, however many sessions have it; what is whole is not named."""
    left_out = {"name": "next.reward", "reason": "not in every row", "hint": "record it always"}
    told = report(columns_left_out=[left_out, left_out])
    told["columns"] = [{"name": "force", "not_finite": 1500}, {"name": "current", "not_finite": 0}]
    text = card("lab/pick", INFO, told, [], 0)
    assert "- `force` is NaN or infinite in 1,500 of the rows" in text
    assert text.count("- `next.reward` was left out: not in every row; record it always") == 1
    assert "current" not in text


def test_what_was_not_recorded_is_told_with_its_sessions():
    """One line for what several sessions lack for one reason."""
    lacking = [{"name": "top", "reason": "no picture came"}]
    told = report(not_recorded=lacking)
    told["sessions"].append(told["sessions"][0] | {"session_id": 8})
    assert "- `top` of session 7, 8: no picture came" in card("lab/pick", INFO, told, [], 0)


def test_episodes_that_were_cut_off_are_told():
    """Their recorder died before LeRobot saved them."""
    text = card("lab/pick", INFO, report(cut_off=[2]), [], 0)
    assert "- episode 2 of session 7: its recorder died before the episode was saved" in text
    assert "cut off" not in card("lab/pick", INFO, report(), [], 0)
