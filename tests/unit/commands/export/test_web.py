"""The page of `lpt export --web` in Debian's Chromium, from a plain static host."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from benchmarks.serving.web import measure
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect, sync_playwright
from rich.console import Console

import lpt
from lpt.commands.export.web.page import SITE, page_facts, write_page
from lpt.data.decoding import read_image
from lpt.data.transforms import Preprocessing
from lpt.errors import ConfigError, RunError
from lpt.packs.pack import load_pack
from small_packs import give_threshold, new_model, write
from static_host import Host, require_runtime, skip_or_fail

expect.set_options(timeout=30_000)  # machines of the tests are busy
PHONE = {"viewport": {"width": 360, "height": 800}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        skip_or_fail("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


@pytest.fixture(scope="module")
def pack(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack that rejects half of four photos."""
    folder = write(tmp_path_factory.mktemp("packs") / "birds", new_model(tiny_backbone))
    predictor = lpt.load_predictor(folder, checkpoint=tiny_backbone, precision="fp32")
    outputs = predictor.run([predictor.prepare(photo) for photo in photos(4)])
    give_threshold(folder, float(np.median([output.scores.max() for output in outputs])))
    return folder


@pytest.fixture(scope="module")
def exported(pack: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a tiny pack. Do not change it."""
    require_runtime()
    folder = tmp_path_factory.mktemp("exported") / "site"
    assert lpt.export(pack, folder, web=True, checkpoint=tiny_backbone, reject=True) == folder / "index.html"
    return folder


@pytest.fixture
def site(exported: Path, tmp_path: Path) -> Path:
    """A copy of the page, to be changed at will."""
    return Path(shutil.copytree(exported, tmp_path / "site"))


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a page in a new context; afterwards, no script failed and no other host was asked."""
    faults: list[str] = []
    hosts: set[str] = set()
    contexts: list[BrowserContext] = []

    def new_page(address: str, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        contexts[-1].on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
        page = contexts[-1].new_page()
        page.on("console", lambda message: "Policy" in message.text and faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert faults == []
    assert hosts - {""} <= {"127.0.0.1"}  # blob: and data: have no host


@pytest.fixture
def served() -> Iterator[Callable[[Path], Host]]:
    hosts: list[Host] = []

    def serve(folder: Path) -> Host:
        hosts.append(Host(folder))
        return hosts[-1]

    yield serve
    for host in hosts:
        host.stop()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(height + width).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def photos(count: int) -> list[bytes]:
    return [encoded(noise(3 + number, 4).resize((90 + 7 * number, 70))) for number in range(count)]


def payload(name: str, content: bytes, kind: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": content}


def choose(page: Page, contents: list[bytes]) -> list[dict[str, Any]]:
    """Give pictures to a page, and return what it answers, in their order."""
    files = [payload(f"{number}.png", content) for number, content in enumerate(contents)]
    page.get_by_label("Choose pictures").set_input_files(files)
    expect(page.locator(".card[data-state=done]")).to_have_count(len(files))
    return shown(page)


def shown(page: Page) -> list[dict[str, Any]]:
    """Return the answers that a page shows."""
    return page.locator(".card").evaluate_all(
        """cards => cards.map(card => ({
            classes: [...card.querySelectorAll(".classes .name")].map(name => name.textContent),
            shares: [...card.querySelectorAll(".classes .fill")].map(fill => +fill.style.getPropertyValue("--share")),
            facts: [...card.querySelectorAll(".classes .facts")].map(facts => facts.textContent),
            groups: card.querySelector(".groups summary").textContent,
            unsure: card.querySelector(".unsure:not(.none)") !== null,
            rejected: card.querySelector(".none") !== null,
        }))"""
    )


def check_answers(page: Page, predictor: lpt.Predictor, contents: list[bytes]) -> list[dict[str, Any]]:
    answers = choose(page, contents)
    compare(answers, predictor, contents)
    return answers


def compare(
    answers: list[dict[str, Any]], predictor: lpt.Predictor, contents: list[bytes], prior: str | None = None
) -> None:
    reject = predictor.pack().info.rejection is not None
    for answer, wanted in zip(answers, predictor.predict(contents, reject=reject, prior=prior), strict=True):
        assert answer["rejected"] == bool(wanted.rejected)
        assert answer["classes"] == list(wanted.classes)
        assert answer["shares"] == pytest.approx(wanted.probabilities, abs=1e-3)
        assert [int(number) for number in answer["groups"].replace("and", "").split() if number.isdigit()] == list(
            wanted.groups
        )


# --- in the browser ---------------------------------------------------------------------------------------------------


def test_page_answers_as_the_predictor_and_then_without_a_network(
    exported: Path, pack: Path, tiny_backbone: Path, open_page: Open
) -> None:
    predictor = lpt.load_predictor(pack, checkpoint=tiny_backbone, precision="fp32")
    host = Host(exported)
    try:
        page = open_page(host.address)
        expect(page.locator("#state")).to_contain_text("also works without a network")
        assert page.evaluate("crossOriginIsolated")  # so that it may use threads, though the host sets no header
        answers = check_answers(page, predictor, photos(4))
    finally:
        host.stop()
    for prior in ("training", "even"):
        page.get_by_label("How frequent the classes are").select_option(prior)
        compare(shown(page), predictor, photos(4), prior)
    assert {"adder": "120", "björn": "40", "crane": "1"}[answers[0]["classes"][0]] == answers[0]["facts"][0].split()[0]
    assert sum(answer["rejected"] for answer in answers) == 2
    assert [answer["unsure"] for answer in answers] == [
        answer["shares"][0] < 3**-0.5 and not answer["rejected"] for answer in answers
    ]
    page.reload()
    expect(page.locator("#state")).to_contain_text("also works without a network")
    assert check_answers(page, predictor, photos(2)) == answers[:2]


VALUES = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
PICTURES = {
    "smaller": noise(211, 300),
    "larger": noise(9, 17),
    "in strips of rows": Image.fromarray(np.tile(np.asarray(noise(31, 1450)), (47, 1, 1))),
    "tall: by columns first": noise(900, 130),
    "tall and in strips of columns": Image.fromarray(np.tile(np.asarray(noise(86, 500)), (50, 1, 1))),
    "as it is": noise(40, 48),
    "grey": noise(60, 50, 1),
    "grey and transparent": noise(60, 50, 2),
    "every alpha and value": Image.merge("RGBA", [VALUES, VALUES, VALUES, VALUES.transpose(Image.Transpose.ROTATE_90)]),
    "palette": noise(64, 64).quantize(50),
}


def test_pixels_are_those_of_pillow_bit_for_bit(
    site: Path, pack: Path, served: Callable[[Path], Host], open_page: Open
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    files = {name: encoded(image) for name, image in PICTURES.items()}
    files["transparent palette"] = encoded(PICTURES["palette"], transparency=3)
    files["turned PNG"] = encoded(noise(60, 90), exif=exif)
    files["turned JPEG"] = encoded(noise(6, 9).resize((90, 60)), "JPEG", exif=exif, quality=95)
    files["WebP"] = encoded(noise(70, 61), "WEBP", lossless=True)
    for number, content in enumerate(files.values()):
        (site / f"picture{number}").write_bytes(content)
    page = open_page(served(site).address, service_workers="block")
    for interpolation in ("bicubic", "bilinear"):
        preprocessing = Preprocessing(
            size=(40, 48), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation=interpolation, test_crop=1.0,
            crop_area=(0.2, 1.0), crop_aspect=(0.75, 1.33), flip=True,
        )  # fmt: skip
        info = load_pack(pack).info.model_copy(update={"preprocessing": preprocessing})
        how = page_facts("birds", info, preprocessing.size)["preprocessing"]
        prepared = page.evaluate(
            """async ([count, how]) => {
                const { prepare } = await import("./pixels.js");
                const read = async (_, number) => (await fetch(`picture${number}`)).blob();
                const pictures = await Promise.all(Array.from({ length: count }, read));
                return Promise.all(pictures.map(async (picture) => Array.from(await prepare(picture, how))));
            }""",
            [len(files), how],
        )
        for (name, content), pixels in zip(files.items(), prepared, strict=True):
            wanted = preprocessing.test_array(read_image(content, name)).transpose(1, 2, 0)
            np.testing.assert_array_equal(np.array(pixels, dtype=np.uint8).reshape(wanted.shape), wanted, err_msg=name)
    (site / "deep").write_bytes(encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))))
    refusal = page.evaluate(
        """async (how) => {
            const { prepare } = await import("./pixels.js");
            return prepare(await (await fetch("deep")).blob(), how).catch((error) => error.message);
        }""",
        {**how, "deep": True},  # the pack says what white is, and browsers keep 8 bits only
    )
    assert "16 bits a channel" in refusal


@pytest.mark.slow
def test_real_backbone_answers_as_the_predictor(
    shared_dir: Path, served: Callable[[Path], Host], open_page: Open, tmp_path: Path
) -> None:
    require_runtime()
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    (weights,) = (shared_dir / "hub").glob(f"models--timm--{name}/snapshots/*/model.safetensors")
    model = new_model(weights, (224, 224), name=name, shared_blocks=10)  # most blocks are traced once, not twice
    pack = write(tmp_path / "real", model)
    predictor = lpt.load_predictor(pack, checkpoint=weights, precision="fp32")
    lpt.export(pack, tmp_path / "site", web=True, checkpoint=weights)
    page = open_page(served(tmp_path / "site").address)
    check_answers(page, predictor, photos(2))


def test_benchmark_takes_the_times_that_the_page_gives(
    exported: Path, served: Callable[[Path], Host], browser: Browser
) -> None:
    page = browser.new_page()
    measured = measure(page, served(exported).address, images=2)
    page.close()
    seconds = measured["seconds_per_image"]
    assert 0 < seconds["network"] < seconds["median"] <= seconds["most"]
    assert seconds["decode_and_resize"] > 0
    assert measured["ready_seconds"] > 0


@pytest.mark.parametrize("options", [{}, PHONE], ids=["light", "dark phone"])
def test_accessible_and_fits_the_screen(
    options: dict[str, Any], exported: Path, served: Callable[[Path], Host], open_page: Open
) -> None:
    page = open_page(served(exported).address, **options)
    expect(page.locator("#state")).to_contain_text("Ready")
    page.get_by_text("About birds").click()
    choose(page, photos(1))
    page.get_by_label("Choose pictures").set_input_files([payload("broken.png", b"no picture")])
    expect(page.locator(".card[data-state=failed]")).to_have_count(1)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_by_text("Take a photo", exact=True).is_visible() == ("has_touch" in options)


def test_pictures_that_cannot_be_read_are_told_and_the_rest_goes_on(
    exported: Path, served: Callable[[Path], Host], open_page: Open
) -> None:
    page = open_page(served(exported).address)
    expect(page.locator("#state")).to_contain_text("Ready")
    files = [payload("good.png", photos(1)[0]), payload("cut.png", photos(1)[0][:60]), payload("empty.png", b""),
             payload("notes.txt", b"text", "text/plain")]  # fmt: skip
    page.get_by_label("Choose pictures").set_input_files(files)
    expect(page.locator(".card[data-state=done]")).to_have_count(1)
    expect(page.locator(".card[data-state=failed]")).to_have_count(2)
    shown = page.locator(".card[data-state=failed] .state").all_text_contents()
    assert [text.split(".")[0] for text in shown] == ["This browser cannot read it as a picture", "The file is empty"]
    expect(page.locator("#left-out")).to_contain_text("notes.txt")


def test_pictures_that_come_before_the_classifier_are_not_lost(
    exported: Path, served: Callable[[Path], Host], browser: Browser
) -> None:
    page = browser.new_page()
    page.add_init_script(
        """const register = navigator.serviceWorker.register.bind(navigator.serviceWorker);
        navigator.serviceWorker.register = async (...given) => {
            const registered = await register(...given);
            await new Promise((go) => (self.go = go));
            return registered;
        };"""
    )
    page.goto(served(exported).address)
    page.get_by_label("Choose pictures").set_input_files([payload("early.png", photos(1)[0])])
    # not by wait_for_function: the page's policy allows no eval
    page.evaluate("async () => { while (!self.go) await new Promise((next) => setTimeout(next, 20)); self.go(); }")
    expect(page.locator(".card[data-state=done]")).to_have_count(1)
    page.close()


def test_a_page_without_its_service_worker_needs_the_network_and_has_one_thread(
    site: Path, pack: Path, tiny_backbone: Path, served: Callable[[Path], Host], open_page: Open
) -> None:
    (site / "README.txt").unlink()
    (site / "onnxruntime-LICENSE.txt").unlink()  # the service worker keeps all files or refuses
    page = open_page(served(site).address)
    expect(page.locator("#state")).to_have_text("Ready. This page works as long as there is a network.")
    check_answers(page, lpt.load_predictor(pack, checkpoint=tiny_backbone, precision="fp32"), photos(1))


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: b"?" + content[1:]])
def test_a_network_that_is_not_of_this_release_is_refused(
    change: Callable[[bytes], bytes], site: Path, served: Callable[[Path], Host], open_page: Open
) -> None:
    model = site / "ort-wasm-simd-threaded.wasm"
    model.write_bytes(change(model.read_bytes()))
    page = open_page(served(site).address)
    expect(page.locator("#problem")).to_contain_text("wasm is incomplete, or of another version of this page")


def test_classes_of_another_version_name_no_answers(
    site: Path, served: Callable[[Path], Host], open_page: Open
) -> None:
    """As where a browser keeps facts.json of one version, and the host has the network of another."""
    facts = json.loads((site / "facts.json").read_text(encoding="utf-8"))
    (site / "facts.json").write_text(json.dumps(facts | {"model_sha256": "0" * 64}), encoding="utf-8")
    page = open_page(served(site).address)
    expect(page.locator("#problem")).to_contain_text("facts.json is incomplete, or of another version of this page")


# --- the folder -------------------------------------------------------------------------------------------------------


def test_folder_lists_its_files_and_runs_no_inline_script(exported: Path) -> None:
    listed = json.loads((exported / "site.json").read_text(encoding="utf-8"))
    assert set(SITE.names) == {path.name for path in exported.iterdir()}
    for file in listed["files"]:
        content = (exported / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert set(SITE.names) - {file["name"] for file in listed["files"]} == {
        "README.txt", "release.js", "service-worker.js", "site.json"
    }  # fmt: skip
    policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    assert policy in (exported / "index.html").read_text(encoding="utf-8")
    assert policy in (exported / "service-worker.js").read_text(encoding="utf-8").replace('" +\n    "', "")
    assert (exported / "onnxruntime-LICENSE.txt").read_text().startswith("MIT License")


def test_a_disk_that_is_too_small_leaves_the_earlier_page(exported: Path, site: Path) -> None:
    (site / "facts.json").write_text("earlier", encoding="utf-8")
    (site / "mine.txt").write_text("mine", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in site.iterdir()}
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * 2**20, limits[1]))  # ONNX Runtime Web is larger
    try:
        with pytest.raises(RunError, match="wasm: File too large"):
            write_page(site, {path.name: path.read_bytes() for path in exported.iterdir()}, Console(quiet=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in site.iterdir()} == before


def test_folder_that_holds_something_is_refused(site: Path, pack: Path) -> None:
    with pytest.raises(RunError, match="holds a page already; add overwrite"):
        lpt.export(pack, site, web=True)
    (site / "site.json").unlink()
    with pytest.raises(RunError, match="was not written by lpt"):
        lpt.export(pack, site, web=True, overwrite=True)
    with pytest.raises(ConfigError, match="runtime: only a page needs it"):
        lpt.export(pack, site, runtime=site)
