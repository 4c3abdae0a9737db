"""What can't be read or locked, or makes something fail, is named and ends nothing else."""

import pytest
from teleop_sync_agent.errors import DiskFull
from teleop_sync_agent.restoring import reaper
from teleop_sync_agent.sending import tender
from teleop_sync_agent.status import headline, read_status
from teleop_testing.backends.refusing import refuse
from teleop_testing.datasets.dataset_folders import make_dataset
from teleop_testing.robots.spooled import open_writer
from teleop_testing.waiting import PATIENCE_S, until


@pytest.fixture
def stream_dir(tmp_path):
    """A stream that was recorded and not sent."""
    writer = open_writer(tmp_path / "spool")
    writer.append_frame(1000, (1.0, 2.0))
    writer.close()
    (writer.stream_dir / "video/front").mkdir(parents=True)
    return writer.stream_dir


@pytest.mark.parametrize(
    "what", ["..", "session.json", "writer.lock", "shipper.lock", "video", "video/front"]
)
async def test_a_stream_of_somebody_else(make_agent, outputs, stream_dir, monkeypatch, what):
    """It is not called safe, but named; what lies beside it is brought."""
    refused = stream_dir.parent if what == ".." else stream_dir / what
    if what.startswith("video"):
        (stream_dir / "acked").write_text('{"next": 1, "ended": true}')
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    refuse(monkeypatch, refused)
    unsafe = await agent.once(PATIENCE_S)
    assert agent.state.dataset(str(folder)).state == "stored"
    (problem,) = agent.problems
    assert str(refused) in problem
    assert "Permission denied" in problem
    assert unsafe == [f"not sent: {problem}"]
    assert f"not sent: {problem}" in headline(read_status("robot_A", agent.state))


async def test_a_folder_below_the_watched_one(make_agent, outputs, monkeypatch):
    """There may be datasets in it; what the file system itself has for root is no such folder."""
    for name in ("closed", "lost+found"):
        (outputs / name).mkdir()
        refuse(monkeypatch, outputs / name)
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S)
    assert agent.state.dataset(str(folder)).state == "stored"
    assert agent.problems == (f"{outputs / 'closed'}: Permission denied",)


async def test_what_the_disk_refuses_is_tried_again_soon(make_agent, outputs, running, monkeypatch):
    """It is named, and once a person has put it right nothing else has to be done."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    in_the_way = outputs / ".uploaded/picking"
    in_the_way.touch()
    monkeypatch.setattr(tender, "RESCAN_S", 0.05)
    async with running(agent):
        failed = await until(
            lambda: (row := agent.state.dataset(str(folder))) and row.state == "failed" and row
        )
        assert str(in_the_way) in failed.error
        in_the_way.unlink()
        await until(lambda: agent.state.dataset(str(folder)).state == "stored")


async def test_a_link_to_a_dataset(make_agent, outputs, tmp_path):
    """It is not followed, and named, unless the dataset is looked after where it is."""
    for name, target in {"away": tmp_path / "elsewhere/away", "again": outputs / "picking"}.items():
        make_dataset(target)
        (outputs / name).symlink_to(target)
    (line,) = await make_agent().once(PATIENCE_S)
    assert line.startswith(f"not sent: {outputs / 'away'}: a symbolic link")
    assert line.endswith(f"watch {tmp_path / 'elsewhere'}")


async def test_a_dataset_without_an_info(make_agent, outputs):
    """Nothing says what is in it: it is named, with what to do; folders that only have such names are not."""
    torn = make_dataset(outputs / "torn")
    (torn / "meta/info.json").unlink()
    (outputs / "notes/data").mkdir(parents=True)
    (outputs / "notes/meta").mkdir()
    (line,) = await make_agent().once(PATIENCE_S)
    assert line.startswith(f"not sent: {torn}: it has the files of a dataset, but no meta/info.json")
    assert line.endswith(f"run `sync-agent repair {torn} --info FILE`")


async def test_an_info_that_nests_too_deeply(make_agent, outputs, monkeypatch):
    """It is no reason to end."""
    monkeypatch.setattr(tender, "ONCE_PATIENCE_S", 5.0)
    folder = make_dataset(outputs / "bad")
    info = (folder / "meta/info.json").read_text()
    (folder / "meta/info.json").write_text(info.rstrip()[:-1] + ', "x": ' + '{"a":' * 5000 + "1" + "}" * 5001)
    good = make_dataset(outputs / "good")
    agent = make_agent()
    assert await agent.once(PATIENCE_S)
    assert "nests too deeply" in agent.state.dataset(str(folder)).reason
    assert agent.state.dataset(str(good)).state == "stored"


async def test_a_dataset_that_makes_something_fail(make_agent, outputs, running, monkeypatch):
    """Whatever nobody foresaw: that one is failed with its reason, the others are brought."""
    bad, good = make_dataset(outputs / "bad"), make_dataset(outputs / "good")
    agent = make_agent()
    save = agent.tender._sync.save

    async def fail(place, *rest):
        if place.folder == bad:
            raise ValueError("a defect")
        return await save(place, *rest)

    monkeypatch.setattr(agent.tender._sync, "save", fail)
    async with running(agent):
        await until(lambda: {t.row.state for t in agent.datasets.tended.values()} == {"failed", "stored"})
        assert agent.datasets.tended[bad].row.error == "a defect"
        assert agent.datasets.tended[good].row.state == "stored"


async def test_a_memory_that_finds_no_room(make_agent, outputs, monkeypatch):
    """That is no dataset's failure: the agent ends, and says why."""
    make_dataset(outputs / "picking")
    agent = make_agent()

    def refuse_row(*_):
        raise DiskFull("the agent's memory can't be used: the disk is full")

    monkeypatch.setattr(agent.state, "note_stored", refuse_row)
    with pytest.raises(DiskFull):
        await agent.once(PATIENCE_S)


async def test_a_reclaimed_dataset_that_came_back(make_agent, outputs, running, monkeypatch):
    """What is noted of it is of the last time."""
    monkeypatch.setattr(reaper, "CHECK_S", 0.05)
    folder = make_dataset(outputs / "picking")
    note = outputs / ".uploaded/picking/reclaimed.json"
    note.parent.mkdir(parents=True)
    note.write_text("{}")
    async with running(make_agent(reclaim_below=10**18)):
        await until(lambda: not folder.exists() and note.exists())
        assert b'"version":1' in note.read_bytes()
