"""Pushing to a stand-in of the Hub that speaks what huggingface_hub asks of the real one."""

import asyncio
import json
import os
import subprocess
import sys

import httpx
import pytest
from teleop_export.hub import settings as hub_settings
from teleop_export.work import in_thread
from teleop_testing.backends.hub import TOKEN, hub_serving
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S

REPO = "lab/pick"

# huggingface_hub's own, in what it calls of httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that the services started after this push to, with the token that it wants."""
    with hub_serving(tmp_path / "hub") as (hub, endpoint):
        for name, value in environment(endpoint, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield hub


def environment(endpoint, tmp_path):
    return {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }


@pytest.fixture(autouse=True)
def no_xet(monkeypatch):
    """The stand-in speaks the Hub's older protocol; huggingface_hub reads its environment when imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


async def pushed(backend, export_id):
    """The export once its push has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            export = (await backend.http.get(f"/exports/{export_id}")).json()
            if export["push"]["status"] in ("done", "failed"):
                return export
            await asyncio.sleep(0.05)


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def push(backend, *sessions, **how):
    export, folder = await backend.export(*sessions, push_to_hub=how)
    return (await pushed(backend, export["id"]))["push"], folder


async def test_push_is_the_dataset_in_one_private_tagged_commit(hub, backend, record):
    """Every file of the folder, a card, and the tag that LeRobot looks for."""
    made, folder = await push(backend, await record(300, episodes=[(0, 100), (100, 300)]))
    assert made["status"] == "done", made
    assert hub.repo(REPO)["private"]
    assert hub.repo(REPO)["tags"] == {"v3.0": hub.repo(REPO)["head"]}
    assert made["commit_url"].endswith(f"/datasets/{REPO}/commit/{hub.repo(REPO)['head']}")
    assert len(hub.commits(REPO)) == 2
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(hub.files(REPO)) == {*files, "README.md", ".gitattributes"}
    for name, path in files.items():
        if name != "meta/backend.json":
            assert hub.content(REPO, name) == path.read_bytes()
    assert made["done_bytes"] == made["total_bytes"] > 0
    card = hub.content(REPO, "README.md").decode()
    assert "- LeRobot" in card
    assert "data_files: data/*/*.parquet" in card
    assert "Frames recorded: 300; left out: 0; in this dataset: 300." in card


async def test_lerobot_loads_what_was_pushed(hub, backend, record, tmp_path):
    """`LeRobotDataset(repo_id)` without a root: version from the tag, files from the Hub."""
    made, _ = await push(backend, await record(120, task="pick"))
    assert made["status"] == "done", made
    script = (
        "from lerobot.datasets.lerobot_dataset import LeRobotDataset\n"
        f"dataset = LeRobotDataset({REPO!r})\n"
        "print(len(dataset), dataset[119]['task'], dataset.revision)\n"
    )
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script],
        env={**os.environ, "HF_LEROBOT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == ["120", "pick", "v3.0"], told.stderr


async def test_later_push_of_the_same_recordings_replaces_the_earlier(hub, backend, record):
    """The tag moves along, files that are no more are deleted, and what is unchanged is not sent again."""
    first, second = await record(100), await record(50)
    await push(backend, first)
    head = hub.repo(REPO)["head"]
    hub.put(REPO, {"data/chunk-000/file-001.parquet": b"stale", "notes.md": b"mine"})
    made, _ = await push(backend, first, second)
    assert made["status"] == "done", made
    assert hub.repo(REPO)["tags"] == {"v3.0": hub.repo(REPO)["head"]}
    assert hub.repo(REPO)["head"] != head
    assert json.loads(hub.content(REPO, "meta/info.json"))["total_frames"] == 150
    assert "data/chunk-000/file-001.parquet" not in hub.files(REPO)
    assert hub.content(REPO, "notes.md") == b"mine"


async def test_pushing_again_what_is_there_changes_nothing(hub, backend, record):
    """No commit, no upload; the push is done and tells the commit that is there."""
    session = await record(100)
    export, _ = await backend.export(session, push_to_hub={})
    first = (await pushed(backend, export["id"]))["push"]
    assert (await backend.ask(session, push_to_hub={}))["push"]["commit_url"] == first["commit_url"]
    answer = await backend.http.post(f"/exports/{export['id']}/push", json={})
    assert answer.status_code == 202
    again = (await pushed(backend, export["id"]))["push"]
    assert again["commit_url"].split("/")[-1] == hub.repo(REPO)["head"]
    assert len(hub.commits(REPO)) == 2
    assert sum("/upload/" in request for request in hub.requests()) == len(
        [path for path in hub.files(REPO) if path.endswith(".parquet")]
    )


@pytest.mark.parametrize(
    "content",
    [
        {"train.csv": b"somebody's"},
        {"meta/backend.json": b'{"origin": {"streams": ["another recording"]}}'},
        {"meta/backend.json": b"\xff[not json"},
        {"meta/backend.json": b'{"origin": 7}'},
    ],
)
async def test_foreign_content_is_not_overwritten(hub, backend, record, content):
    """The push fails by name, nothing changes there, and the export stays published here."""
    hub.make(REPO, {".gitattributes": b"", **content})
    head = hub.repo(REPO)["head"]
    made, folder = await push(backend, await record(100))
    assert (made["status"], made["error"]["code"]) == ("failed", "hub_foreign_content")
    assert "overwrite" in made["error"]["hint"]
    assert hub.repo(REPO)["head"] == head
    assert folder.is_dir()


async def test_foreign_content_is_overwritten_if_told_so(hub, backend, record):
    """By pushing alone, without making the export anew."""
    hub.make(REPO, {"data/chunk-000/file-007.parquet": b"somebody's", "README.md": b"somebody's"})
    session = await record(100)
    export, folder = await backend.export(session, push_to_hub={})
    assert (await pushed(backend, export["id"]))["push"]["status"] == "failed"
    made_at = folder.stat().st_mtime_ns
    await backend.http.post(f"/exports/{export['id']}/push", json={"overwrite": True})
    assert (await pushed(backend, export["id"]))["push"]["status"] == "done"
    assert "data/chunk-000/file-007.parquet" not in hub.files(REPO)
    assert b"LeRobot" in hub.content(REPO, "README.md")
    assert folder.stat().st_mtime_ns == made_at


async def test_foreign_tag_is_not_moved(hub, backend, record):
    """A version tag that somebody put on other content is their dataset, even on an emptied branch."""
    theirs = hub.make(REPO, {"data/theirs.parquet": b"x"})
    repo = hub.repo(REPO) | {"tags": {"v3.0": theirs}, "head": None}
    hub._save(REPO, repo)
    hub.put(REPO, {".gitattributes": b""})
    made, _ = await push(backend, await record(100))
    assert made["error"]["code"] == "hub_foreign_content"
    assert hub.repo(REPO)["tags"] == {"v3.0": theirs}


async def test_card_of_a_person_stays(hub, backend, record):
    """A README that says it is not ours any more is left alone."""
    hub.make(REPO, {".gitattributes": b"", "README.md": b"# My own words"})
    made, _ = await push(backend, await record(100))
    assert made["status"] == "done", made
    assert hub.content(REPO, "README.md") == b"# My own words"


async def test_private_push_does_not_go_into_a_public_repository(hub, backend, record):
    """Unless the request says that it may be public."""
    hub.make(REPO, {".gitattributes": b""}, private=False)
    session = await record(100)
    made, _ = await push(backend, session)
    assert (made["status"], made["error"]["code"]) == ("failed", "hub_repo_public")
    made, _ = await push(backend, session, private=False)
    assert made["status"] == "done"


async def test_public_push_makes_a_public_repository(hub, backend, record):
    """Only on request."""
    await push(backend, await record(100), private=False)
    assert hub.repo(REPO)["private"] is False


async def test_hub_that_is_away_is_tried_again(hub, backend, record):
    """A push that the Hub could not take goes on by itself; meanwhile the export tells why it waits."""
    hub.failures += [500] * 3
    made, _ = await push(backend, await record(100))
    assert made["status"] == "done", made
    assert made["error"] is None


async def test_refused_token_fails_the_push_at_once(hub, serve, record, monkeypatch, database):
    """And is told to nobody."""
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    async with serve() as backend:
        made, _ = await push(backend, await record(100))
    assert (made["status"], made["error"]["code"]) == ("failed", "hub_refused")
    for table in ("export", "export_push", "procrastinate_jobs", "procrastinate_events"):
        rows = await database.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t")
        assert not [row for row in rows if "hf_" in row["row"]]


async def test_token_is_named_not_sent(hub, serve, record, monkeypatch, tmp_path):
    """A request names a file of the worker's; a token in its place is refused without being repeated."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "lab").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("HUB_TOKENS", str(tokens))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(hub_settings, "get_token", lambda: None)
    async with serve() as backend:
        session = await record(100)
        refused = await backend.ask(session, status=422, push_to_hub={"token_name": TOKEN})
        assert refused["field"] == "token_name"
        assert TOKEN not in json.dumps(refused)
        for wrong in ("../lab", "", "a/b", "x" * 65):
            refused = await backend.ask(session, status=422, push_to_hub={"token_name": wrong})
            assert refused["field"] == "push_to_hub.token_name"
        assert (await backend.ask(session, status=422, push_to_hub={"token": "x"}))["code"] == "bad_input"
        made, _ = await push(backend, session)
        assert (made["status"], made["error"]["code"]) == ("failed", "hub_token_missing")
        made, _ = await push(backend, session, token_name="lab")
        assert made["status"] == "done", made


async def test_where_to_is_limited(hub, serve, record, monkeypatch, database):
    """Elsewhere is refused before anything is made, and when a finished export is to go there."""
    monkeypatch.setenv("LEROBOT_BACKEND_HUB_NAMESPACES", "lab")
    async with serve() as backend:
        session = await record(60, episodes=[(0, 60)])
        body = {"session_ids": [session], "repo_id": "evil/pick", "push_to_hub": {}}
        refused = await backend.http.post("/exports", json=body)
        assert (refused.status_code, refused.json()["field"]) == (403, "repo_id")
        assert (await backend.http.get("/exports")).json()["exports"] == []
        export, _ = await backend.export(session, repo_id="evil/pick")
        again = await backend.http.post(f"/exports/{export['id']}/push", json={})
        assert (again.status_code, again.json()["code"]) == (403, "not_allowed")
        assert "LEROBOT_BACKEND_HUB_NAMESPACES" in again.json()["hint"]
        told = (await backend.http.get("/exports/destinations")).json()
        assert told == {"namespaces": ["lab"], "public": True, "overwrite": True}
        made, _ = await push(backend, session)
        assert made["status"] == "done", made


async def test_push_of_an_unfinished_export_waits_for_it(hub, backend, record):
    """One that failed is pushed after all, once it has been made."""
    session = await record(100)
    export = await backend.ask(session, push_to_hub={})
    assert export["push"]["status"] == "waiting"
    assert (await pushed(backend, export["id"]))["status"] == "done"


async def test_push_under_way_is_not_doubled(hub, backend, record):
    """409 until it has ended; removing the export stops it, and nothing becomes visible."""
    hub.holds = lambda: True
    export, _ = await backend.export(await record(100), push_to_hub={})
    await until(lambda: any(request.startswith("PUT") for request in hub.requests()))
    busy = await backend.http.post(f"/exports/{export['id']}/push", json={})
    assert (busy.status_code, busy.json()["code"]) == (409, "push_busy")
    assert (await backend.http.delete(f"/exports/{export['id']}")).status_code == 204
    hub.holds = lambda: False
    await asyncio.sleep(2.0)
    assert len(hub.commits(REPO)) == 1


async def test_command_line_pushes(hub, backend, record, tmp_path):
    """One command: made, fetched and pushed; where the push fails, the dataset is here all the same."""
    session = await record(100)

    async def run(root, *words):
        command = (
            "-m",
            "teleop_client.exporting.cli",
            "--session_id",
            str(session),
            "--repo_id",
            REPO,
            "--root",
            root,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LEROBOT_BACKEND_URL": str(backend.http.base_url)},
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    status, out, err = await run(tmp_path / "one", "--push_to_hub")
    assert status == 0, err
    assert f"/datasets/{REPO}/commit/{hub.repo(REPO)['head']}" in out
    assert "pushing to the Hub: done" in err
    hub.make("lab/other", {"theirs.csv": b"x"})
    status, _, err = await run(tmp_path / "two", "--push_to_hub", "--repo_id", "lab/other")
    assert status == 1
    assert "holds other content" in err
    assert "pushing to the Hub: done" not in err
    assert (tmp_path / "two/meta/info.json").is_file()


async def test_push_of_an_unknown_export_is_not_found(backend):
    """As everything below its address."""
    answer = await backend.http.post("/exports/77/push", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "export_not_found")


async def test_killed_push_goes_on_where_it_was(record, database_url, tmp_path, monkeypatch):
    """kill -9 among the uploads: readers see nothing, and what the Hub has is not sent again."""
    session = await record(60_000, episodes=[(first, first + 600) for first in range(0, 60_000, 600)])
    monkeypatch.setattr(in_thread, "TELL_PROGRESS_S", 0.05)
    with hub_serving(tmp_path / "hub") as (hub, endpoint):
        hub.holds = lambda: bool(stored(hub))
        settings = {
            "DATABASE_URL": database_url,
            "EXPORT_ROOT": str(tmp_path / "exports"),
            "STORE_URL": str(tmp_path / "store"),
            **environment(endpoint, tmp_path),
        }
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            with ServiceProcess("teleop_export", settings, "EXPORT_PORT") as process:
                body = {"session_ids": [session], "repo_id": REPO, "push_to_hub": {}}
                url = f"http://{process.address}/exports"
                url += f"/{(await http.post(url, json=body)).json()['id']}"
                await until(lambda: stored(hub))
                process.kill()
                assert len(hub.commits(REPO)) == 1
                assert hub.repo(REPO)["tags"] == {}
                before = stored(hub)
                hub.holds = lambda: False
                hub.folder.joinpath("requests.log").unlink()
                process.start()
                async with asyncio.timeout(PATIENCE_S):
                    while (push := (await http.get(url)).json()["push"])["status"] != "done":
                        assert push["status"] != "failed", push
                        await asyncio.sleep(0.1)
    assert len(hub.commits(REPO)) == 2
    assert hub.repo(REPO)["tags"] == {"v3.0": hub.repo(REPO)["head"]}
    sent = {request.split("/")[2] for request in hub.requests() if request.startswith("PUT /upload/")}
    assert before
    assert not sent & before


def stored(hub):
    """Large files of which the Hub has all; a part of one has the part's number in its name."""
    objects = [path for path in (hub.folder / "objects").iterdir() if not path.suffix]
    return {path.name for path in objects if path.read_bytes()[:4] == b"PAR1"}
