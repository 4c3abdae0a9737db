"""The page on which people sign in, in Debian's Chromium."""

import shutil
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.backends.serving import serving
from teleop_testing.waiting import PATIENCE_S

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")
# Without a sandbox, because tests run as root in CI; without calls to the browser's makers.
BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
PATIENCE_MS = PATIENCE_S * 1000

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture
async def address(database_url):
    """Of a service that nobody uses without signing in."""
    settings = TelemetrySettings(
        database_url=database_url, exposure="lab", trust_network=False, _env_file=None
    )
    async with serving(create_app(settings)) as address:
        yield address


@pytest.fixture
def made(http, address):
    """Asks whoever uses the machine for a link or a token."""

    async def made(path, **wanted):
        answer = await http.post(path, json=wanted)
        assert answer.status_code == 201, answer.text
        link = answer.json().get("link")
        return f"http://{address}/sign-in#{link.partition('#')[2]}" if link else answer.json()["token"]

    return made


@asynccontextmanager
async def browser(locale="en-GB"):
    """A new page, the addresses that it asks for, and whatever goes wrong in it."""
    asked, wrong = [], []
    async with async_playwright() as playwright:
        program = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*BROWSER])
        context = await program.new_context(locale=locale)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        # An answer that is an error is a word in the console, too; those are looked for in the page.
        page.on("console", lambda told: "Security Policy" in told.text and wrong.append(told.text))
        yield page, asked
        await program.close()
    assert wrong == []


async def test_a_link_signs_in_when_somebody_presses_the_button(address, made, database):
    """Not before, so whatever looks at links uses none up; its code is in no address that is asked for."""
    link = await made("/people", name="anna", role="operator", robot_ids=["robot_A"])
    code = link.partition("#")[2]
    async with browser() as (page, asked):
        await page.goto(link)
        await expect(page.locator("#link")).to_have_text("This link signs you in once.")
        await expect(page.locator("#paste")).to_be_hidden()
        assert page.url == f"http://{address}/sign-in"
        assert await database.value("SELECT count(*) FROM web_session") == 0
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#who")).to_have_text(
            "You are signed in as anna (operator; Robots: robot_A)."
        )
        await expect(page.locator("#form")).to_be_hidden()
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
        assert await page.evaluate("document.cookie") == ""
        assert {url.partition("#")[0] for url in asked} == {
            f"http://{address}/{path}" for path in ("sign-in", "me")
        }
        assert code not in str([url.partition("#")[0] for url in asked])
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.locator("#form")).to_be_visible()
        assert await page.context.cookies() == []
        # The same link again, in the page that is open.
        await page.goto(link)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("was used or revoked, or has expired")
    assert await database.value("SELECT count(*) FROM web_session WHERE ended_at IS NULL") == 0


async def test_a_token_is_pasted(address, made):
    """In Korean, below a slash at the end of the address."""
    token = await made("/tokens", name="berta", role="viewer")
    async with browser("ko-KR") as (page, asked):
        await page.goto(f"http://{address}/sign-in/")
        await expect(page.locator("h1")).to_have_text("로그인")
        await page.get_by_label("토큰 또는 링크의 # 뒷부분").fill("lrb_viewer_x")
        await page.get_by_role("button", name="로그인").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await page.get_by_label("토큰 또는 링크의 # 뒷부분").fill(token)
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_have_text("berta (viewer)(으)로 로그인했습니다.")
        assert not any(token in url for url in asked)


async def test_where_nobody_has_to_sign_in(service):
    """The page says so."""
    async with browser() as (page, _):
        await page.goto(f"http://{service}/sign-in")
        await expect(page.locator("#who")).to_have_text("Nobody has to sign in from here.")
        await expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


async def test_a_page_of_another_port_uses_no_session(address, made, database):
    """A browser sends cookies there, too: the backend looks at who asks."""
    link = await made("/people", name="anna", role="admin")
    async with browser() as (page, _):
        await page.goto(link)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#form")).to_be_hidden()
        # Asked by the page itself, it is done.
        send = """url => fetch(url, {method: 'POST', credentials: 'include', mode: 'no-cors'}).then(
            answer => answer.status, () => 'refused')"""
        assert await page.evaluate(send, "/people/anna/links") == 201
        await page.route(
            "http://127.0.0.1:1/", lambda route: route.fulfill(body="evil", content_type="text/html")
        )
        await page.goto("http://127.0.0.1:1/")
        await page.evaluate(send, f"http://{address}/people/anna/links")
    done = await database.fetch("SELECT action FROM audit WHERE principal = 'anna' ORDER BY id")
    assert [row["action"] for row in done] == ["sign_in", "link_person"]
