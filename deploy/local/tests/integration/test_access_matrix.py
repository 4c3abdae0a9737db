"""Every address, for every role, with a robot's own data and another robot's: who gets in, and who not."""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from teleop_backend.postgres import EmbeddedPostgres
from teleop_testing.backends.processes import whole_backend
from teleop_testing.datasets.recorded_video import record_video
from teleop_testing.robots.lines import connect_in_thread
from teleop_testing.robots.tus import TUS, metadata_of
from teleop_testing.waiting import PATIENCE_S
from websockets.exceptions import InvalidStatus

MINE, OTHERS = "robot_A", "robot_B"
# Who calls: name -> (role, the only robots that it may touch). `guest` and `trainee` are for one robot only.
CALLERS = {
    "nobody": None,
    "robot": ("robot", None),
    "viewer": ("viewer", None),
    "guest": ("viewer", [MINE]),
    "operator": ("operator", None),
    "trainee": ("operator", [MINE]),
    "admin": ("admin", None),
    "metrics": ("metrics", None),
}
EVERYBODY = set(CALLERS)
READERS = {"viewer", "operator", "admin"}
OF_MINE = {"guest", "trainee"}

# Who gets in, by whose data it is about. Written by hand: a new address needs its line here.
OPEN = (EVERYBODY, EVERYBODY)
READ = (READERS | OF_MINE | {"robot"}, READERS)
BROWSE = (READERS | OF_MINE, READERS)
SEND = ({"robot", "admin"}, {"admin"})
VERIFY = ({"robot", "operator", "trainee", "admin"}, {"operator", "admin"})
OPERATE = ({"operator", "trainee", "admin"}, {"operator", "admin"})
ADMIN = ({"admin"}, {"admin"})
# About no robot, or about all of them.
ALL = (READERS, READERS)
EACH_ITS_OWN = (READERS | OF_MINE | {"robot"}, READERS | OF_MINE | {"robot"})
EXPECTED = {
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /": OPEN,
    "GET /ui/{file}": OPEN,
    "GET /metrics": (READERS | {"metrics"}, READERS | {"metrics"}),
    "GET /robots": EACH_ITS_OWN,
    "GET /sessions": READ,
    "GET /sessions/{session_id}": READ,
    "PATCH /sessions/{session_id}": OPERATE,
    "DELETE /sessions/{session_id}": OPERATE,
    "GET /sessions/{session_id}/episodes/{episode_index}": READ,
    "PATCH /sessions/{session_id}/episodes/{episode_index}": OPERATE,
    "POST /sessions/{session_id}/episodes/{episode_index}/undo": OPERATE,
    "GET /sessions/{session_id}/episodes/{episode_index}/history": READ,
    "GET /sessions/{session_id}/history": READ,
    "GET /episodes": READ,
    "GET /sessions/{session_id}/episodes/{episode_index}/flags": READ,
    "GET /flags": EACH_ITS_OWN,
    "PUT /flags/{flag}": ADMIN,
    "GET /outcome-reasons": EACH_ITS_OWN,
    "PUT /outcome-reasons/{reason}": ADMIN,
    "DELETE /outcome-reasons/{reason}": ADMIN,
    "GET /sessions/{session_id}/ledger": READ,
    "POST /sessions/{session_id}/give-up-missing": OPERATE,
    "GET /sessions/{session_id}/frames": READ,
    "GET /sessions/{session_id}/videos": READ,
    "GET /ws/log/{robot_id}": SEND,
    "GET /videos/{video_id}": READ,
    "GET /videos/{video_id}/content": READ,
    "DELETE /videos/{video_id}": ADMIN,
    "POST /files/plan": SEND,
    "POST /files/known": SEND,
    "OPTIONS /files": OPEN,
    "OPTIONS /files/{upload_id}": OPEN,
    "POST /files": SEND,
    "HEAD /files/{upload_id}": SEND,
    "PATCH /files/{upload_id}": SEND,
    "POST /files/{upload_id}": SEND,
    "DELETE /files/{upload_id}": SEND,
    "POST /upload/video": SEND,
    "POST /upload/sync": SEND,
    "GET /datasets": READ,
    "GET /datasets/{robot_id}/{name}": READ,
    "GET /datasets/{robot_id}/{name}/versions": READ,
    "POST /datasets/{robot_id}/{name}/versions": SEND,
    "POST /datasets/{robot_id}/{name}/verify": VERIFY,
    "POST /datasets/{robot_id}/{name}/repair": OPERATE,
    "POST /datasets/{robot_id}/{name}/import": OPERATE,
    "GET /datasets/{robot_id}/{name}/import": READ,
    "GET /datasets/{robot_id}/{name}/restore": READ,
    "GET /datasets/{robot_id}/{name}/files/{path}": READ,
    "GET /hub/{robot_id}/{name}/resolve/main/{path}": READ,
    "OPTIONS /hub/{robot_id}/{name}/resolve/main/{path}": OPEN,
    "POST /exports": OPERATE,
    "GET /exports": ALL,
    "GET /exports/{export_id}": BROWSE,
    "GET /exports/{export_id}/report.txt": BROWSE,
    "GET /exports/{export_id}/events": BROWSE,
    "GET /exports/{export_id}/archive": BROWSE,
    "GET /exports/{export_id}/files/{path}": BROWSE,
    "GET /exports/{export_id}/compare": BROWSE,
    "POST /exports/{export_id}/repeat": OPERATE,
    "DELETE /exports/{export_id}": OPERATE,
    "GET /exports/destinations": ({"operator", "trainee", "admin"}, {"operator", "trainee", "admin"}),
    # What an operator may push depends on the namespaces of the Hub.
    "POST /exports/{export_id}/push": OPERATE,
    "GET /webhooks": ADMIN,
    "POST /webhooks": ADMIN,
    "DELETE /webhooks/{webhook_id}": ADMIN,
    "GET /webhooks/{webhook_id}/deliveries": ADMIN,
    "POST /webhooks/{webhook_id}/test": ADMIN,
    "POST /tokens": ADMIN,
    "GET /tokens": ADMIN,
    "DELETE /tokens/{token_id}": ADMIN,
    "POST /robots/{robot_id}/enrolments": ADMIN,
    "GET /robots/{robot_id}/usage": READ,
    "PUT /robots/{robot_id}/quota": ADMIN,
    "DELETE /robots/{robot_id}/quota": ADMIN,
    "POST /join": OPEN,
    "POST /join/requests": OPEN,
    "GET /join/requests": ADMIN,
    "POST /join/requests/{code}/approval": ADMIN,
    "DELETE /join/requests/{code}": ADMIN,
    "GET /join/pools": ADMIN,
    "POST /join/pools": ADMIN,
    "DELETE /join/pools/{pool}": ADMIN,
    "GET /audit": ADMIN,
    "POST /erasures": ADMIN,
    "GET /erasures": ADMIN,
    "GET /erasures/{erasure_id}": ADMIN,
    "GET /authority": OPEN,
    "GET /me": (EVERYBODY - {"nobody"}, EVERYBODY - {"nobody"}),
    "GET /sign-in": OPEN,
    "POST /sign-in": OPEN,
    "POST /sign-out": OPEN,
    "GET /people": ADMIN,
    "POST /people": ADMIN,
    "POST /people/{person}/links": ADMIN,
    "DELETE /people/{person}": ADMIN,
}
COMMAND = Path(sys.executable).with_name("lerobot-backend")
FRAME = json.dumps({"observation": {"a.pos": 1}, "action": {"a.pos": 2}})
CONTENT = b'{"codebase_version": "v3.0"}'
# Refused as input, so that nothing happens, by whoever is let in.
NOT_UNDERSTOOD = {"no such field": 1}


@dataclass(frozen=True)
class Recorded:
    """What one robot has sent; each is named in addresses and bodies."""

    robot_id: str
    session_id: int
    video_id: int
    upload_id: str
    export_id: int


@dataclass(frozen=True)
class World:
    """A backend that asks everybody for a token, with two robots' data."""

    address: str
    tokens: dict[str, str | None]
    mine: Recorded
    others: Recorded

    def headers(self, caller: str) -> dict[str, str]:
        token = self.tokens[caller]
        return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """That backend."""
    with (
        tempfile.TemporaryDirectory(prefix="access-") as folder,
        whole_backend(folder, LEROBOT_BACKEND_EXPOSURE="lab") as process,
    ):
        ours = {name: value for name, value in process.environment.items() if "LEROBOT_" in name}
        done = subprocess.run(
            [COMMAND, "tokens", "add", "boss", "--role", "admin"],
            env={"PATH": "", **ours},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        yield populated(process.address, done.stdout.strip(), Path(folder))


def populated(address: str, admin: str, folder: Path) -> World:
    with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S) as http:
        return _populated(http, address, admin, folder)


def _populated(http: httpx.Client, address: str, admin: str, folder: Path) -> World:
    boss = {"Authorization": f"Bearer {admin}"}

    def token_of(role: str, name: str, robots: list[str] | None) -> str:
        wanted = {"role": role, "name": name, "robot_ids": robots}
        made = http.post("/tokens", headers=boss, json=wanted)
        assert made.status_code == 201, made.text
        token: str = made.json()["token"]
        return token

    tokens = {
        name: caller and token_of(caller[0], MINE if name == "robot" else name, caller[1])
        for name, caller in CALLERS.items()
    }
    database_url = EmbeddedPostgres(folder / "data").url()
    recorded = []
    for robot_id in (MINE, OTHERS):
        token = tokens["robot"] if robot_id == MINE else token_of("robot", robot_id, None)
        robot = {"Authorization": f"Bearer {token}"}
        with connect_in_thread(f"ws://{address}/ws/log/{robot_id}", additional_headers=robot) as socket:
            for _ in range(60):
                socket.send(FRAME)
            session = json.loads(socket.recv())["session_id"]
            while json.loads(socket.recv())["next"] < 60:
                pass
        # The store is that of the backend alone; nobody reads these bytes.
        record_video(database_url, folder / "elsewhere", session, 60)
        sent = http.post("/upload/sync", headers=robot, data=form(robot_id), files={"file": CONTENT})
        assert sent.status_code == 201, sent.text
        upload = http.post("/files", headers={**robot, **creation(robot_id)})
        assert upload.status_code == 201, upload.text
        wanted = {"repo_id": f"me/{robot_id}", "session_ids": [session], "include_unfinished": True}
        export = http.post("/exports", headers=boss, json=wanted)
        assert export.status_code == 202, export.text
        video_id = first_video(http, boss, session)
        upload_id = upload.headers["location"].rpartition("/")[2]
        recorded.append(Recorded(robot_id, session, video_id, upload_id, export.json()["id"]))
    return World(address, tokens, *recorded)


def first_video(http: httpx.Client, headers: dict[str, str], session: int) -> int:
    video_id: int = http.get(f"/sessions/{session}/videos", headers=headers).json()["videos"][0]["id"]
    return video_id


def form(robot_id: str) -> dict[str, str]:
    return {"robot_id": robot_id, "dataset": "user/name", "path": "meta/info.json"}


def creation(robot_id: str) -> dict[str, str]:
    fields = {"kind": "dataset", **form(robot_id), "path": "meta/stats.json"}
    return {**TUS, "Upload-Length": "10", **metadata_of(fields)}


def request_for(route: str, about: Recorded) -> dict[str, object]:
    """A request to the route about the robot's data."""
    method, _, path = route.partition(" ")
    named = {"name": "user/name", "path": "meta/info.json", "episode_index": 0, "token_id": 10**6}
    named |= {"person": "anna", "pool": "arms", "code": "K7QF-2M9P", "erasure_id": 1, "reason": "late"}
    named |= {"file": "index.js", "webhook_id": 10**6, "flag": "jerk"}
    request: dict[str, object] = {"method": method, "url": path.format(**vars(about), **named)}
    file = {
        "kind": "dataset",
        **form(about.robot_id),
        "size_bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    bodies = {
        "POST /files/plan": {"json": {"file": file}},
        "POST /files/known": {"json": {"robot_id": about.robot_id}},
        "POST /files": {"headers": creation(about.robot_id)},
        "POST /upload/video": {
            "data": {
                **{"robot_id": about.robot_id, "session": str(about.session_id), "camera_key": "front"},
                **{"chunk_index": "9", "start_timestamp": "1", "end_timestamp": "2"},
            },
            "files": {"file": b"no video"},
        },
        "POST /upload/sync": {"data": form(about.robot_id), "files": {"file": CONTENT}},
        "POST /exports": {"json": {"repo_id": "me/x", "session_ids": [about.session_id]}},
        "GET /sessions": {"params": {"robot_id": about.robot_id}},
        "GET /datasets": {"params": {"robot_id": about.robot_id}},
        "GET /episodes": {"params": {"robot_id": about.robot_id}},
        "HEAD /files/{upload_id}": {"headers": TUS},
        "DELETE /files/{upload_id}": {"headers": TUS},
        "POST /files/{upload_id}": {"headers": {**TUS, "X-HTTP-Method-Override": "HEAD"}},
    }
    if route in bodies:
        return {**request, **bodies[route]}
    if method in ("POST", "PATCH"):
        return {**request, "json": NOT_UNDERSTOOD, "params": NOT_UNDERSTOOD}
    return request


def outcome(world: World, route: str, caller: str, about: Recorded) -> int:
    """The status of the answer; of a WebSocket that was opened, 101."""
    request = request_for(route, about)
    headers = {**request.pop("headers", {}), **world.headers(caller)}  # type: ignore[dict-item]
    if "/ws/" in route:
        try:
            with connect_in_thread(f"ws://{world.address}{request['url']}", additional_headers=headers):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code
    with (
        httpx.Client(base_url=f"http://{world.address}", timeout=PATIENCE_S) as http,
        http.stream(headers=headers, **request) as answer,
    ):
        return answer.status_code


def routes_of(world: World) -> set[str]:
    document = httpx.get(f"http://{world.address}/openapi.json", timeout=PATIENCE_S).json()
    return {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method != "parameters"
    }


def test_every_address_is_in_the_table(world):
    """Whoever adds an address says here who may use it."""
    assert routes_of(world) == set(EXPECTED)


# Parts of addresses that can be tried one after the other.
NUMBERS = ("{session_id}", "{video_id}", "{upload_id}", "{export_id}")
# What removes something comes last.
ORDER = sorted(EXPECTED, key=lambda route: (route.startswith("DELETE"), route))
HIDING = [each for each in ORDER if each == "POST /exports" or any(number in each for number in NUMBERS)]


@pytest.mark.parametrize("route", ORDER)
def test_who_gets_in(world, route):
    """401 without a token, 403 with one that does not do, and anything else for whoever is let in.

    What a number stands for is not there, for those who may touch the data of other robots only.
    """
    wrong = []
    hides = route in HIDING
    for about, allowed in zip((world.mine, world.others), EXPECTED[route], strict=True):
        # Whoever is refused goes first: the others may remove what it is about.
        for caller in sorted(CALLERS, key=lambda each: each in allowed):
            status = outcome(world, route, caller, about)
            let_in = status not in (401, 403)
            refusal = 401 if caller == "nobody" else 404 if hides and caller in EXPECTED[route][0] else 403
            if (caller in allowed and not let_in) or (caller not in allowed and status != refusal):
                wrong.append((caller, about.robot_id, status))
    assert wrong == []


def test_what_others_have_looks_as_if_nobody_had_it(world):
    """In each answer: whoever tries numbers one after the other does not learn which there are."""
    never = replace(
        world.others, session_id=10**9, video_id=10**9 + 1, upload_id=str(UUID(int=7)), export_id=10**9 + 2
    )
    for route in HIDING:
        mine, others = EXPECTED[route]
        for caller in sorted(mine - others):
            said = [answer_about(world, route, caller, about) for about in (world.others, never)]
            assert said[0] == said[1], (route, caller)
            assert said[0][0] == 404


def answer_about(world: World, route: str, caller: str, about: Recorded) -> tuple[int, str]:
    """Status and text of the answer, without what differs between any two."""
    asked = request_for(route, about)
    headers = {**asked.pop("headers", {}), **world.headers(caller)}  # type: ignore[dict-item]
    with httpx.Client(base_url=f"http://{world.address}", timeout=PATIENCE_S) as http:
        answer = http.request(headers=headers, **asked)  # type: ignore[arg-type]
    told = answer.text.replace(answer.headers["x-request-id"], "")
    for number in (about.session_id, about.video_id, about.upload_id, about.export_id):
        told = re.sub(rf"\b(session|video|upload|export)s? {number}\b", r"\1 N", told)
    return answer.status_code, told


def test_lists_hold_what_the_caller_may_see(world):
    """Without a robot's name, too."""
    with httpx.Client(base_url=f"http://{world.address}", timeout=PATIENCE_S) as http:
        for caller in ("robot", "guest", "trainee"):
            headers = world.headers(caller)
            robots = http.get("/robots", headers=headers).json()
            assert [robot["robot_id"] for robot in robots] == [MINE]
            for path, name in (("/sessions", "sessions"), ("/datasets", "datasets")):
                found = http.get(path, headers=headers).json()[name]
                assert {each["robot_id"] for each in found} <= {MINE}
        everything = http.get("/robots", headers=world.headers("viewer")).json()
        assert {robot["robot_id"] for robot in everything} == {MINE, OTHERS}


def test_the_hash_of_others_bytes_is_not_worth_their_bytes(world):
    """A robot that knows it has to send the bytes all the same; whoever may read them has not."""
    content = b"known to the others only"
    path = {"dataset": "user/name", "path": "meta/known.json"}
    sha256 = hashlib.sha256(content).hexdigest()
    robot, admin = world.headers("robot"), world.headers("admin")
    with httpx.Client(base_url=f"http://{world.address}", timeout=PATIENCE_S) as http:

        def planned(robot_id: str, headers: dict[str, str]) -> dict[str, Any]:
            size = {"size_bytes": len(content), "sha256": sha256}
            file = {"kind": "dataset", "robot_id": robot_id, **size, **path}
            answer = http.post("/files/plan", headers=headers, json={"file": file})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        sent = http.post(
            "/upload/sync", headers=admin, data={"robot_id": OTHERS, **path}, files={"file": content}
        )
        assert sent.status_code == 201, sent.text
        told = planned(MINE, robot)
        assert (told.get("receipt"), told["missing"]) == (None, [[0, len(content)]])
        read = http.get(f"/datasets/{MINE}/user/name/files/meta/known.json", headers=robot)
        assert read.status_code == 404
        headers = {**robot, "Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
        headers["Content-Type"] = "application/offset+octet-stream"
        assert http.patch(told["upload"], headers=headers, content=content).status_code == 204
        assert planned(MINE, robot)["receipt"]["sha256"] == sha256
        path["path"] = "meta/again.json"
        assert planned(MINE, robot)["receipt"]["sha256"] == sha256
        path["path"] = "meta/as-admin.json"
        assert planned(OTHERS, admin)["receipt"]["sha256"] == sha256


def test_sessions_of_several_robots_are_exported_by_whoever_may_see_them_all(world):
    """A filter finds no more than a list of sessions may name."""
    with httpx.Client(base_url=f"http://{world.address}", timeout=PATIENCE_S) as http:
        sessions = [world.mine.session_id, world.others.session_id]
        for chosen in ({"session_ids": sessions}, {"filter": {"robot_id": OTHERS}}):
            wanted = {"repo_id": "me/both", **chosen}
            answer = http.post("/exports", headers=world.headers("trainee"), json=wanted)
            assert answer.status_code in (403, 404, 409), answer.text
        push = {"repo_id": "me/mine", "session_ids": [world.mine.session_id], "push_to_hub": {}}
        assert http.post("/exports", headers=world.headers("operator"), json=push).status_code == 403
