"""What needs no repair is left alone, and what is still being recorded, too."""

import shutil
import subprocess
import sys

import pytest
from teleop_dataset.errors import NotRepairable
from teleop_dataset.repair import find_sound, repair
from teleop_dataset.repair.__main__ import PROGRESS_S, Progress
from teleop_testing.datasets.repaired import DATA
from teleop_testing.waiting import PATIENCE_S


def test_a_closed_dataset_is_sound(recording):
    """As the real LeRobot left it."""
    sound = find_sound(recording.whole)
    assert (sound.episodes, sound.frames, sound.flags) == (4, 92, ())


@pytest.mark.parametrize(
    ("episode", "step"), [(0, "halfway"), (0, "done"), (3, "_save_episode_data"), (3, "done")]
)
def test_a_killed_recorders_dataset_is_not(recording, episode, step):
    """Not even right after an episode was saved."""
    assert find_sound(recording.state(episode, step)) is None


def test_damage_in_a_column_is_no_soundness(recording, tmp_path):
    """Footers, totals and numbering are right, but values can't be read."""
    source = shutil.copytree(recording.whole, tmp_path / "picking")
    data = bytearray((source / DATA).read_bytes())
    data[4:1000] = bytes(996)
    (source / DATA).write_bytes(data)
    assert find_sound(source) is None


def test_what_a_recorder_left_beside_sound_files_is_told(recording, tmp_path):
    """One that was killed in the first episode after it had resumed a closed dataset."""
    source = shutil.copytree(recording.whole, tmp_path / "picking")
    (source / "images/observation.images.front/episode-000004").mkdir(parents=True)
    assert find_sound(source).flags == ()
    (source / "images/observation.images.front/episode-000004/frame-000000.png").touch()
    assert find_sound(source).flags == ("images/ holds pictures of an episode that was not saved",)


def test_the_command_writes_nothing_then(recording, tmp_path):
    """It says what is there, and ends with 0."""
    command = [sys.executable, "-m", "teleop_dataset.repair", recording.whole, tmp_path / "repaired"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "nothing is wrong: 4 episodes, 92 frames; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_how_far_it_has_decoded(capsys):
    """Once in a while, because all the video of a large dataset takes long."""
    now_s = 0.0
    progress = Progress(lambda: now_s)
    for seen in range(31):
        progress(seen, 92)
        now_s += PROGRESS_S / 10
    said = capsys.readouterr().err.splitlines()
    assert said == [f"decoding every picture to find damaged ones: {seen} of 92" for seen in (10, 20, 30)]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells by /proc")
def test_what_is_being_recorded_is_not_repaired(recording, tmp_path):
    """The process that writes to it is named; once it is gone, the episodes come back."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "picking")
    holding = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, source / DATA], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as recorder:
        recorder.stdout.readline()
        with pytest.raises(NotRepairable, match=f"process {recorder.pid} is still recording"):
            repair(source, tmp_path / "repaired")
        recorder.kill()
    assert repair(source, tmp_path / "repaired").episodes == 3
