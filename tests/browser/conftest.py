"""A real browser, driven: Debian's Chromium or another one that is installed. Without one these tests are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.reporting import write_report
from tests.bench.analysis.making import cell_of, kept, run_of
from tests.bench.analysis.shifting import shifted

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Names as people, and attackers, choose them.
HOSTILE = ("<img src=x onerror=window.broken=1>", "\"quo'ted\" & `ticked`", "\u202eright-to-left \u05d0\u05d1\u05d2",
           "n" * 200)
MODELS = ("baseline", "frame", "ocnn", *HOSTILE)


@dataclass
class Opened:
    """An open page, and what it has complained about and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def chart(self, name: str) -> Any:
        """Return the interactive part of a figure."""
        return self.page.locator(f'figure[id="{name}"]')


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The browser."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder: seven models under two attacks and under shift."""
    folder: Path = tmp_path_factory.mktemp("browser")
    for seed, model in enumerate(MODELS):
        rng = np.random.default_rng(seed)
        for attack in ("simba", "noise"):
            success = np.where(rng.random(60) < 0.1, 0, rng.integers(-1, 100, 60))
            kept(run_of(folder / "examples", success, model=model, attack=attack, budget=100, budgets=(1, 10, 100)))
        for rows in shifted(folder / "examples", model, seed=seed):
            kept(rows)
        kept(cell_of(folder / "examples", rng.random(400) < 0.6, model=model, domain="e", clean="d0"))
    write_report(folder)
    return folder


@pytest.fixture
def open_page(browser: Any, out: Path) -> Iterator[Callable[..., Opened]]:
    """A function that opens the report, or another page, as a fresh visitor; at the end there were no complaints."""
    contexts, pages = [], []

    def opening(url: str | None = None, **options: Any) -> Opened:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        opened = Opened(contexts[-1].new_page())
        opened.page.on("console", lambda message: opened.complaints.append(message.text)
                       if message.type in ("error", "warning") else None)
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(url or (out / "report" / "index.html").as_uri())
        pages.append(opened)
        return opened

    yield opening
    complaints = [complaint for opened in pages for complaint in opened.complaints]
    for context in contexts:
        context.close()
    assert not complaints
