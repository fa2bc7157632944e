"""The worker's page in a real browser: what it shows, when it changes, and what it never does."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.browser.conftest import DESKTOP, PHONE, Visitor, until
from tests.scenes import Scene
from worker.model import bundle as bundles
from worker.opening import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import Site

pytestmark = pytest.mark.browser
WEIGHT, FIRST_PAINT = 100_000, 200
"""Bytes and milliseconds at most: what is promised."""
SLOWEST_PAINT = 2_000
"""Milliseconds; the test must not fail because the machine has other work."""


def metrics(url: str) -> dict[tuple[str, ...], float]:
    """Samples of /metrics by name and values of labels, in the order of the labels' names."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in samples}


def cells(page: Page, table: str) -> list[list[str]]:
    """What a table says, by row; bars say nothing."""
    rows = page.locator(f"#{table} tbody tr").all()
    return [[cell for cell in row.locator("th, td").all_inner_texts() if cell.strip()] for row in rows]


def facts(page: Page, listed: str) -> dict[str, str]:
    names, said = (page.locator(f"#{listed} {kind}").all_inner_texts() for kind in ("dt", "dd"))
    return dict(zip(names, said, strict=True))


def settled(page: Page) -> None:
    """The page has looked twice, and the card is there."""
    until(page, "!document.getElementById('says').textContent.includes('first sight')")
    page.wait_for_selector("#model", state="visible")


def titled(page: Page, pattern: str) -> None:
    until(page, f"/{pattern}/.test(document.getElementById('title').textContent)")


def test_its_numbers_are_those_of_the_metrics(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """Labels, dead letters, lag, counts: the same figures as a scrape at that moment."""
    site = served(scene)
    page = visitor.open(site.url)
    told = metrics(site.url)
    assert page.locator("#title").inner_text() == "Well."
    total = told["winnow_results_total", "ham"] + told["winnow_results_total", "spam"]
    for label, share, count in cells(page, "labels"):
        assert float(count.replace(",", "")) == told["winnow_results_total", label]
        assert share == f"{told['winnow_results_total', label] / total:.0%}".replace("%", " %")
    assert cells(page, "reasons") == [["invalid-json", "decode", "5", "5"]]
    lag = {row[0]: row[1] for row in cells(page, "partitions")}
    assert lag == {str(part): f"{told['winnow_lag_messages', str(part), 'messages']:.0f}" for part in range(6)}
    assert page.locator("#lag").inner_text() == "270"
    counts = facts(page, "counts")
    assert counts["Read"] == counts["Acknowledged"] == f"{told['winnow_consumed_total',]:.0f}" == "605"
    assert [row[0] for row in cells(page, "latency")][:2] == ["End to end", "In the worker"]
    closed = {row[0]: int(row[2]) for row in cells(page, "closed")}
    assert closed == {
        reason: count
        for (name, *rest), count in told.items()
        if name == "winnow_batch_closed_total" and count
        for reason in rest
    }
    assert {row[0] for row in cells(page, "drift")} == {"ham", "spam"}
    page.wait_for_selector("#model", state="visible")
    manifest = bundles.load(DEFAULT_BUNDLE).manifest
    assert page.locator("#model-name").inner_text() == manifest.name
    assert f"spam {manifest.thresholds['spam']}" in facts(page, "model-facts")["Thresholds"]


def test_it_changes_by_itself(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """What happens is there seconds later, with its rate and course, and without a reload."""
    page = visitor.open(served(scene).url)
    page.evaluate("window.same = true")
    scene.work(1_000)
    scene.lag({4: 9_000})
    until(page, "document.getElementById('lag').textContent === '9,270'")
    assert facts(page, "counts")["Read"] == "1,605"
    until(page, "document.querySelector('#course .line').hasAttribute('d')")
    assert page.evaluate("window.same")


def test_what_is_wrong_stands_first_with_what_to_do(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """As soon as it is so, in words, with the runbook; and it goes when it is over."""
    page = visitor.open(served(scene).url)
    scene.metrics.connected(False)
    scene.health.connected = False
    titled(page, "^No broker is there")
    assert page.locator("#todo").inner_text() == (
        "What to do: docs/operations.md#no-broker (alert WinnowBrokerDisconnected)"
    )
    assert page.title() == "✕ No broker is there – Winnow"
    assert page.locator("#verdict").get_attribute("data-state") == "not-well"
    scene.metrics.connected(True)
    scene.health.connected = True
    titled(page, "^Well")
    assert page.locator("#todo").is_hidden()


def test_a_worker_that_has_gone_is_said_and_comes_back(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """Since when, with the last figures in grey; when it answers again, all is as before."""
    site = served(scene)
    page = visitor.open(site.url)
    site.go()
    titled(page, r"^No answer since \d\d:\d\d:\d\d\.$")
    assert page.locator("#verdict").get_attribute("data-state") == "gone"
    assert "#no-worker-answers" in page.locator("#todo").inner_text()
    assert page.locator("#lag").inner_text() == "270"
    assert page.evaluate("getComputedStyle(document.getElementById('figures')).filter") == "grayscale(1)"
    scene.lag({0: 30})
    site.come_back()
    titled(page, "^Well")
    until(page, "document.getElementById('lag').textContent === '297'")
    assert page.evaluate("getComputedStyle(document.getElementById('figures')).filter") == "none"


def test_a_worker_that_starts_is_shown_starting(visitor: Visitor, served: Callable[[Scene], Site]):
    """From before its model is open until it works; nothing is broken by what is not there yet."""
    scene = Scene(clock=time.time, empty=True)
    page = visitor.open(served(scene).url)
    assert page.locator("#title").inner_text() == "Starting."
    scene.open()
    scene.assign(2)
    scene.work(10)
    titled(page, "^Well")
    assert visitor.complaints == []


def test_two_hundred_partitions_are_eight_and_a_button(visitor: Visitor, served: Callable[[Scene], Site]):
    """Those with most lag; the rest by keyboard, in a region that scrolls."""
    scene = Scene([f"label-{number:03}" for number in range(250)], clock=time.time)
    scene.assign(200)
    scene.work(4_000)
    scene.lag({number: number * 10 for number in range(200)})
    page = visitor.open(served(scene).url)
    assert [row[0] for row in cells(page, "partitions")] == [str(number) for number in range(199, 191, -1)]
    button = page.locator("#partitions-more")
    assert button.inner_text() == "and 192 partitions more"
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert len(cells(page, "partitions")) == 200
    assert button.get_attribute("aria-expanded") == "true"
    box = page.locator("#partitions-box")
    assert box.get_attribute("tabindex") == "0"
    assert box.evaluate("box => box.scrollHeight > box.clientHeight")
    page.keyboard.press("Space")
    assert len(cells(page, "partitions")) == 8


def test_nothing_leaves_the_worker(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """The page, its view and the card are all that is asked for; the browser has nothing to complain of."""
    site = served(scene)
    page = visitor.open(site.url)
    settled(page)
    assert set(visitor.requests) == {f"{site.url}/", f"{site.url}/status", f"{site.url}/model"}
    assert visitor.complaints == []


def test_its_policy_holds(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """A script, a style or a picture that got in would not run, count or be fetched."""
    page = visitor.open(served(scene).url)
    with socket.create_server(("127.0.0.1", 0)) as far:
        far.settimeout(0.5)
        page.evaluate(
            """far => {
              const add = (name, changes) => document.body.append(Object.assign(document.createElement(name), changes));
              add('script', {textContent: 'window.got = 1'});
              add('style', {textContent: 'body{display:none}'});
              add('img', {src: far});
              fetch(far).catch(() => {});
            }""",
            f"http://127.0.0.1:{far.getsockname()[1]}/x.png",
        )
        page.wait_for_timeout(200)
        with pytest.raises(TimeoutError):
            far.accept()
    assert page.evaluate("window.got") is None
    assert page.evaluate("getComputedStyle(document.body).display") == "block"
    assert len([said for said in visitor.complaints if "Content Security Policy" in said]) >= 4


def test_names_are_texts(visitor: Visitor, served: Callable[[Scene], Site]):
    """Labels and topics of others may look like markup."""
    name = "<img src=x onerror=alert(1)>"
    scene = Scene([name, "b"], clock=time.time)
    scene.assign(1, topic="<b>t</b>")
    scene.work(100)
    page = visitor.open(served(scene).url)
    assert cells(page, "labels")[0][0] == name
    assert page.locator("main img").count() == 0
    assert "<b>t</b>" in page.locator("#partitions-says").inner_text()


@pytest.mark.parametrize("width", [320, 360, 768, 1180, 1920])
def test_nothing_sticks_out(visitor: Visitor, served: Callable[[Scene], Site], width: int):
    """From the smallest phone on there is no scrolling sideways, with long names and large numbers."""
    scene = Scene(["a-label-with-a-name-that-is-longer-than-most", "spam"], clock=time.time)
    scene.assign(60, topic="a.topic.with.a.name.of.its.own.that.is.long")
    scene.work(2_000, dead={"invalid-cloudevent": 500, "invalid-header-value": 3}, seconds=9.0, low=0.5)
    scene.lag(dict.fromkeys(range(60), 12_345_678), topic="a.topic.with.a.name.of.its.own.that.is.long")
    page = visitor.open(served(scene).url, (width, 800))
    settled(page)
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.sideways, .off')"
        " && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"
    )
    assert (page.evaluate("document.documentElement.scrollWidth") <= width, wide) == (True, [])


def test_without_javascript_it_says_where_to_look(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """A sentence, with the metrics and the terminal."""
    page = visitor.open(served(scene).url, java_script_enabled=False, wait=False)
    said = page.locator("noscript").inner_text()
    assert "/metrics" in said
    assert "winnow top" in said


def test_it_moves_only_where_that_is_welcome(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """Whoever asked for less motion gets none."""
    page = visitor.open(served(scene).url, reduced_motion="reduce")
    until(page, "document.body.classList.contains('beat')")
    assert page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('.bar i')).transitionDuration") in ("0s", "")


def test_only_the_verdict_is_read_aloud(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """Numbers that change every two seconds are not announced."""
    page = visitor.open(served(scene).url)
    assert page.locator("[aria-live], [role=status], [role=alert]").count() == 1
    assert page.locator("[role=status]").get_attribute("id") == "title"


def test_it_is_reached_by_keyboard_in_order(visitor: Visitor, served: Callable[[Scene], Site]):
    """Every control, from the top to the bottom, with a ring around it."""
    scene = Scene(clock=time.time)
    scene.assign(30)
    scene.work(50)
    page = visitor.open(served(scene).url)
    page.wait_for_selector("#readme-box")
    found = []
    for _ in range(8):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "(() => { const e = document.activeElement; return [e.id || e.tagName + (e.getAttribute('href') || ''), "
            "getComputedStyle(e).outlineStyle, e.getBoundingClientRect().top + scrollY]; })()"
        )
        if place[0].startswith("BODY"):
            break
        found.append(place)
    names = [name for name, _, _ in found]
    assert names[0] == "partitions-more"
    assert names[-2:] == ["Astatus", "Ametrics"]
    assert all(ring != "none" for _, ring, _ in found)
    tops = [top for _, _, top in found]
    assert tops == sorted(tops)


STATES = ("well", "not well", "gone", "starting", "many")


def in_state(state: str, scene: Scene, served: Callable[[Scene], Site]) -> Site:
    if state == "starting":
        return served(Scene(clock=time.time, empty=True))
    if state == "not well":
        scene.work(900, dead={"missing-field": 200}, low=0.8)
        scene.metrics.reset(2)
        scene.lag(dict.fromkeys(range(6), 100), waiting=400)
    if state == "many":
        many = Scene([f"label-{number:03}" for number in range(250)], clock=time.time)
        many.assign(200)
        many.work(4_000)
        many.lag({number: number * 10 for number in range(200)})
        return served(many)
    return served(scene)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(
    visitor: Visitor,
    served: Callable[[Scene], Site],
    scene: Scene,
    axe_source: str,
    figure: Callable[[str, str], None],
    scheme: str,
    size: tuple[int, int],
):
    """axe finds nothing, contrast included, in every state, light and dark, large and small."""
    checked = 0
    for state in STATES:
        site = in_state(state, scene, served)
        page = visitor.open(site.url, size, color_scheme=scheme, reduced_motion="reduce")
        if state == "gone":
            settled(page)
            site.go()
            titled(page, "^No answer")
        if state == "many":
            page.click("#partitions-more")
            page.click("#labels-more")
        if state != "starting":
            page.wait_for_selector("#model", state="visible")
            page.click("#readme-box summary")
        page.evaluate(axe_source)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
        said = [f"{one['id']}: {node['html'][:120]}" for one in found["violations"] for node in one["nodes"]]
        assert said == [], (state, said)
        checked += len(found["passes"])
        if state == "gone":
            site.come_back()
    figure(f"axe {scheme} {size[0]}", f"0 violations, {checked} rules passed in {len(STATES)} states")


def test_it_is_light_and_there_at_once(
    visitor: Visitor, served: Callable[[Scene], Site], scene: Scene, figure: Callable[[str, str], None]
):
    """All that is loaded before figures are shown is one document; the first paint is the median of five visits."""
    site = served(scene)
    with urllib.request.urlopen(site.url) as answer:
        weight = len(answer.read())
    paints = []
    for _ in range(5):
        page = visitor.open(site.url)
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        until(page, f"{paint} > 0")
        paints.append(page.evaluate(paint))
        page.close()
    median = sorted(paints)[2]
    figure("weight", f"{weight:,} bytes (at most {WEIGHT:,})")
    figure(
        "first contentful paint", f"{median:.0f} ms, median of {[round(one) for one in paints]} (at most {FIRST_PAINT})"
    )
    assert weight <= WEIGHT
    assert median < SLOWEST_PAINT


def test_dark_and_light_differ(visitor: Visitor, served: Callable[[Scene], Site], scene: Scene):
    """As the system asks."""
    site = served(scene)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, light = (visitor.open(site.url, color_scheme=scheme).evaluate(ground) for scheme in ("dark", "light"))
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (dark, light)]
    assert brightness[0] < 150 < 600 < brightness[1]
