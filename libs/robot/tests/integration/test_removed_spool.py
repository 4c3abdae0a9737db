"""A spool that somebody removes or moves while a session is recorded into it."""

import asyncio
import shutil

import pytest
from lerobot_robot_backend.shipper import ship_all, ship_stream
from lerobot_robot_backend.shipping import sender
from lerobot_robot_backend.spool.segment import find_segments
from teleop_testing.robots.spooled import log_frames
from teleop_testing.waiting import until


def remove(client) -> None:
    shutil.rmtree(client.spool_dir)


def move(client) -> None:
    client.spool_dir.rename(client.spool_dir.with_name("moved"))


def remove_segments(client) -> None:
    for path in find_segments(client.stream_dir).values():
        path.unlink()


@pytest.mark.parametrize("lose", [remove, move, remove_segments])
async def test_it_is_told_and_nothing_is_called_safe(make_client, caplog, lose):
    """The terminal, `progress`, `drain` and the last line say it; the robot's loop goes on."""
    with make_client() as client:
        log_frames(client, 3)
        lose(client)
        await until(lambda: any("was removed or moved" in record.message for record in caplog.records))
        log_frames(client, 3)
        assert str(client.stream_dir) in client.progress.trouble
        assert "safe" not in client.summary()
    assert client.summary().startswith("6 frames logged; the spool was removed or moved: ")
    with pytest.raises(TimeoutError, match="removed or moved") as error:
        client.drain(0.0)
    assert "kept in" not in str(error.value)


async def test_removed_after_the_recording_it_is_not_called_safe(make_client):
    """What was recorded well can be removed before it has arrived."""
    with make_client() as client:
        log_frames(client, 3)
    assert "is safe in" in client.summary()
    remove(client)
    assert client.summary().startswith("3 frames logged; the spool was removed or moved: ")


@pytest.mark.parametrize("lose", [remove, move])
async def test_what_is_still_open_is_shipped_to_its_end(make_client, backend, monkeypatch, caplog, lose):
    """The shipper needs no name of a file that it has open; it complains of the folder once."""
    monkeypatch.setattr(sender, "LINGER_S", 0.01)
    with make_client() as client:
        shipping = asyncio.create_task(ship_stream(client.stream_dir))
        log_frames(client, 3)
        await until(lambda: client.acknowledged == 3)
        lose(client)
        for count in (4, 5, 6):
            log_frames(client, 1)
            await until(lambda count=count: backend.stream.next == count)
    assert await shipping
    assert (backend.stream.next, backend.stream.end.reason) == (6, "closed")
    assert sum("shipping continues" in record.message for record in caplog.records) == 1


async def test_moved_spool_can_be_shipped_whole(make_client, backend):
    """What was recorded before and after the move lies in one stream, at the new place."""
    with make_client() as client:
        log_frames(client, 3)
        move(client)
        log_frames(client, 3)
    assert await ship_all(client.spool_dir.with_name("moved")) == 1
    assert (backend.stream.next, backend.stream.end.reason) == (6, "closed")
