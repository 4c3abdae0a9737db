"""The page as the stack's proxy serves it: Caddy with the routes of deploy/proxy."""

import shutil
from pathlib import Path

import httpx
import pytest
from teleop_backend.console import BUILT, FOR_EVER, POLICY
from teleop_testing.backends.reverse_proxies import caddy_without_tls
from teleop_testing.waiting import PATIENCE_S

ROUTES = Path(__file__).parents[2] / "deploy/proxy/routes.caddy"


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is missing: apt-get install caddy")
async def test_the_stacks_proxy_serves_the_same(tmp_path):
    """The same bytes, policy and ages; what is missing is told as ever, and kept by nobody."""
    shutil.copytree(BUILT, tmp_path / "console")
    async with (
        caddy_without_tls(tmp_path, ROUTES.read_text().replace("/srv", str(tmp_path))) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http,
    ):
        page = await http.get("/")
        assert (page.status_code, page.content) == (200, (BUILT / "index.html").read_bytes())
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == POLICY
        assert page.headers["cache-control"] == "no-cache"
        again = await http.get("/", headers={"If-None-Match": page.headers["etag"]})
        assert again.status_code == 304
        for path in (BUILT / "ui").iterdir():
            part = await http.get(f"/ui/{path.name}")
            assert (part.status_code, part.content) == (200, path.read_bytes())
            assert part.headers["cache-control"] == FOR_EVER
        for nothing in ("/ui/other.js", "/ui/", "/ui/../console/index.html", "/index.html"):
            answer = await http.get(nothing)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), nothing
            assert "immutable" not in answer.headers.get("cache-control", "")
