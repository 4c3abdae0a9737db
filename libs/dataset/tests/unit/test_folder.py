"""Dataset folders as they lie on a disk: found, and looked at."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset import folder
from teleop_dataset.finding import find_datasets
from teleop_dataset.folder import TableSeen, VideoSeen, look
from teleop_dataset.open_files import writers
from teleop_schema.disk.opening import open_regular
from teleop_testing.waiting import PATIENCE_S

DATA = "data/chunk-000/file-000.parquet"
SETTLED_S = 10


def make(root: Path, version: str = "v3.0") -> Path:
    """A small dataset folder, written a while ago."""
    (root / "meta").mkdir(parents=True)
    info = {"codebase_version": version, "fps": 30, "total_episodes": 1, "total_frames": 3, "features": {}}
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / DATA).parent.mkdir(parents=True)
    pq.write_table(pa.table({"index": [0, 1, 2]}), root / DATA, row_group_size=2)
    return root


def reasons(dataset: Path) -> dict[str, str]:
    return {skipped.path: skipped.reason for skipped in look(dataset).skipped}


def test_modules_for_looking_are_light():
    """A robot PC looks every minute: nothing heavy is imported for it."""
    code = (
        "import sys, teleop_dataset.finding, teleop_dataset.folder, teleop_dataset.readiness;"
        "print([m for m in ('pyarrow', 'numpy', 'av', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.strip() == "[]"


def test_datasets_are_found_wherever_they_lie(tmp_path):
    """At the root itself or below it, of any version; not in hidden folders, caches, or other datasets."""
    for name in ("user/picking", "placing", "old", "hub/x", ".cache/x", ".uploaded/x", "placing/videos/x"):
        make(tmp_path / name, "v2.1" if name == "old" else "v3.0")
    (tmp_path / "linked").symlink_to(tmp_path / "user")
    (tmp_path / "nothing/meta").mkdir(parents=True)
    found = [path.relative_to(tmp_path).as_posix() for path in find_datasets(tmp_path)]
    assert found == ["old", "placing", "user/picking"]
    assert list(find_datasets(tmp_path / "old")) == [tmp_path / "old"]
    assert list(find_datasets(tmp_path / "missing")) == []


def test_links_to_datasets_are_told(tmp_path):
    """They are not followed; other links are nobody's concern."""
    dataset = make(tmp_path / "elsewhere/picking")
    root = tmp_path / "outputs"
    root.mkdir()
    (root / "linked").symlink_to(dataset)
    for name, target in {"away": tmp_path / "missing", "round": root / "round", "other": tmp_path}.items():
        (root / name).symlink_to(target)
    refused: list[OSError] = []
    assert list(find_datasets(root, refused.append)) == []
    (error,) = refused
    assert (error.filename, error.target) == (str(root / "linked"), dataset)
    assert f"watch {tmp_path / 'elsewhere'}" in error.strerror


def test_search_ends_somewhere(tmp_path):
    """A name has so many parts and no more; what lies deeper could not be named."""
    deep = tmp_path.joinpath(*(str(number) for number in range(8)))
    make(deep)
    make(tmp_path.joinpath(*("x" for _ in range(9))))
    assert list(find_datasets(tmp_path)) == [deep]


def test_look_tells_what_is_there(tmp_path):
    """Files by their path, with what matters of their content."""
    dataset = make(tmp_path / "picking")
    (dataset / "README.md").write_text("hello")
    seen = look(dataset)
    assert sorted(seen.files) == ["README.md", DATA, "meta/info.json"]
    assert seen.files["README.md"].size_bytes == 5
    assert seen.files[DATA].content == TableSeen((2, 1))
    assert (seen.info.codebase_version, seen.info.total_frames) == ("v3.0", 3)
    assert (seen.temporary, seen.skipped, seen.changing, seen.writers) == ((), (), (), frozenset())


@pytest.mark.parametrize("content", [b"", b"{", b'{"codebase_version": 3}', b"\xff\xfe", b"[" * 100_000])
def test_torn_info_is_told(tmp_path, content):
    """info.json is rewritten in place: what can't be read yet is no error."""
    dataset = make(tmp_path / "picking")
    (dataset / "meta/info.json").write_bytes(content)
    seen = look(dataset)
    assert seen.info is None
    assert "meta/info.json" in seen.info_problem


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 rows PAR", b"PAR1" + b"\xff" * 50 + b"PAR1"])
def test_parquet_without_footer_is_unfinished(tmp_path, content):
    """However it ends: it has no rows that could be counted."""
    dataset = make(tmp_path / "picking")
    (dataset / DATA).write_bytes(content)
    assert look(dataset).files[DATA].content.row_groups is None


def test_broken_video_is_told(tmp_path):
    """An mp4 that can't be played says why; it is no error."""
    dataset = make(tmp_path / "picking")
    path = "videos/observation.images.front/chunk-000/file-000.mp4"
    (dataset / path).parent.mkdir(parents=True)
    (dataset / path).write_bytes(b"<html>")
    seen = look(dataset).files[path]
    assert (seen.content, seen.camera) == (
        VideoSeen(problem="the mp4 has no moov yet"),
        "observation.images.front",
    )
    assert not seen.content.playable


def test_what_is_no_part_of_a_dataset_is_named(tmp_path):
    """Links, pipes, what no server takes, and names that no escaping makes storable are skipped, never
    followed, and told."""
    dataset = make(tmp_path / "picking")
    secret = tmp_path / "secret.json"
    secret.touch()
    (dataset / "meta/link.json").symlink_to(secret)
    (dataset / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(dataset / "pipe.json")
    (dataset / ("x" * 250)).touch()
    with (dataset / "sparse.bin").open("wb") as file:
        file.truncate(1 << 40)
    found = reasons(dataset)
    assert found["sparse.bin"].startswith("larger than")
    assert found["meta/link.json"] == found["elsewhere"] == "a symbolic link"
    assert found["pipe.json"] == "neither a file nor a folder"
    assert "a part has more than 255 bytes (escaped" in found["x" * 250]
    assert len(found) == 5
    assert sorted(look(dataset).files) == [DATA, "meta/info.json"]


def test_names_that_the_server_has_no_place_for_are_escaped(tmp_path):
    """They are part of the dataset; a camera with a colon in its name is still a camera."""
    dataset = make(tmp_path / "picking")
    video = "videos/observation.images.arm:left/chunk-000/file-000.mp4"
    for path in (video, "run.sh", "a\nb.json"):
        (dataset / path).parent.mkdir(parents=True, exist_ok=True)
        (dataset / path).write_bytes(b"<html>")
    seen = look(dataset)
    assert sorted(file.own_path for file in seen.files.values()) == sorted(
        [DATA, "meta/info.json", "a\nb.json", "run.sh", video]
    )
    assert (seen.skipped, seen.changing) == ((), ())
    assert [file.camera for file, _ in seen.videos()] == ["observation.images.arm:left"]


def test_temporary_folders_are_not_looked_into(tmp_path):
    """LeRobot's pictures and encodings of an episode, huggingface_hub's notes, receipts."""
    dataset = make(tmp_path / "picking")
    for name in ("images/observation.images.front", "tmpab12_34x", ".cache/huggingface/upload", ".uploaded"):
        (dataset / name).mkdir(parents=True)
        (dataset / name / "frame-000000.png").touch()
    seen = look(dataset)
    assert sorted(seen.files) == [DATA, "meta/info.json"]
    assert (seen.temporary, seen.skipped) == (("images", "tmpab12_34x"), ())


def test_all_else_is_part_of_a_dataset(tmp_path):
    """Hidden files, as a dataset of the Hub has one, and folders that are only called alike."""
    dataset = make(tmp_path / "picking")
    own = (
        ".gitattributes",
        "meta/.notes/a.json",
        ".cache/a.json",
        "meta/images/b.png",
        "tmp/c.md",
        "tmpab12_34x",
    )
    for path in own:
        (dataset / path).parent.mkdir(parents=True, exist_ok=True)
        (dataset / path).touch()
    seen = look(dataset)
    assert sorted(file.own_path for file in seen.files.values()) == sorted([DATA, "meta/info.json", *own])
    assert (seen.temporary, seen.skipped) == ((), ())


def test_nothing_is_read_twice(tmp_path, monkeypatch):
    """While size, times and inode stay, what was found in a file is not looked for again."""
    dataset = make(tmp_path / "picking")
    monkeypatch.setattr(folder, "_CLOCK_TICK_NS", 0)
    first = look(dataset)
    opened: list[Path] = []
    monkeypatch.setattr(folder, "open_regular", lambda path: opened.append(path) or open_regular(path))
    again = look(dataset, first)
    assert opened == [dataset / "meta/info.json"]
    assert again.files == first.files
    assert again.same_since_ns == first.looked_at_ns
    pq.write_table(pa.table({"index": [0]}), dataset / DATA)
    changed = look(dataset, again)
    assert changed.files[DATA].content == TableSeen((1,))
    assert changed.same_since_ns == changed.looked_at_ns


@pytest.mark.parametrize("jump_s", [-3600, 3 * 24 * 3600])
def test_a_jump_of_the_clock_is_no_time_that_passed(tmp_path, monkeypatch, jump_s):
    """Between two looks: what had just changed is neither waited for as long, nor taken for long settled."""
    dataset = make(tmp_path / "picking")
    begun = time.monotonic_ns()
    first = look(dataset)
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + jump_s * 10**9)
    again = look(dataset, first)
    assert 0 < again.looked_at_ns - again.same_since_ns < time.monotonic_ns() - begun


def test_when_a_file_was_seen_otherwise(tmp_path):
    """The last look before its change, kept by looks that see it unchanged; none, if all saw the same."""
    dataset = make(tmp_path / "picking")
    first = look(dataset)
    second = look(dataset, first)
    pq.write_table(pa.table({"index": [0]}), dataset / DATA)
    third = look(dataset, second)
    fourth = look(dataset, third)
    assert [each.files[DATA].otherwise_ns for each in (first, second, third, fourth)] == [
        None, None, second.looked_at_ns, second.looked_at_ns,
    ]  # fmt: skip
    assert fourth.files["meta/info.json"].otherwise_ns is None


def test_young_files_are_read_again(tmp_path):
    """A file that has just been written may change once more within the same tick of the clock."""
    dataset = make(tmp_path / "picking")
    first = look(dataset)
    found = (dataset / DATA).stat()
    rewritten = bytearray((dataset / DATA).read_bytes())
    rewritten[-1] = 0
    with (dataset / DATA).open("r+b") as file:
        file.write(rewritten)
    os.utime(dataset / DATA, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert look(dataset, first).files[DATA].content == TableSeen(None)


def test_change_during_the_look_is_noticed(tmp_path, monkeypatch):
    """A file that grows while being looked at makes the look one of no moment."""
    dataset = make(tmp_path / "picking")
    original = folder._look_at_table

    def growing(file, size):
        with (dataset / DATA).open("ab") as more:
            more.write(b"rows")
        return original(file, size)

    monkeypatch.setattr(folder, "_look_at_table", growing)
    assert look(dataset).changing == (DATA,)


def test_link_swapped_in_is_not_followed(tmp_path):
    """Between the listing and the reading somebody may replace a file."""
    target = tmp_path / "secret"
    target.write_text("secret")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        open_regular(tmp_path / "link")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_named(tmp_path):
    """LeRobot's mp4 files are readable by their owner only."""
    dataset = make(tmp_path / "picking")
    (dataset / DATA).chmod(0)
    assert reasons(dataset)[DATA].startswith("unreadable")


def test_folder_that_is_gone(tmp_path):
    """It may be moved aside at any time."""
    seen = look(tmp_path / "missing")
    assert (dict(seen.files), seen.info) == ({}, None)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells by /proc")
def test_who_writes_is_told(tmp_path):
    """The recorder holds its Parquet file open for writing; who only reads it is not meant."""
    dataset = make(tmp_path / "picking")
    (dataset / DATA).write_bytes(b"PAR1")
    code = f"import time; f = open({str(dataset / DATA)!r}, {{!r}}); print(flush=True); time.sleep(60)"
    with (
        subprocess.Popen([sys.executable, "-c", code.format("ab")], stdout=subprocess.PIPE) as writer,
        subprocess.Popen([sys.executable, "-c", code.format("rb")], stdout=subprocess.PIPE) as reader,
    ):
        writer.stdout.readline()
        reader.stdout.readline()
        assert look(dataset).writers == {writer.pid}
        writer.kill()
        writer.wait()
        assert look(dataset).writers == frozenset()
        reader.kill()


def test_machine_without_proc_asks_lsof(tmp_path, monkeypatch):
    """macOS has no /proc; where there is no lsof either, nobody knows."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("teleop_dataset.open_files._PROC", tmp_path / "no-proc")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert writers([tmp_path / "file"]) is None
    lsof = tmp_path / "lsof"
    lsof.write_text("#!/bin/sh\nprintf 'p12\\nf3\\nar\\np34\\nf4\\naw\\nf5\\nar\\np56\\nf1\\nau\\n'\n")
    lsof.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert writers([tmp_path / "file"]) == {34, 56}


def test_a_copy_takes_the_time_of_its_making(tmp_path):
    """Copies keep the times of their originals; when their bytes came to lie here tells `changed_ns`."""
    dataset = make(tmp_path / "picking")
    for path in dataset.rglob("*"):
        os.utime(path, (0, 0))
    begin = time.time_ns() - 10**9
    shutil.copytree(dataset, tmp_path / "copy")
    seen = look(tmp_path / "copy").files[DATA]
    assert seen.mtime_ns == 0
    assert seen.changed_ns > begin
