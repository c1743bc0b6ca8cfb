"""The page of `tcl serve` in a real browser: Debian's chromium, which .ci/run installs where it is missing."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from data_files import noise
from indexing import build
from serving import PATIENCE, SCRIPT, Served, served, served_photographs, until
from tiny_pretrained import tiny_tcl

from tcl.index.progress import begin_progress
from tcl.index.stages import Stages

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)")
TOKEN = "0123456789abcdef"
TILES = ".tile > button"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    served_photographs(folder, count=80)
    return folder


@pytest.fixture(scope="module")
def service(folder):
    with served(folder / "photos.index") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its own sandbox needs what containers and root do not have.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def page_of(browser, service: Served, address: str = "/", refusals: int = 0, **options) -> Iterator:
    """The page, on which nothing fails and which asks nobody else. refusals: what its policy keeps from running."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | options)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    faults: list[str] = []
    refused: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: faults.append(asked.url) if is_foreign(asked.url, service) else None)
    page.goto(service.url + address)
    yield page
    assert faults == [] and len(refused) == refusals, refused
    context.close()


def is_foreign(url: str, service: Served) -> bool:
    return not url.startswith((service.url, "data:", "blob:"))


def ids(page, within: str = "") -> list[int]:
    """Of the images that are shown, in their order."""
    return page.eval_on_selector_all(f"{within} {TILES}", "tiles => tiles.map(tile => Number(tile.dataset.id))")


def found(service: Served, **asked) -> list[int]:
    return [one["id"] for one in service.ask("/v1/search", asked).json["results"]]


def wait(page, true: str) -> None:
    """Until an expression is true. Playwright's own way to wait for one is what the page's policy forbids: eval."""
    until(lambda: page.evaluate(true), true)


def settle(page) -> None:
    """Both stages have answered."""
    page.wait_for_selector(TILES)
    wait(page, "/together|embedding/.test(document.querySelector('#summary').textContent)")
    page.wait_for_selector("#busy", state="hidden")


def test_it_is_searched_as_somebody_types(browser, service):
    with page_of(browser, service) as page:
        page.wait_for_selector(TILES)
        assert page.text_content("h1") == "Search 80 images"
        page.keyboard.press("/")
        page.keyboard.type("a red dog")
        settle(page)
        expected = found(service, query="a red dog", k=64)
        assert ids(page)[:64] == expected
        assert "q=a+red+dog" in page.url and "a red dog" in page.title()
        score = service.ask("/v1/search", {"query": "a red dog", "k": 1}).json["results"][0]["match"]
        bar = page.locator(".tile .meter i").first.evaluate("bar => parseFloat(bar.style.width)")
        assert bar == pytest.approx(100 * score, abs=0.1)
        page.click('[data-view="embedding"]')
        settle(page)
        assert ids(page)[:64] == found(service, query="a red dog", k=64, rerank=0)
        page.click('[data-view="both"]')
        page.wait_for_selector(".both .second .tile")
        assert ids(page, ".first") == found(service, query="a red dog", k=64, rerank=0)
        assert ids(page, ".second") == expected
        page.fill("#query", "xyzzy")
        page.wait_for_selector("#problem:not([hidden])")
        assert "has no word that this model knows" in page.text_content("#problem")


def test_more_come_as_it_is_scrolled(browser, service):
    with page_of(browser, service, "/?q=a+dog", viewport={"width": 1280, "height": 300}) as page:
        settle(page)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        wait(page, f"document.querySelectorAll('{TILES}').length === 80")
        assert sorted(ids(page)) == sorted(found(service, query="a dog", k=80))
        assert ids(page)[:64] == found(service, query="a dog", k=64)
        page.click("#home")
        page.wait_for_selector("#hero:not([hidden])")
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        wait(page, f"document.querySelectorAll('{TILES}').length === 80")


def test_why_an_image_matches_is_shown_by_word(browser, service):
    with page_of(browser, service, "/?q=red+dog") as page:
        settle(page)
        page.locator(TILES).nth(2).click()
        page.wait_for_selector("#words button")
        assert page.locator("#words button").all_text_contents() == ["whole text", "red", "dog"]
        assert not page.locator("#heat.shown").count()
        page.click("#words button >> nth=1")
        page.wait_for_selector("#heat.shown")
        lit = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
        assert page.locator("#heat").evaluate(lit) > 4
        photo, heat = (page.locator(one).bounding_box() for one in ("#photo", "#heat"))
        assert all(photo[side] == pytest.approx(heat[side], abs=1.5) for side in photo)
        page.keyboard.press("ArrowRight")
        wait(page, "document.querySelector('#rank').textContent === '4 of 64'")
        page.keyboard.press("Escape")
        page.wait_for_selector("#viewer", state="hidden")


def test_images_like_one_of_the_index(browser, service):
    with page_of(browser, service, "/?q=a+dog") as page:
        settle(page)
        first = ids(page)[0]
        page.locator(TILES).first.click()
        page.click("#similar")
        wait(page, f"new URLSearchParams(location.search).get('like') === '{first}'")
        settle(page)
        wait(page, "document.querySelector('#summary').textContent.includes('this image')")
        expected = [id for id in found(service, id=first, k=64) if id != first]
        wait(page, f"Number(document.querySelector('{TILES}').dataset.id) === {expected[0]}")
        assert ids(page)[:63] == expected
        page.go_back()
        wait(page, "document.querySelector('#query').value === 'a dog'")


def test_an_image_that_is_dropped(browser, service, folder):
    content = list((folder / "photos" / "004.jpg").read_bytes())
    with page_of(browser, service) as page:
        page.wait_for_selector(TILES)
        carried = page.evaluate_handle(
            """bytes => {
                const carried = new DataTransfer();
                carried.items.add(new File([new Uint8Array(bytes)], "mine.jpg", { type: "image/jpeg" }));
                return carried;
            }""",
            content,
        )
        page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
        page.wait_for_selector("#drop:not([hidden])")
        page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
        page.wait_for_selector("#chip:not([hidden])")
        wait(page, "document.querySelector('#summary').textContent.includes('mine.jpg')")
        settle(page)
        (itself,) = (
            one["id"] for one in service.ask("/v1/images?count=200").json["results"] if one["path"].endswith("/004.jpg")
        )
        assert ids(page)[0] == itself
        page.click("#chip-remove")
        page.wait_for_selector("#hero:not([hidden])")


def test_filters_and_the_address(browser, service):
    with page_of(browser, service, "/?q=a+dog") as page:
        settle(page)
        page.click("#filter")
        page.click("#folders button:has-text('deep')")
        wait(page, "new URLSearchParams(location.search).get('folder') === 'deep'")
        expected = found(service, query="a dog", k=64, folder="deep")
        wait(page, f"document.querySelectorAll('{TILES}').length === {len(expected)}")
        settle(page)
        assert ids(page) == expected and page.text_content("#filter-count") == "1"
        page.click("#clear")
        page.fill("#since", "2021-05-02")
        page.dispatch_event("#since", "change")
        wait(page, f"document.querySelectorAll('{TILES}').length === 2")
        address = page.url
    with page_of(browser, service, address.removeprefix(service.url)) as page:
        settle(page)
        assert sorted(ids(page)) == sorted(found(service, query="a dog", since="2021-05-02"))
        assert page.input_value("#query") == "a dog" and page.input_value("#since") == "2021-05-02"


def test_everything_can_be_done_by_keyboard(browser, service):
    with page_of(browser, service, "/?q=red+dog") as page:
        settle(page)
        page.keyboard.press("/")
        page.keyboard.press("ArrowDown")
        focused = "document.activeElement.dataset.id"
        order = ids(page)
        assert int(page.evaluate(focused)) == order[0]
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert int(page.evaluate(focused)) == order[2]
        page.keyboard.press("ArrowDown")
        below = int(page.evaluate(focused))
        assert order.index(below) > 2
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.wait_for_selector("#viewer[open] #words button")
        page.keyboard.press("w")
        page.wait_for_selector("#words [aria-checked=true]")
        page.keyboard.press("Escape")
        page.wait_for_selector("#viewer", state="hidden")
        assert int(page.evaluate(focused)) in order
        page.keyboard.press("3")
        page.wait_for_selector(".both .second .tile")
        page.keyboard.press("?")
        page.wait_for_selector("#keys[open]")


def test_a_script_in_a_caption_or_a_name_is_text(browser, service):
    hit = next(one for one in service.ask("/v1/images?count=200").json["results"] if one["caption"] == SCRIPT)
    assert "<script>" in hit["path"]
    with page_of(browser, service, f"/?q=dog+{quote(SCRIPT)}", refusals=1) as page:
        settle(page)
        assert SCRIPT in page.text_content("#summary")
        page.goto(f"{service.url}/?q=a+dog")
        settle(page)
        page.locator(f'.tile > button[data-id="{hit["id"]}"]').click()
        page.wait_for_selector("#words button")
        assert page.text_content("#viewer-title") == SCRIPT and "<script>" in page.text_content("#facts")
        assert page.get_attribute("#photo", "alt").startswith(SCRIPT)
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img[src=x]").count() == 0
        # Nor would one run that had got in.
        page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=\"/nowhere\" onerror=\"window.hacked=1\">')"
        )
        wait(page, "[...document.images].at(-1).complete")
        assert page.evaluate("window.hacked") is None


def test_images_say_what_they_show(browser, service):
    with page_of(browser, service, "/?q=a+dog") as page:
        settle(page)
        alternatives = page.eval_on_selector_all(".tile img", "images => images.map(image => image.alt)")
        assert all(alternatives) and "a dog on a mat, May 2, 2021" in alternatives
        named = "one.textContent.trim() || one.ariaLabel || one.labels?.length || one.querySelector('img[alt]')"
        unnamed = f"[...document.querySelectorAll('button, input, a')].filter(one => !({named})).map(one => one.id)"
        assert page.evaluate(unnamed) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_on_a_phone_and_in_the_dark(scheme, width, browser, service, tmp_path):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "has_touch": width == 390}
    with page_of(browser, service, "/?q=a+dog&view=both", **options) as page:
        page.wait_for_selector(".both .second .tile")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in paper[4:-1].split(",")) > 384) == (scheme == "light")
        page.locator(f".second {TILES}").first.click()
        page.wait_for_selector("#viewer[open] #words button")
        boxes = [page.locator(one).bounding_box() for one in ("#photo", "#words", "#similar")]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
        if folder := os.environ.get("TCL_SCREENSHOTS"):  # to be looked at
            page.screenshot(path=f"{folder}/{scheme}_{width}.png")


def test_a_token_is_asked_for_once(browser, folder):
    with served(folder / "photos.index", f"--token={TOKEN}") as running, page_of(browser, running, "/?q=a+dog") as page:
        page.wait_for_selector("#login[open]")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login-problem:not([hidden])")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        settle(page)
        page.wait_for_selector(".tile img.there")
        page.reload()
        settle(page)
        assert not page.locator("#login[open]").count()


def test_the_progress_of_an_index_that_is_being_made(browser, folder, tmp_path):
    photos, index = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    for i in range(4):
        noise(i, (60, 40)).save(photos / f"{i}.jpg")
    stages = Stages(tiny_tcl(), str(folder / "model"))
    build(index, photos, stages)
    (index / "faiss.index").unlink()
    with contextlib.closing(sqlite3.connect(index / "catalogue.sqlite")) as tables:
        tables.execute("UPDATE items SET pending = 1")
        tables.commit()
    begin_progress(index, 16)
    with served(index) as running, page_of(browser, running) as page:
        page.wait_for_selector("#progress:not([hidden])")
        assert page.text_content("#progress-said").startswith("4 of 16 files, 4 images")
        assert page.locator("#progress-bar").evaluate("bar => bar.value") == 0.25
        assert page.locator("#progress-latest img").count() == 4
        build(index, photos, stages)
        page.wait_for_selector(TILES)
        assert page.text_content("h1") == "Search 4 images" and page.locator("#progress").is_hidden()
