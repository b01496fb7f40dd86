"""The report's page in a browser: every control, the keyboard, themes, print, phones, and names of all kinds."""

from __future__ import annotations

import pytest

from tests.browser.conftest import HOSTILE, MODELS

CURVES = "asr-iterations"


def cells(page, table, column):
    """Return the texts of a column of the rows that are shown."""
    return page.locator(f'table[data-table="{table}"] tbody tr:visible').evaluate_all(
        f"rows => rows.map(row => row.cells[{column}].innerText.split('\\n')[0])")


def test_it_asks_for_nothing_and_every_figure_with_data_is_alive(open_page):
    opened = open_page()
    assert [url.partition(":")[0] for url in opened.requests if not url.startswith("data:")] == ["file"]
    figures = opened.page.locator("figure[data-chart]")
    assert figures.count() >= 6
    assert opened.page.locator("figure[data-chart].live").count() == figures.count()
    assert opened.page.locator("figure.live .chart svg").count() >= figures.count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened = open_page(color_scheme=scheme)
    found = axe.Axe().run(opened.page).response["violations"]
    serious = {violation["id"]: [node["html"][:200] for node in violation["nodes"][:3]] for violation in found
               if violation["impact"] in ("serious", "critical")}
    assert not serious


def test_names_are_text_whatever_they_are(open_page):
    opened = open_page()
    assert opened.page.evaluate("window.broken") is None
    assert opened.page.locator("main img[src='x']").count() == 0
    shown = set(cells(opened.page, "cost", 0))
    assert {name.replace("\u202e", "\\u202e") for name in HOSTILE} <= shown
    assert opened.page.locator("nav select option").filter(has_text="<img src=x").count() == 1


def test_curves_are_hidden_and_shown_by_their_buttons(open_page):
    chart = open_page().chart(CURVES)
    lines = chart.locator('.chart svg g[aria-label="line"]')
    before, button = lines.count(), chart.locator(".legend button").first
    assert before == 2 * len(MODELS)
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and lines.count() == before - 1
    button.click()
    assert button.get_attribute("aria-pressed") == "true" and lines.count() == before


def test_axis_measure_and_zoom_change_what_is_drawn(open_page):
    chart = open_page().chart(CURVES)

    def ticks():
        return chart.locator('.chart svg g[aria-label="x-axis tick label"] text').all_inner_texts()

    def line():
        return chart.locator('.chart svg g[aria-label="line"] path').first.get_attribute("d")

    logarithmic, axis = line(), chart.get_by_role("button", name="Log axis")
    axis.click()
    assert line() != logarithmic and axis.get_attribute("aria-pressed") == "false"
    whole = ticks()
    chart.get_by_role("button", name="zoom in").click()
    assert ticks() != whole
    chart.get_by_role("button", name="show everything").click()
    assert ticks() == whole
    chart.locator("select").select_option("robust")
    assert "robust accuracy" in chart.locator(".chart svg").text_content()


def test_a_drag_zooms(open_page):
    opened = open_page()
    chart = opened.chart(CURVES)
    box = chart.locator(".chart")
    box.scroll_into_view_if_needed()
    before, place = chart.locator(".chart svg").inner_html(), box.bounding_box()
    opened.page.mouse.move(place["x"] + 150, place["y"] + 100)
    opened.page.mouse.down()
    opened.page.mouse.move(place["x"] + 300, place["y"] + 120, steps=3)
    opened.page.mouse.up()
    assert chart.locator(".chart svg").inner_html() != before and chart.locator(".brush").count() == 0


def test_values_are_read_under_the_pointer_and_by_arrow_keys(open_page):
    opened = open_page()
    chart = opened.chart("corruptions-c")
    readout = chart.locator(".readout")
    assert readout.get_attribute("aria-live") == "polite"
    chart.locator(".chart").focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        opened.page.keyboard.press(key)
        said.append(readout.inner_text())
    assert len(set(said)) == 4 and all("%" in text and "n = " in text for text in said)
    opened.page.keyboard.press("Escape")
    assert "arrow keys" in readout.inner_text()
    chart.locator(".chart").hover(position={"x": 180, "y": 120})
    assert "%" in readout.inner_text() and chart.locator(".tip").is_visible()


def test_a_plot_with_a_legend_of_symbols_marks_its_own_points(open_page):
    opened = open_page()
    chart = opened.chart("clean-against-shifted")
    assert chart.locator(".chart svg").count() > 1, "the legend has drawings of its own"
    chart.locator(".chart").focus()
    opened.page.keyboard.press("ArrowRight")
    assert "shifted" in chart.locator(".readout").inner_text()
    widths = chart.locator(".chart svg:has(> .marker)").evaluate_all("all => all.map(svg => svg.clientWidth)")
    assert len(widths) == 1 and widths[0] > 300


def test_another_reference_changes_every_difference(open_page):
    opened = open_page()
    forest, heat = opened.chart("forest"), opened.chart("corruptions-c")
    heat.locator("select").first.select_option("difference")
    before = [part.locator(".chart svg").inner_html() for part in (forest, heat)]
    assert "minus baseline" in forest.locator(".chart svg").text_content()
    opened.page.locator("nav label").filter(has_text="Compare with").locator("select").select_option("ocnn")
    after = [part.locator(".chart svg").inner_html() for part in (forest, heat)]
    assert "minus ocnn" in forest.locator(".chart svg").text_content()
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_tables_are_sorted_by_the_number_behind_a_cell(open_page):
    opened = open_page()
    heading = opened.page.locator('table[data-table="cost"] thead th').nth(4)
    original = cells(opened.page, "cost", 4)
    orders = []
    for expected in ("descending", "ascending", "none"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == expected
        orders.append([float(text) for text in cells(opened.page, "cost", 4)])
    assert orders[0] == sorted(orders[0], reverse=True) and orders[1] == sorted(orders[1])
    assert cells(opened.page, "cost", 4) == original


def test_tables_are_filtered_and_say_how_many_rows_are_left(open_page):
    opened = open_page()
    tools = opened.page.locator(".filter").filter(has=opened.page.locator("input")).first
    table = tools.locator("xpath=following-sibling::div[1]//table")
    tools.locator("input").fill("ocnn")
    rows = table.locator("tbody tr:visible")
    assert 0 < rows.count() < table.locator("tbody tr").count()
    assert all("ocnn" in text for text in rows.all_inner_texts())
    assert tools.locator("[role=status]").inner_text().startswith(f"{rows.count()} of")


def test_the_theme_follows_the_system_and_can_be_switched(open_page):
    opened = open_page(color_scheme="dark")
    theme = opened.page.locator("html")
    assert theme.get_attribute("data-theme") == "dark"
    dark = opened.chart(CURVES).locator(".legend line").first.get_attribute("stroke")
    opened.page.get_by_role("button", name="Light").click()
    assert theme.get_attribute("data-theme") == "light"
    assert opened.chart(CURVES).locator(".legend line").first.get_attribute("stroke") != dark
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_keyboard_alone_reaches_everything(open_page):
    opened = open_page()
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = set()
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        reached.add(opened.page.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert {"SELECT", "BUTTON", "chart"} <= reached


def test_print_shows_the_static_figures_and_no_controls(open_page):
    opened = open_page()
    opened.page.emulate_media(media="print")
    assert opened.chart(CURVES).locator(".static svg").is_visible()
    assert not opened.chart(CURVES).locator(".chart").is_visible() and not opened.page.locator("nav.bar").is_visible()


def test_a_phone_scrolls_in_one_direction_only(open_page):
    opened = open_page(viewport={"width": 390, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_scripts_everything_is_there(open_page):
    opened = open_page(java_script_enabled=False)
    assert opened.page.locator(".static svg").first.is_visible()
    assert opened.page.locator('table[data-table="asr"] tbody tr').count() == 2 * len(MODELS)
