"""A stand-in of the Hugging Face Hub: what huggingface_hub really asks of it, its state on disk.

<folder>/objects/<sha256>                    large files, stored before any commit names them
<folder>/repos/<user>/<name>/repo.json       {"private", "head", "tags": {name: commit}}
<folder>/repos/<user>/<name>/<commit>.json   {"parent", "message", "files": {path: {"sha256", …}}}
<folder>/requests.log                        "METHOD path" of every request
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import until

TOKEN = "hf_" + "standin" * 5
USER = "lab"
# The real Hub takes these as large files, see the .gitattributes that it gives a new dataset.
LFS_ENDINGS = (".parquet", ".mp4")
# The real Hub takes larger files in parts of this size, each at an address of its own.
PART_BYTES = 4 * 1024 * 1024
# What the real Hub puts into a new repository.
FIRST_FILE = ".gitattributes"


class Hub:
    """Repositories below a folder, for whoever has TOKEN; all of them are datasets.

    holds     whether a part that has arrived must wait before it is stored, so that a test can interrupt it
    failures  statuses that the next requests are answered with
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.holds: Callable[[], bool] = lambda: False
        self.failures: list[int] = []
        (folder / "objects").mkdir(parents=True, exist_ok=True)

    def app(self) -> Starlette:
        """Its addresses, as huggingface_hub 1.x asks for them."""
        repo = "{user}/{name}"
        api = f"/api/datasets/{repo}"
        routes = [
            Route("/api/whoami-v2", self.whoami),
            Route("/api/validate-yaml", self.validate_yaml, methods=["POST"]),
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route(f"{api}", self.info),
            Route(f"{api}/revision/{{revision}}", self.info),
            Route(f"{api}/refs", self.refs),
            Route(f"{api}/tree/{{revision}}", self.tree),
            Route(f"{api}/preupload/{{revision}}", self.preupload, methods=["POST"]),
            Route(f"{api}/commit/{{revision}}", self.commit, methods=["POST"]),
            Route(f"{api}/tag/{{revision}}", self.tag, methods=["POST", "DELETE"]),
            Route(f"/datasets/{repo}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
            Route(f"/datasets/{repo}/resolve/{{revision}}/{{path:path}}", self.resolve),
            Route("/upload/{sha256}", self.store, methods=["PUT"]),
            Route("/upload/{sha256}/{part:int}", self.store, methods=["PUT"]),
            Route("/complete/{sha256}", self.complete, methods=["POST"]),
        ]
        return Starlette(routes=routes, middleware=[Middleware(_Gate, hub=self)])

    async def whoami(self, request: Request) -> Response:
        """Whose token it is."""
        return JSONResponse({"type": "user", "name": USER, "orgs": []})

    async def validate_yaml(self, request: Request) -> Response:
        """Whether a card begins with its front matter: the client asks before it commits one."""
        content = (await request.json())["content"]
        if not content.startswith("---\n"):
            return JSONResponse({"errors": [{"message": "no front matter"}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def create(self, request: Request) -> Response:
        """A new, empty repository; 409 if there is one of that name."""
        asked = await request.json()
        repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
        url = f"{request.base_url}datasets/{repo_id}"
        if repo_id.split("/")[0] != USER:
            return _refusal(403, "Forbidden", "not your namespace")
        if self._repo_file(repo_id).exists():
            return JSONResponse({"error": "exists", "url": url}, 409)
        private = asked.get("visibility") == "private" or asked.get("private", False)
        self.make(repo_id, {FIRST_FILE: b"*.parquet filter=lfs\n"}, private=private)
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    def make(self, repo_id: str, files: dict[str, bytes], *, private: bool = True) -> str:
        """A repository that holds `files`; its first commit."""
        self._repo_file(repo_id).parent.mkdir(parents=True, exist_ok=True)
        self._save(repo_id, {"private": private, "head": None, "tags": {}})
        return self.put(repo_id, files)

    def put(self, repo_id: str, files: dict[str, bytes], message: str = "by hand") -> str:
        """Add `files` by a commit, as somebody else would; the commit."""
        repo = self.repo(repo_id)
        stored = {path: self._keep(content, lfs=False) for path, content in files.items()}
        before = {} if repo["head"] is None else self.files(repo_id)
        return self._commit(repo_id, {**before, **stored}, message)

    def repo(self, repo_id: str) -> dict[str, Any]:
        """What `repo.json` holds."""
        found: dict[str, Any] = json.loads(self._repo_file(repo_id).read_text())
        return found

    def files(self, repo_id: str, revision: str = "main") -> dict[str, Any]:
        """What a revision consists of, by path."""
        commit = self._resolve(repo_id, revision)
        assert commit is not None
        found: dict[str, Any] = json.loads(self._commit_file(repo_id, commit).read_text())["files"]
        return found

    def content(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        """A file's bytes at a revision."""
        return self._object(self.files(repo_id, revision)[path]["sha256"]).read_bytes()

    def commits(self, repo_id: str) -> list[str]:
        """Messages, oldest first."""
        found = []
        commit = self.repo(repo_id)["head"]
        while commit is not None:
            content = json.loads(self._commit_file(repo_id, commit).read_text())
            found.append(content["message"])
            commit = content["parent"]
        return found[::-1]

    def requests(self) -> list[str]:
        """Every request so far, oldest first: `METHOD path`."""
        log = self.folder / "requests.log"
        return log.read_text().splitlines() if log.exists() else []

    async def info(self, request: Request) -> Response:
        """A repository at a revision: its commit, its files, whether it is private."""
        repo_id, commit = self._asked(request)
        files = [{"rfilename": path} for path in self.files(repo_id, commit)]
        private = self.repo(repo_id)["private"]
        return JSONResponse({"id": repo_id, "sha": commit, "private": private, "siblings": files})

    async def refs(self, request: Request) -> Response:
        """The branch and the tags, with the commit of each."""
        repo_id, head = self._asked(request)
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
            for name, commit in self.repo(repo_id)["tags"].items()
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": head}
        return JSONResponse({"branches": [main], "converts": [], "tags": tags})

    async def tree(self, request: Request) -> Response:
        """Every file at a revision, with its size and its hashes."""
        repo_id, commit = self._asked(request)
        entries = []
        for path, file in self.files(repo_id, commit).items():
            entry = {"type": "file", "path": path, "size": file["size"], "oid": file["oid"]}
            if file["lfs"]:
                entry["lfs"] = {"oid": file["sha256"], "size": file["size"], "pointerSize": 130}
            entries.append(entry)
        return JSONResponse(entries)

    async def preupload(self, request: Request) -> Response:
        """For each file whether it goes as a large one, and the hash of what is there already."""
        repo_id, commit = self._asked(request)
        known = self.files(repo_id, commit)
        answer = []
        for file in (await request.json())["files"]:
            path = file["path"]
            lfs = path.endswith(LFS_ENDINGS)
            told: dict[str, Any] = {
                "path": path,
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": False,
            }
            if path in known:
                told["oid"] = known[path]["sha256" if lfs else "oid"]
            answer.append(told)
        return JSONResponse({"files": answer})

    async def batch(self, request: Request) -> Response:
        """Where the large files that are not there yet are to be uploaded, as in Git LFS."""
        objects = []
        for asked in (await request.json())["objects"]:
            told: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if not self._object(asked["oid"]).exists():
                told["actions"] = {"upload": self._upload(request, asked["oid"], asked["size"])}
            objects.append(told)
        return JSONResponse({"transfer": "multipart", "objects": objects})

    def _upload(self, request: Request, sha256: str, size: int) -> dict[str, Any]:
        if size <= PART_BYTES:
            return {"href": f"{request.base_url}upload/{sha256}"}
        parts = range(1, -(-size // PART_BYTES) + 1)
        urls = {str(part): f"{request.base_url}upload/{sha256}/{part}" for part in parts}
        return {
            "href": f"{request.base_url}complete/{sha256}",
            "header": {"chunk_size": str(PART_BYTES), **urls},
        }

    async def store(self, request: Request) -> Response:
        """One large file, or a part of one; refuses bytes that do not have the announced hash."""
        sha256, part = request.path_params["sha256"], request.path_params.get("part")
        content = await request.body()
        await until(lambda: not self.holds())
        if part is None:
            if hashlib.sha256(content).hexdigest() != sha256:
                return _refusal(400, "BadDigest", "other bytes than announced")
            self._object(sha256).write_bytes(content)
        else:
            self._object(f"{sha256}.{part}").write_bytes(content)
        return Response(headers={"etag": f'"{part or 0}"'})

    async def complete(self, request: Request) -> Response:
        """Put the parts of a large file together."""
        sha256 = request.path_params["sha256"]
        parts = [self._object(f"{sha256}.{each['partNumber']}") for each in (await request.json())["parts"]]
        content = b"".join(part.read_bytes() for part in parts)
        if hashlib.sha256(content).hexdigest() != sha256:
            return _refusal(400, "BadDigest", "other bytes than announced")
        self._object(sha256).write_bytes(content)
        for part in parts:
            part.unlink()
        return JSONResponse({})

    async def commit(self, request: Request) -> Response:
        """Add and delete files at once; 412 if the branch is no longer at `parentCommit`."""
        repo_id, head = self._asked(request)
        files = self.files(repo_id)
        message = ""
        for line in (await request.body()).splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    message = value["summary"]
                    if value.get("parentCommit") not in (None, head):
                        return _refusal(412, "PreconditionFailed", "the branch has moved")
                case "file":
                    files[value["path"]] = self._keep(base64.b64decode(value["content"]), lfs=False)
                case "lfsFile":
                    if not self._object(value["oid"]).exists():
                        return _refusal(400, "NoObject", "a large file was never uploaded")
                    files[value["path"]] = {
                        "sha256": value["oid"],
                        "size": value["size"],
                        "oid": value["oid"][:40],
                        "lfs": True,
                    }
                case "deletedFile":
                    del files[value["path"]]
        commit = self._commit(repo_id, files, message)
        url = f"{request.base_url}datasets/{repo_id}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": url})

    async def tag(self, request: Request) -> Response:
        """Make or delete a tag; 409 if there is one of that name: a tag can't be moved."""
        repo_id = f"{request.path_params['user']}/{request.path_params['name']}"
        repo = self.repo(repo_id)
        if request.method == "DELETE":
            if repo["tags"].pop(request.path_params["revision"], None) is None:
                return _refusal(404, "RevisionNotFound", "no such tag")
        else:
            name = (await request.json())["tag"]
            if name in repo["tags"]:
                return _refusal(409, "Conflict", "the tag exists")
            repo["tags"][name] = self._asked(request)[1]
        self._save(repo_id, repo)
        return JSONResponse({})

    async def resolve(self, request: Request) -> Response:
        """Download a file at a revision."""
        repo_id, commit = self._asked(request)
        file = self.files(repo_id, commit).get(request.path_params["path"])
        if file is None:
            return _refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file["sha256" if file["lfs"] else "oid"]}"'}
        return FileResponse(self._object(file["sha256"]), headers=headers)

    def _asked(self, request: Request) -> tuple[str, str]:
        """Repository and commit of an address; raises what the Hub answers where there is none."""
        repo_id = f"{request.path_params['user']}/{request.path_params['name']}"
        if not self._repo_file(repo_id).exists():
            raise _Refused(_refusal(404, "RepoNotFound", "Repository not found"))
        commit = self._resolve(repo_id, request.path_params.get("revision", "main"))
        if commit is None:
            raise _Refused(_refusal(404, "RevisionNotFound", "Invalid rev id"))
        return repo_id, commit

    def _resolve(self, repo_id: str, revision: str) -> str | None:
        repo = self.repo(repo_id)
        if revision == "main":
            found: str | None = repo["head"]
            return found
        if revision in repo["tags"]:
            return str(repo["tags"][revision])
        return revision if self._commit_file(repo_id, revision).exists() else None

    def _commit(self, repo_id: str, files: dict[str, Any], message: str) -> str:
        repo = self.repo(repo_id)
        content = {"parent": repo["head"], "message": message, "files": files}
        commit = hashlib.sha1(json.dumps(content).encode(), usedforsecurity=False).hexdigest()
        self._commit_file(repo_id, commit).write_text(json.dumps(content))
        self._save(repo_id, {**repo, "head": commit})
        return commit

    def _keep(self, content: bytes, *, lfs: bool) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        self._object(sha256).write_bytes(content)
        blob = b"blob %d\0" % len(content) + content
        oid = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        return {"sha256": sha256, "size": len(content), "oid": oid, "lfs": lfs}

    def _save(self, repo_id: str, repo: dict[str, Any]) -> None:
        self._repo_file(repo_id).write_text(json.dumps(repo))

    def _repo_file(self, repo_id: str) -> Path:
        return self.folder / "repos" / repo_id / "repo.json"

    def _commit_file(self, repo_id: str, commit: str) -> Path:
        return self.folder / "repos" / repo_id / f"{commit}.json"

    def _object(self, name: str) -> Path:
        return self.folder / "objects" / name


class _Refused(Exception):
    def __init__(self, answer: Response) -> None:
        self.answer = answer


class _Gate:
    """Nobody passes without the token, but to the addresses that the Hub signs."""

    def __init__(self, app: Any, hub: Hub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with (self._hub.folder / "requests.log").open("a") as log:
            log.write(f"{request.method} {request.url.path}\n")
        signed = request.url.path.startswith(("/upload/", "/complete/"))
        if self._hub.failures:
            await _refusal(self._hub.failures.pop(0), "Unavailable", "out of order")(scope, receive, send)
        elif not signed and request.headers.get("authorization") != f"Bearer {TOKEN}":
            answer = _refusal(401, "RepoNotFound", "Invalid username or password.")
            await answer(scope, receive, send)
        else:
            try:
                await self._app(scope, receive, send)
            except _Refused as refused:
                await refused.answer(scope, receive, send)


def _refusal(status: int, code: str, message: str) -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return JSONResponse({"error": message}, status, headers=headers)


@contextmanager
def hub_serving(folder: Path) -> Iterator[tuple[Hub, str]]:
    """A Hub and its address, served by a thread of this process."""
    hub = Hub(folder)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(hub.app(), port=port, log_config=None, lifespan="off"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield hub, f"http://127.0.0.1:{port}"
    finally:
        hub.holds = lambda: False
        server.should_exit = True
        thread.join()
