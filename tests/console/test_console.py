"""The console in Debian's Chromium, before the one-process default and a real recording."""

import base64
import gzip
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from bisect import bisect_right
from pathlib import Path

import httpx
import numpy as np
import pytest
from filmed import EPISODES, FRAMES, OTHER_NAME, PATIENCE_MS
from lerobot_robot_virtual.scene import VIEWS, read_frame_counter
from playwright.sync_api import Page, expect
from teleop_backend.console import BUILT, FOR_EVER, POLICY
from teleop_testing.backends.processes import whole_backend
from teleop_testing.waiting import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
CONSOLE = REPOSITORY / "services/console"
MAX_GZIPPED_BYTES = 150_000
SEEKS, MANY_SEEKS = 25, 200
# The picture that a camera shows now, as pixels; once both agree with the timeline.
SHOWN = """async cameras => {
    const now = () => document.querySelector(".timeline").getAttribute("aria-valuenow");
    const figures = cameras.map(each => document.querySelector(`figure[data-camera=${each}]`));
    while (!figures.every(each => each.dataset.frame === now())) {
        await new Promise(resolve => setTimeout(resolve, 5));
    }
    return [Number(now()), figures.map(figure => {
        const video = figure.querySelector("video:not([hidden])");
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
        const context = canvas.getContext("2d");
        context.drawImage(video, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let text = "";
        for (let at = 0; at < pixels.length; at += 8192) {
            text += String.fromCharCode(...pixels.subarray(at, at + 8192));
        }
        return [canvas.height, canvas.width, btoa(text)];
    })];
}"""


def shown(page: Page) -> tuple[int, list[int]]:
    """The frame where the timeline is, and the number that each camera's picture shows."""
    frame, pictures = page.evaluate(SHOWN, [*VIEWS])
    images = [
        np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]
        for height, width, data in pictures
    ]
    return frame, [read_frame_counter(image) for image in images]


def wrong_pictures(page: Page, recorded, seeks: int) -> tuple[list[tuple[int, list[int], list[int]]], int]:
    """Where other pictures were shown than belong to the frame, and how many files of video were shown.

    By the mouse, by the keys, and by what a person does who plays and pauses.
    """
    draw = random.Random(7)
    timeline = page.locator(".timeline")
    box = timeline.bounding_box()
    assert box is not None
    wrong, sources = [], set()
    for number in range(seeks):
        if number % 3 == 0:
            page.mouse.click(box["x"] + draw.uniform(1, box["width"] - 1), box["y"] + box["height"] / 2)
        elif number % 3 == 1:
            page.keyboard.press(
                draw.choice(["ArrowLeft", "ArrowRight", "Shift+ArrowLeft", "Shift+ArrowRight"])
            )
        else:
            page.keyboard.press("l")
            page.keyboard.press("k")
        frame, numbers = shown(page)
        expected = [each[bisect_right(each, frame) - 1] for each in (recorded.frames[view] for view in VIEWS)]
        if numbers != expected:
            wrong.append((frame, numbers, expected))
        sources.add(page.locator("video:not([hidden])").first.get_attribute("src"))
    return wrong, len(sources)


def open_session(open_page, recorded, **settings) -> Page:
    page = open_page(f"sessions/{recorded.session_id}", **settings)
    expect(page.locator(".plot canvas")).to_have_count(6)
    expect(page.locator("figure[data-frame]")).to_have_count(len(VIEWS))
    return page


def test_a_session_is_opened_and_scrubbed(open_page, recorded):
    """From the list, by a click: all joints and cameras, and at each frame the pictures of that frame."""
    page = open_page("")
    page.get_by_role("link", name=f"Session {recorded.session_id}").click()
    expect(page.locator(".plot canvas")).to_have_count(6)
    expect(page.locator("figure[data-frame]")).to_have_count(len(VIEWS))
    expect(page.locator(".ledger")).to_contain_text("Every frame is accounted for")
    assert wrong_pictures(page, recorded, SEEKS)[0] == []


@pytest.mark.long("200 seeks")
def test_no_picture_of_many_is_wrong(open_page, recorded):
    """Of none of the files that the video is in: two, unless this machine was too slow for the encoder."""
    page = open_session(open_page, recorded)
    wrong, files = wrong_pictures(page, recorded, MANY_SEEKS)
    assert wrong == []
    told = recorded.get(f"sessions/{recorded.session_id}/videos?camera_key={VIEWS[0]}")
    assert files == len(told["videos"])


def test_an_episode_is_judged_by_keys_and_taken_back(open_page, recorded):
    """What was said is there after a reload, and so is that it was taken back."""
    page = open_page("review?order=newest")
    # The newest comes first.
    judged, others = len(EPISODES) - 1, len(EPISODES) - 2
    expect(page.locator(".judge > header h2")).to_have_text(f"Episode {judged}")
    page.keyboard.press("4")
    expect(page.locator(".quality [aria-pressed=true]")).to_have_text("4")
    page.keyboard.press("f")
    page.locator(".reasons").wait_for()
    page.keyboard.press("2")
    # It goes on by itself.
    expect(page.locator(".judge > header h2")).to_have_text(f"Episode {others}")
    told = recorded.episode(judged)
    assert (told["outcome"], told["reason"], told["quality"]) == ("failure", "dropped", 4)
    page.keyboard.press("n")
    page.keyboard.type("slipped at the rim")
    page.keyboard.press("Enter")
    page.keyboard.press("s")
    expect(page.locator(".judge > header h2")).to_have_text("Episode 0")
    assert recorded.episode(others)["note"] == "slipped at the rim"
    page.reload()
    # Only what nobody has judged is left.
    expect(page.locator(".queue li")).to_have_count(1)
    page.goto(f"{recorded.url}/#/sessions/{recorded.session_id}?episode={judged}")
    expect(page.locator(".judge header .label")).to_contain_text("failure")
    for changes in (4, 5, 6):
        page.keyboard.press("u")
        expect(page.locator(".judge footer small")).to_have_text(f"Changed {changes} times")
    page.reload()
    expect(page.locator(".judge header .label")).to_contain_text("not labelled")
    told = recorded.episode(judged)
    assert (told["outcome"], told["reason"], told["quality"]) == (None, None, None)


def test_whoever_is_late_is_told(open_page, recorded):
    """Of two people who judge an episode at once, the later one sees what the other has said, and decides."""
    path = f"sessions/{recorded.session_id}/episodes/0"
    page = open_page(f"sessions/{recorded.session_id}?episode=0")
    expect(page.locator(".judge > header h2")).to_have_text("Episode 0")
    recorded.send("PATCH", path, {"outcome": "discarded"})
    page.keyboard.press("s")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("discarded")
    assert recorded.get(path)["outcome"] == "discarded"
    dialog.get_by_role("button", name="Leave it as it is").click()
    expect(page.locator(".judge header .label")).to_contain_text("discarded")
    recorded.send("PATCH", path, {"note": "again"})
    page.keyboard.press("s")
    dialog.get_by_role("button", name="Save mine all the same").click()
    expect(page.locator(".judge header .label")).to_contain_text("success")
    assert (recorded.get(path)["outcome"], recorded.get(path)["note"]) == ("success", "again")


def test_an_export_is_made_and_downloaded(open_page, recorded, tmp_path):
    """From the list of sessions: chosen, begun, followed to its end, with its report, as a file."""
    page = open_page("sessions")
    page.get_by_label(f"Select session {recorded.session_id}").check()
    page.get_by_role("link", name="Export selected (1)").click()
    expect(page.get_by_label("Numbers of sessions")).to_have_value(str(recorded.session_id))
    page.get_by_label("Name of the dataset").fill("someone/cubes")
    page.get_by_label("Episodes").select_option("everythingKept")
    page.get_by_role("button", name="Start").click()
    made = page.locator(".exports li").first
    expect(made.locator(".status")).to_have_text("done")
    made.get_by_role("button", name="Report").click()
    expect(page.get_by_role("dialog").locator("pre")).to_contain_text("someone/cubes")
    page.keyboard.press("Escape")
    with page.expect_download(timeout=PATIENCE_MS) as download:
        made.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "cubes.tar")
    with tarfile.open(tmp_path / "cubes.tar") as archive:
        info = archive.extractfile("cubes/meta/info.json")
        assert info is not None
        assert json.load(info)["total_episodes"] > 0


def test_a_viewer_can_change_nothing(open_page, recorded):
    """All is there to look at; what would change something is off, and keys send nothing."""
    made = recorded.send("POST", "tokens", {"name": "vera", "role": "viewer"})
    page = open_page(f"sessions/{recorded.session_id}?episode=1", token=made["token"])
    sent = []
    page.on("request", lambda asked: asked.method != "GET" and sent.append(asked.url))
    expect(page.locator(".judge")).to_contain_text("your role is viewer")
    expect(page.locator(".plot canvas")).to_have_count(6)
    before = recorded.episode(1)
    for key in ("s", "f", "d", "3", "u", "Control+z"):
        page.keyboard.press(key)
    assert page.locator(".judge button:enabled, .judge input:enabled, .judge textarea:enabled").count() == 0
    page.goto(f"{recorded.url}/#/exports")
    page.locator(".exports li, .empty").first.wait_for()
    assert page.locator(".new-export").count() == 0
    assert page.locator(".exports li .plain:enabled").count() == 0
    assert (sent, recorded.episode(1)) == ([], before)


def test_plain_http_under_another_name(open_page, recorded):
    """There, browsers have no WebCodecs and no clipboard; pictures, joints and copying work all the same."""
    page = open_session(open_page, recorded, host=OTHER_NAME)
    assert page.evaluate("[isSecureContext, navigator.clipboard]") == [False, None]
    page.keyboard.press("End")
    frame, numbers = shown(page)
    assert frame == FRAMES - 1
    assert numbers == [recorded.frames[view][-1] for view in VIEWS]
    page.goto(page.url.partition("#")[0] + "#/sessions?robot_id=robot_A&status=recording")
    page.get_by_role("button", name="Clear filters").first.click()
    expect(page.locator("table tbody tr")).to_have_count(1)


@pytest.mark.long("another backend starts")
def test_people_sign_in(open_page, tmp_path):
    """Where nobody is let in without being known, the page says how to; then it says who one is."""
    with (
        tempfile.TemporaryDirectory(prefix="console-") as folder,
        whole_backend(folder, LEROBOT_BACKEND_EXPOSURE="lab") as process,
    ):
        add = [Path(sys.executable).parent / "lerobot-backend", "people", "add", "anna", "--role", "viewer"]
        done = subprocess.run(
            add, env=process.environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        code = re.findall(r"/sign-in#(\S+)", done.stdout)[0]
        page = open_page("", url=process.url)
        expect(page.locator("main")).to_contain_text("Sign in to see what was recorded")
        page.get_by_role("main").get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill(code)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#who")).to_contain_text("anna")
        page.goto(process.url)
        expect(page.locator(".who")).to_contain_text("anna · viewer")
        expect(page.locator("main")).to_contain_text("Nothing has been recorded yet")
        page.locator(".who").click()
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("main")).to_contain_text("Sign in to see what was recorded")


LOOKS = [
    ("light", 1440, "en-GB"),
    ("dark", 1440, "en-GB"),
    ("light", 1440, "ko-KR"),
    ("light", 390, "en-GB"),
    ("dark", 390, "ko-KR"),
]


@pytest.mark.long("pictures of all views")
@pytest.mark.parametrize(("scheme", "width", "locale"), LOOKS)
def test_pictures_of_all_views(open_page, recorded, screenshots, scheme, width, locale):
    """For people to look at; that a view is there, and not wider than the window, is all that is checked."""
    settings = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "locale": locale}
    page = open_session(open_page, recorded, **settings)
    views = {
        "sessions": "sessions",
        "session": f"sessions/{recorded.session_id}?episode=1",
        "review": "review?outcome=any",
        "exports": "exports",
    }
    for name, view in views.items():
        page.goto(f"{recorded.url}/#/{view}")
        page.locator("table.sessions, .judge, .new-export").first.wait_for()
        if name in ("session", "review"):
            shown(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=screenshots / f"{name}-{width}-{scheme}-{locale[:2]}.png", full_page=True)


def serious(page: Page) -> list[str]:
    """What axe-core finds, but for what hardly matters."""
    page.evaluate((CONSOLE / "node_modules/axe-core/axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width", "locale"), [("light", 1440, "en-GB"), ("dark", 390, "ko-KR")])
def test_axe_finds_nothing_serious(open_page, recorded, scheme, width, locale):
    """In all views, light and dark, wide and narrow; and nothing is wider than the window."""
    settings = {
        "viewport": {"width": width, "height": 844},
        "color_scheme": scheme,
        "locale": locale,
    }
    page = open_session(open_page, recorded, **settings)
    for view in (f"sessions/{recorded.session_id}?episode=0", "sessions", "review?outcome=any", "exports"):
        page.goto(f"{recorded.url}/#/{view}")
        page.locator(".ledger, table, .queue li, .new-export").first.wait_for()
        assert serious(page) == [], view
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    assert serious(page) == []


def test_the_page_is_small_and_kept(recorded):
    """Its parts are cached for a year, and the page is asked for each time; it runs nothing but its own."""
    answer = httpx.get(f"{recorded.url}/", timeout=PATIENCE_S)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-cache"
    again = {"If-None-Match": answer.headers["etag"]}
    assert httpx.get(f"{recorded.url}/", headers=again, timeout=PATIENCE_S).status_code == 304
    parts = re.findall(r'"\./(ui/[^"]+)"', answer.text)
    assert {f"ui/{path.name}" for path in (BUILT / "ui").iterdir()} == set(parts)
    for part in parts:
        found = httpx.get(f"{recorded.url}/{part}", timeout=PATIENCE_S)
        assert found.headers["cache-control"] == FOR_EVER
        assert found.content == (BUILT / part).read_bytes()
    assert httpx.get(f"{recorded.url}/ui/other.js", timeout=PATIENCE_S).status_code == 404
    whole = sum(len(gzip.compress((BUILT / part).read_bytes())) for part in ["index.html", *parts])
    assert whole < MAX_GZIPPED_BYTES


def test_the_page_reads_what_the_backend_tells():
    """Each field that it knows of an answer is described by the API, under the same name."""
    document = json.loads((REPOSITORY / "deploy/proxy/openapi.json").read_text())["components"]["schemas"]
    source = (CONSOLE / "src/types.ts").read_text()
    told = re.findall(r"export interface (\w+)(?: extends \w+)? \{\n(.*?)\n\}", source, re.S)
    assert len(told) > 20
    unknown = {
        f"{name}.{field}"
        for name, fields in told
        for field in re.findall(r"^  (\w+)\??:", fields, re.M)
        if field not in document[name]["properties"]
    }
    assert unknown == set()
