"""The report page in a real browser, wide and narrow, light and dark: what it shows, what it does, whom it serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from toys import metrics_file

from wsss.plan import Plan, drawings, state, targets
from wsss.plan.runs import Run
from wsss.plan.target import Target
from wsss.provenance.record import recorded
from wsss.report.claims import write_claims
from wsss.report.figures import draw_figure
from wsss.report.page import write_page
from wsss.report.tables import write_table

ROOT = Path(__file__).parent.parent
WRITERS = {"tables": write_table, "figures": draw_figure, "claims": write_claims}
MADE = ("seam_table2", "seam_stages", "seam_table5", "seam_thresholds", "seam_claims")
PHONE, DESK = 390, 1280
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright, which the dev group installs")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of the machine, or of Playwright's."""
    with playwright.sync_playwright() as running:
        own = running.chromium.executable_path
        found = next(filter(None, map(shutil.which, BROWSERS)), own)
        if not Path(found).exists():
            pytest.skip("needs a Chromium: apt-get install chromium, or playwright install chromium")
        opened = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page with tables, a chart, claims and a training, on made-up numbers."""
    folder = tmp_path_factory.mktemp("page")
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config |= {"papers": ["seam", "aeft"], "results": str(folder / "results")}
    config["datasets"]["shapes"]["seeds"] = [0, 1]
    plan = Plan(config, ROOT / "workflow" / "papers")
    for number, word in enumerate(MADE):
        target = targets.available(plan, "shapes")[word]
        make(plan, target, 0.3 + 0.02 * number)
    training = plan.home(Run("shapes", "seam", "baseline"), 0, "train")
    training.mkdir(parents=True, exist_ok=True)
    (training / "losses.csv").write_text("step,epoch,phase,term,value\n0,0,a,cls,0.7\n1,0,a,cls,0.6\n2,0,a,cls,0.5\n")
    log = plan.results / "logs/shapes/seam/baseline/seed0/train.log"
    log.parent.mkdir(parents=True)
    log.write_text("step 100: " + "a long line of a log that goes on " * 9)
    out = plan.results / "shapes/report/index.html"
    write_page(state.page(plan, "shapes"), out)
    return out


def make(plan: Plan, target: Target, value: float) -> None:
    """Make a target from made-up metrics; those that are there are kept."""
    drawing = drawings.drawing(plan, "shapes", target)
    for number, path in enumerate(map(Path, drawings.inputs(drawing))):
        if not path.exists():
            metrics_file(path, value + 0.01 * (number % 7), path.stem.partition("_")[0])
    folder = Path(targets.folder(plan, "shapes", target))
    with recorded(target.kind, [], [str(folder)], None, "cpu"):
        WRITERS[target.kind](drawing, folder)


@pytest.fixture
def opened(browser, page):
    """Open the page at a width, in a scheme of colours; all that it asks for and complains of is kept."""
    contexts = []

    def at(width: int, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.asked, tab.complaints = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.goto(page.as_uri())
        return tab

    yield at
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_axe_finds_nothing(opened, width, scheme):
    tab = opened(width, scheme)
    tab.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    found = axe.Axe().run(tab).response["violations"]
    assert [(rule["id"], [node["html"] for node in rule["nodes"][:3]]) for rule in found] == []


@pytest.mark.parametrize("name", ["tables/seam_table2", "claims/seam_claims"])
def test_axe_finds_nothing_in_a_table_alone(browser, page, name):
    tab = browser.new_page()
    tab.goto((page.parent.parent / name / "table.html").as_uri())
    found = axe.Axe().run(tab).response["violations"]
    tab.close()
    assert [(rule["id"], [node["html"] for node in rule["nodes"][:3]]) for rule in found] == []


def test_the_page_asks_for_nothing_but_itself(opened, page):
    tab = opened(DESK)
    assert [url for url in tab.asked if not url.startswith("data:")] == [page.as_uri()]
    assert tab.complaints == []


def test_what_was_found_comes_before_what_could_be(opened):
    tab = opened(DESK)
    tops = [tab.locator(f"#{name}").bounding_box()["y"] for name in ("claims-found", "results", "waiting")]
    assert tops == sorted(tops)
    assert tab.locator("table.claims").first.bounding_box()["y"] < 1100
    waiting = tab.locator("tr[data-paper=aeft][data-kind=tables]").first
    assert not waiting.is_visible()
    tab.get_by_text("that are not made").click()
    assert waiting.is_visible()


CUT = """() => [...document.body.querySelectorAll("*")].filter((part) =>
  part.checkVisibility() && part.clientWidth && part.scrollWidth > part.clientWidth + 1
  && !part.matches(".unseen, .wide.cut")).map((part) => part.outerHTML.slice(0, 90))"""


def test_nothing_is_cut_off_on_a_phone_without_a_sign(opened):
    tab = opened(PHONE)
    tab.locator("#seam_table5 .wide.cut").first.wait_for(state="attached")  # baseline and SEAM: eight columns
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert tab.evaluate(CUT) == []
    sign = "getComputedStyle(document.querySelector('#seam_table5 .wide'), '::before').content"
    assert "scroll" in tab.evaluate(sign)


def test_a_table_sorts_by_numbers_and_back(opened):
    tab = opened(DESK)
    table = tab.locator("#seam_table2 table.sort").first
    head = table.get_by_role("button", name="ours")

    def column() -> list[str]:
        return table.locator("td.ours").all_inner_texts()

    first = column()
    orders = []
    for _ in range(3):
        head.click()
        orders.append((table.locator("th[aria-sort]").count(), [float(text.split()[0]) for text in column()]))
    numbers = [float(text.split()[0]) for text in first]
    assert len(set(numbers)) > 1
    assert orders == [(1, sorted(numbers)), (1, sorted(numbers, reverse=True)), (0, numbers)]


def test_the_parts_of_a_claim_stay_below_it(opened):
    tab = opened(DESK)
    table = tab.locator("#seam_claims table.claims")
    rows = "[...document.querySelectorAll('#seam_claims tbody tr')].map((row) => row.className + row.innerText)"
    before = tab.evaluate(rows)
    table.locator("thead").get_by_role("button", name="claim").click()
    after = tab.evaluate(rows)
    parts = {before[i]: before[i - 1] for i in range(1, len(before)) if before[i].startswith("part")}
    assert parts
    assert before != after
    assert parts == {after[i]: after[i - 1] for i in range(1, len(after)) if after[i].startswith("part")}


def test_the_filter_hides_what_is_of_another_kind_paper_or_state(opened):
    tab = opened(DESK)
    sections = "[...document.querySelectorAll('section.entry')]"
    shown = f"{sections}.filter((one) => one.checkVisibility()).map((one) => one.id)"
    assert sorted(tab.evaluate(shown)) == sorted(MADE)
    tab.get_by_label("Kind").select_option("figures")
    assert tab.evaluate(shown) == ["seam_thresholds"]
    assert not tab.locator("#claims-found").is_visible()
    tab.get_by_label("Paper").select_option("aeft")
    tab.get_by_label("State").select_option("needs")
    assert tab.evaluate(shown) == []
    assert tab.locator("tr[data-paper=aeft][data-kind=figures][data-state=needs]").first.is_visible()
    assert not tab.locator("tr[data-paper=seam][data-kind=figures]").first.is_visible()
    tab.get_by_role("button", name="Show all").click()
    tab.wait_for_function("!document.querySelector('[data-away]')")
    assert sorted(tab.evaluate(shown)) == sorted(MADE)


def test_a_verdict_is_a_word_whose_reason_is_a_tap_away(opened):
    tab = opened(PHONE)
    verdict = tab.locator("#seam_table2 td.verdict button").first
    assert "not comparable" in verdict.inner_text()
    assert "not comparable: " in verdict.get_attribute("title")
    verdict.click()
    assert "Not comparable: " in tab.locator("[popover]:popover-open").inner_text()


def test_pictures_enlarge_and_say_what_they_show(opened, page):
    tab = opened(PHONE)
    address = tab.locator("#seam_thresholds a.picture").get_attribute("href")
    assert (page.parent / address).read_bytes().startswith(b"%PDF")
    texts = tab.evaluate("[...document.querySelectorAll('main img')].map((image) => image.alt)")
    assert len(texts) == len(set(texts)) == 4  # claims so far, claims of the paper, thresholds, losses
    assert any(text.startswith("Background threshold. mIoU (%) over background threshold. ") for text in texts)
    assert any("classification: 0.7 at 0, 0.5 at 2" in text for text in texts)
    plot = tab.locator("button.picture").first
    plot.click()
    assert tab.locator("dialog img").bounding_box()["width"] > 2 * plot.bounding_box()["width"]
    tab.get_by_role("button", name="Close").click()
    assert not tab.locator("dialog").is_visible()
