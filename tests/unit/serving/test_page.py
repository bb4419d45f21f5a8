"""The page in Debian's Chromium, on the real server: what a person sees, hears and can reach."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Page, Request, Route, expect, sync_playwright

import lpt
from lpt.packs.predictor import Predictor
from lpt.serving import create_app
from small_packs import NAMES, edit, give_threshold, new_model, write
from small_server import RunningServer

PAGE = Path(lpt.__file__).parent / "serving" / "page"
MOST_BYTES = 60_000
TOKEN = "a-token-that-nobody-guesses"
USE = {"split": "test", "classes": [[0, 1, 2, 3], [3, 1], [2, 0]]}
DESKTOP = {"viewport": {"width": 1180, "height": 2400}, "reduced_motion": "reduce"}
PHONE = {"viewport": {"width": 360, "height": 4000}, "is_mobile": True, "has_touch": True, "reduced_motion": "reduce"}
expect.set_options(timeout=20_000)  # machines of the tests are busy


class Served(NamedTuple):
    """A server: its address, and a predictor with the same packs."""

    address: str
    predictor: Predictor


@contextmanager
def served(packs: Path, checkpoint: Path, token: str | None = None, **options: Any) -> Iterator[Served]:
    app = create_app(
        packs, checkpoint=checkpoint, engine="torch", device="cpu", precision="fp32", token=token, **options
    )
    folders = {folder.name: folder for folder in sorted(packs.iterdir())}
    with RunningServer(app) as server:
        predictor = lpt.load_predictor(folders, checkpoint=checkpoint, precision="fp32")
        yield Served(f"http://127.0.0.1:{server.port}", predictor)


@pytest.fixture(scope="module")
def pack_folder(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs that are sure of everything, of nothing, and one without group prompts."""
    folder = tmp_path_factory.mktemp("packs")
    sure = write(folder / "birds", new_model(tiny_backbone))
    edit(sure, lambda values: (values["probabilities"].update(temperature=0.01), values.update(group_use=USE)))
    flat = write(folder / "flat", new_model(tiny_backbone, seed=1))
    edit(flat, lambda values: values["probabilities"].update(temperature=1000))
    write(folder / "phase1", new_model(tiny_backbone, seed=2), [1])
    return folder


@pytest.fixture(scope="module")
def server(pack_folder: Path, tiny_backbone: Path) -> Iterator[Served]:
    with served(pack_folder, tiny_backbone) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "needs Chromium, which is not installed (Debian: apt-get install chromium)"
        pytest.fail(reason) if os.environ.get("LPT_REQUIRE_BROWSER") else pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, server: Served) -> Iterator[Open]:
    """Open the page in a new context; afterwards, no script failed and no other host was asked."""
    faults: list[str] = []
    hosts: set[str] = set()
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if "Security Policy" in message.text:
            faults.append(message.text)

    def new_page(address: str | None = None, **options: Any) -> Page:
        context = browser.new_context(base_url=address or server.address, **(DESKTOP | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto("/")
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert faults == []
    assert {host.partition(":")[0] for host in hosts} - {""} == {"127.0.0.1"}  # blob: and data: have no host


def picture(
    colour: tuple[int, int, int] = (200, 80, 10), size: tuple[int, int] = (60, 40), kind: str = "JPEG"
) -> bytes:
    file = io.BytesIO()
    image = Image.new("RGB", size, colour)
    image.paste((20, 160, 90), (0, 0, size[0] // 2, size[1] // 2))
    image.save(file, kind)
    return file.getvalue()


def payload(name: str, content: bytes | None = None, kind: str = "image/jpeg") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": picture() if content is None else content}


def choose(page: Page, *files: FilePayload) -> None:
    page.get_by_label("Choose pictures").set_input_files(list(files))


def card(page: Page, name: str) -> Any:
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


def check_accessible(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


# --- answers ----------------------------------------------------------------------------------------------------------


def test_the_files_are_small_and_ask_nobody() -> None:
    content = [file.read_text(encoding="utf-8") for file in PAGE.iterdir()]
    assert 0 < sum(len(text.encode()) for text in content) < MOST_BYTES
    addresses = {address for text in content for address in re.findall(r"https?://[^\s'\"]+", text)}
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a language, not a place


def test_a_picture_with_its_classes_counts_and_groups(open_page: Open, server: Served) -> None:
    """What is shown is what the predictor says; a name with markup in it is text."""
    page = open_page()
    choose(page, payload("<b>dress</b>.jpg"))
    shown = card(page, "<b>dress</b>.jpg")
    (expected,) = server.predictor.predict([picture()], pack="birds")
    best = expected.label
    rows = shown.locator(".classes li")
    expect(rows).to_have_count(3)
    assert rows.locator(".name").all_inner_texts() == list(expected.classes)
    expect(rows.first.locator(".percent")).to_have_text(re.compile(r"^(100%|>99%)$"))
    widths = [box["width"] for box in (bar.bounding_box() for bar in rows.locator(".fill").all()) if box]
    assert widths == sorted(widths, reverse=True)
    count, group = dict(zip(NAMES, [(120, "many"), (40, "medium"), (1, "few")], strict=True))[best]
    expect(rows.first).to_contain_text(f"{count} training picture")
    expect(rows.first.locator(".shot")).to_have_text(group)
    expect(shown.get_by_text("Not sure")).to_have_count(0)
    shown.locator("summary").click()
    for number in expected.groups:
        sharing = [
            name for name, groups in zip(NAMES, USE["classes"], strict=True) if number in groups and name != best
        ]
        row = shown.locator(".groups li").filter(has=page.locator("strong", has_text=re.compile(f"^{number}$")))
        for name in sharing:
            expect(row).to_contain_text(name)
        if not sharing:
            expect(row).to_contain_text("by no other class")


def test_a_picture_of_none_of_the_classes_is_told(open_page: Open, tiny_backbone: Path, tmp_path: Path) -> None:
    """Shown and said; packs that both reject a picture agree, whatever their classes."""
    for seed, name in enumerate(("birds", "cranes")):
        give_threshold(write(tmp_path / name, new_model(tiny_backbone, seed=seed)), 2)  # above all cosines
    with served(tmp_path, tiny_backbone, reject=True) as running:
        page = open_page(running.address)
        choose(page, payload("shoe.jpg"))
        shown = card(page, "shoe.jpg")
        expect(shown.get_by_text("None of these classes")).to_have_count(1)
        expect(shown.get_by_text("Not sure")).to_have_count(0)
        expect(shown.locator(".classes li")).to_have_count(3)
        expect(page.get_by_role("status")).to_contain_text("shoe.jpg: none of these classes, closest ")
        page.get_by_label("Compare with").select_option("cranes")
        expect(shown.get_by_text("None of these classes")).to_have_count(2)
        expect(shown).to_contain_text("The packs agree")
        check_accessible(page)


def test_two_packs_side_by_side(open_page: Open, server: Served) -> None:
    """Choosing another pack classifies the pictures again; flat probabilities are called unsure."""
    page = open_page()
    choose(page, payload("bird.jpg"))
    expect(page.locator(".answer")).to_have_count(1)
    page.get_by_label("Compare with").select_option("flat")
    answers = card(page, "bird.jpg").locator(".answer")
    expect(answers).to_have_count(2)
    expect(answers.locator("h4")).to_have_text(["birds", "flat"])
    boxes = [answer.bounding_box() for answer in answers.all()]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    expect(answers.nth(0).get_by_text("Not sure")).to_have_count(0)
    expect(answers.nth(1).get_by_text("Not sure")).to_have_count(1)
    best = {name: server.predictor.predict([picture()], pack=name)[0].label for name in ("birds", "flat")}
    expect(card(page, "bird.jpg")).to_contain_text("disagree" if best["birds"] != best["flat"] else "The packs agree")
    answers.nth(1).locator("summary").click()
    expect(answers.nth(1)).to_contain_text("does not say which classes pick which group prompts")
    page.get_by_label("Compare with").select_option("phase1")
    expect(answers.locator("h4")).to_have_text(["birds", "phase1"])
    expect(answers.nth(1).locator("summary")).to_have_count(0)
    check_accessible(page)


def test_how_frequent_the_classes_are(open_page: Open, tiny_backbone: Path, tmp_path: Path) -> None:
    """Pictures are classified again under what is chosen; a pack that does not know its frequencies is not asked."""
    flat, unknown = (write(tmp_path / name, new_model(tiny_backbone)) for name in ("flat", "unknown"))
    edit(flat, lambda values: values["probabilities"].update(temperature=1000))
    edit(unknown, lambda values: values.update(counts_known=False, class_counts=[1, 1, 1]))
    with served(tmp_path, tiny_backbone) as running:
        page = open_page(running.address)
        choose(page, payload("bird.jpg"))
        percents = card(page, "bird.jpg").locator(".classes .percent")
        expect(percents).to_have_text(["33%"] * 3)
        page.get_by_label("How frequent the classes are").select_option("training")
        expect(percents).to_have_text([re.compile(share) for share in ("7[45]%", "25%", "1%")])
        expect(card(page, "bird.jpg").locator(".classes .name")).to_have_text(list(NAMES))
        check_accessible(page)
        page.get_by_label("Compare with").select_option("unknown")
        expect(card(page, "bird.jpg").locator(".answer").first.locator(".percent")).to_have_text(["33%"] * 3)
        expect(page.locator("#prior-hint")).to_have_text(
            "How frequent classes were in training is not known to unknown."
        )
        expect(page.get_by_label("How frequent the classes are").locator("[value=training]")).to_be_disabled()


ALPHAS = """(canvas, [rows, columns]) => Array.from({length: rows * columns}, (_, patch) => {
  const [row, column] = [Math.floor(patch / columns), patch % columns];
  const [x, y] = [(column + 0.5) * canvas.width / columns, (row + 0.5) * canvas.height / rows];
  return canvas.getContext("2d").getImageData(x, y, 1, 1).data[3];
})"""
"""How dense the overlay is in the middle of each patch."""
LOOKED = {"rows": 3, "columns": 4, "values": [0.01, 0.01, 0.01, 0.0, 0.01, 0.1, 0.1, 0.01, 0.3, 0.4, 0.04, 0.01]}


def look(page: Page) -> None:
    """Let the answers say where the model looked: for the first pack `LOOKED`, for another nothing."""

    def fill(route: Route) -> None:
        assert b"attention=true" in route.request.url.encode() or b'name="attention"\r\n\r\ntrue' in sent(route.request)
        response = route.fetch()
        answer = response.json()
        if response.ok:
            first, *others = [result["predictions"][0] for result in answer.get("results", [answer])]
            first["attention"] = LOOKED
            for prediction in others:
                prediction["attention"] = None
        route.fulfill(response=response, json=answer)

    page.route("**/predict**", fill)


def test_where_the_model_looked(open_page: Open, server: Served) -> None:
    """The overlay lies over the part that the model sees, is densest where it looked, and can be faded and hidden."""
    page = open_page()
    look(page)
    choose(page, payload("bird.jpg"))
    expect(page.locator(".answer")).to_have_count(1)
    canvas = page.locator(".card canvas")
    expect(canvas).to_be_hidden()
    page.get_by_label("shown").check()
    expect(canvas).to_be_visible()
    image, overlay = page.locator(".card img").bounding_box(), canvas.bounding_box()
    assert image is not None
    assert overlay is not None
    share = server.predictor.pack("birds").info.preprocessing.test_crop
    for start, side in (("x", "width"), ("y", "height")):
        assert overlay[side] == pytest.approx(share * image[side], abs=1.5)
        assert overlay[start] == pytest.approx(image[start] + (1 - share) / 2 * image[side], abs=1.5)
    alphas = canvas.evaluate(ALPHAS, [LOOKED["rows"], LOOKED["columns"]])
    much, some, little = ([alphas[patch] for patch in patches] for patches in ((8, 9), (5, 6), (0, 1, 2, 3, 4, 7, 11)))
    assert 255 >= min(much) > 200 > max(some) > min(some) > 60 > max(little)
    expect(page.locator("figcaption")).to_have_text("Looked most at the bottom left.")
    page.get_by_label("Strength").fill("30")
    expect(canvas).to_have_css("opacity", "0.3")
    page.get_by_label("hidden").check()
    expect(canvas).to_be_hidden()


# --- ways in ----------------------------------------------------------------------------------------------------------

PASTE = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "image.png", {type: "image/png"}));
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
}"""


def drop(page: Page, *paths: Path) -> None:
    """Drop files and folders from the desktop on the page."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, "x": 300, "y": 300, "data": data})


def test_files_and_folders_are_dropped(open_page: Open, tmp_path: Path) -> None:
    """Folders are searched; a file that is no picture is left out, and named."""
    (tmp_path / "trip" / "day 1").mkdir(parents=True)
    for name in ("loose.jpg", "trip/10.jpg", "trip/9.jpg", "trip/day 1/sea.jpg"):
        (tmp_path / name).write_bytes(picture())
    (tmp_path / "trip" / "notes.txt").write_text("text")
    page = open_page()
    drop(page, tmp_path / "loose.jpg", tmp_path / "trip")
    expect(page.locator(".answer")).to_have_count(4)
    assert page.locator(".card h3").all_inner_texts() == ["loose.jpg", "9.jpg", "10.jpg", "sea.jpg"]
    expect(page.locator("#left-out")).to_have_text("Left out, no picture: notes.txt.")
    expect(page.locator(".drop.over")).to_have_count(0)


def test_pictures_are_pasted(open_page: Open) -> None:
    page = open_page()
    for number in (1, 2):
        page.evaluate(PASTE, list(picture(kind="PNG")))
        expect(card(page, f"Pasted picture {number}.png").locator(".answer")).to_have_count(1)


def test_a_picture_that_the_browser_cannot_show_is_classified(open_page: Open) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif (pip install 'lpt[heif]')")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.open(io.BytesIO(picture(size=(64, 64))))).save(file)
    page = open_page()
    choose(page, payload("phone.heic", file.getvalue(), "image/heic"))
    expect(card(page, "phone.heic").locator(".placeholder")).to_contain_text("cannot show HEIC pictures")
    expect(card(page, "phone.heic").locator(".answer")).to_have_count(1)


def test_with_the_keyboard_alone(open_page: Open) -> None:
    """From the packs to the answer and back: the focus is seen, never lost, and the answer is read out."""
    page = open_page()
    page.on("filechooser", lambda chooser: chooser.set_files([payload("first.jpg"), payload("second.jpg")]))
    expect(page.get_by_label("Classify with")).to_be_enabled()
    for label in ("Classify with", "Compare with", "How frequent the classes are"):
        page.keyboard.press("Tab")
        expect(page.get_by_label(label)).to_be_focused()
    page.keyboard.press("Tab")  # what the pack is
    page.keyboard.press("Enter")
    expect(page.locator("#about dl")).to_be_visible()
    expect(page.get_by_role("region", name="Classes of birds")).to_be_visible()  # it comes after the list
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="Classes of birds")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose pictures")).to_be_focused()
    assert page.locator("label[for=choose]").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_count(2)
    expect(page.get_by_role("status")).to_contain_text(re.compile(r"(first|second)\.jpg: [^ ,]+, .*%"))
    page.get_by_role("button", name="Remove first.jpg").press("Enter")
    expect(page.get_by_role("heading", name="second.jpg")).to_be_focused()
    page.get_by_role("button", name="Remove second.jpg").press("Enter")
    expect(page.get_by_label("Choose pictures")).to_be_focused()
    expect(page.locator("#results")).to_be_hidden()


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_the_servers_words_stand_beside_the_picture(open_page: Open) -> None:
    """A picture that cannot be read stops no other; one that could not be sent can be sent again."""
    page = open_page()
    page.route("**/predict**", lambda route: route.abort() if b"lost.jpg" in sent(route.request) else route.continue_())
    choose(page, payload("good.jpg"), payload("broken.jpg", picture()[:60]), payload("lost.jpg"))
    expect(card(page, "good.jpg").locator(".answer")).to_have_count(1)
    expect(card(page, "broken.jpg").locator(".state")).to_contain_text("broken.jpg")
    expect(card(page, "lost.jpg").locator(".state")).to_contain_text("The server does not answer")
    expect(page.locator("#count")).to_have_text("2 could not be classified")
    check_accessible(page)
    page.unroute_all()
    page.get_by_role("button", name="Try again: lost.jpg").click()
    expect(card(page, "lost.jpg").locator(".answer")).to_have_count(1)
    expect(page.locator("#count")).to_have_text("1 could not be classified")


def test_a_busy_server_is_asked_again(open_page: Open) -> None:
    page = open_page()
    asked = []

    def busy_twice(route: Route) -> None:
        asked.append(time.monotonic())
        if len(asked) <= 2:
            error = {"error": {"status": 429, "code": "busy", "message": "the queue is full.", "request_id": "1"}}
            route.fulfill(status=429, headers={"Retry-After": "1"}, json=error)
        else:
            route.continue_()

    page.route("**/predict**", busy_twice)
    choose(page, payload("bird.jpg"))
    expect(card(page, "bird.jpg").locator(".state")).to_contain_text("Trying again by itself")
    expect(card(page, "bird.jpg").locator(".answer")).to_have_count(1)
    assert len(asked) == 3
    assert asked[1] - asked[0] > 0.7  # a second, more or less by a fifth


def test_a_few_at_a_time_and_cancel(open_page: Open) -> None:
    """Three pictures are under way at once; the rest waits, can be stopped, and goes on where it was."""
    page = open_page()
    held: list[Route] = []
    page.route("**/predict**", lambda route: held.append(route))
    choose(page, *(payload(f"{number}.jpg") for number in range(8)))
    expect(page.locator("[data-state=running]")).to_have_count(3)
    page.wait_for_timeout(200)
    assert len(held) == 3
    held.pop(0).continue_()
    expect(page.locator("#count")).to_have_text("1 of 8 done")
    expect(page.locator("[data-state=running]")).to_have_count(3)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#count")).to_have_text("Stopped; 7 not classified")
    expect(page.get_by_role("button", name="Go on")).to_be_focused()
    page.unroute_all()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".answer")).to_have_count(8)
    expect(page.locator("#work")).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("7 pictures done")


def test_a_pack_that_has_gone_and_packs_that_come_late(open_page: Open) -> None:
    """The list of packs is asked for again; pictures that were added meanwhile wait for it."""
    page = open_page()
    error = {"error": {"status": 404, "code": "no_pack", "message": "there is no pack birds.", "request_id": "1"}}
    page.route("**/predict**", lambda route: route.fulfill(status=404, json=error))
    choose(page, payload("bird.jpg"))
    expect(card(page, "bird.jpg").locator(".state")).to_have_text("there is no pack birds.")
    expect(page.locator("#packs-problem")).to_contain_text("there is no pack birds.")
    check_accessible(page)
    page.unroute_all()
    held: list[Route] = []
    page.route("**/v1/packs/birds", lambda route: held.append(route))
    page.locator("#packs-retry").click()
    choose(page, payload("late.jpg"))
    expect(card(page, "late.jpg").locator(".state")).to_have_text("Waiting")
    page.get_by_label("Classify with").select_option("flat")  # the answer about birds comes too late
    expect(page.locator(".answer")).to_have_count(2)
    for route in held:
        route.continue_()
    expect(page.locator(".unsure")).to_have_count(2)
    expect(page.locator("#about summary")).to_have_text("About flat")
    expect(page.locator("#packs-problem")).to_be_hidden()


def test_a_token_is_asked_for_and_kept_in_memory_only(open_page: Open, pack_folder: Path, tiny_backbone: Path) -> None:
    with served(pack_folder, tiny_backbone, TOKEN) as locked:
        page = open_page(locked.address)
        field = page.get_by_label("Token", exact=True)
        expect(field).to_be_focused()
        check_accessible(page)
        choose(page, payload("early.jpg"))
        page.keyboard.type("wrong")
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="does not accept this token")).to_be_visible()
        field.fill(TOKEN)
        page.keyboard.press("Enter")
        expect(card(page, "early.jpg").locator(".answer")).to_have_count(1)
        expect(field).to_be_hidden()
        kept = page.evaluate("[location.href, document.cookie, JSON.stringify([localStorage, sessionStorage])].join()")
        assert TOKEN not in kept
        page.reload()
        expect(field).to_be_visible()


# --- for everyone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers_in_any_state(open_page: Open, scheme: str) -> None:
    """Axe finds nothing in the empty page, in answers with everything open, and contrast holds in both schemes."""
    page = open_page(color_scheme=scheme)
    look(page)
    expect(page.locator("#about")).to_contain_text("3 classes")
    check_accessible(page)
    choose(
        page, payload("bird.jpg"), payload("other.jpg", picture((10, 20, 240))), payload("broken.jpg", b"no picture")
    )
    page.get_by_label("Compare with").select_option("flat")
    expect(page.locator(".answer")).to_have_count(4)
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_label("birds", exact=True).check()
    expect(page.locator("canvas").first).to_be_visible()
    check_accessible(page)


def test_on_a_phone(open_page: Open) -> None:
    """At 360 pixels nothing is cut off, all that can be touched has 44 pixels, and the camera is offered."""
    page = open_page(**PHONE)
    expect(page.locator("label[for=camera]")).to_be_visible()
    assert page.get_by_label("Take a photo").get_attribute("capture") == "environment"
    page.get_by_label("Take a photo").set_input_files([payload("photo.jpg")])
    choose(page, payload("a-very-long-name-without-any-space-" * 4 + ".jpg"), payload("broken.jpg", b"no picture"))
    page.get_by_label("Compare with").select_option("flat")
    expect(page.locator(".answer")).to_have_count(4)
    page.get_by_label("birds", exact=True).check()
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    targets = page.locator(
        "button:visible, select:visible, summary:visible, .button:visible, .segments span, #strength"
    )
    for target in targets.all():
        box = target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44, target.inner_text()
    durations = page.locator(".classes .fill").first.evaluate("bar => getComputedStyle(bar).animationDuration")
    assert float(durations.removesuffix("s")) < 0.001  # less motion was asked for
    check_accessible(page)


def sent(request: Request) -> bytes:
    return request.post_data_buffer or b""
