from __future__ import annotations

from bench.analysis.reporting import write_report
from bench.browsing.folders import search
from bench.browsing.listing import Listing
from bench.browsing.server import Site
from tests.bench.browsing.conftest import attacked


def test_runs_are_found_at_any_depth_and_not_within_runs(root):
    attacked(root / "x" / "y" / "a", [1], report=False)
    attacked(root / "x" / "y" / "a" / "b", [1], report=False)
    attacked(root / ".hidden", [1], report=False)
    inside = next((root / "x" / "y" / "a" / "examples").iterdir())
    (inside / "attack.csv").touch()
    (root / "examples").mkdir()
    (root / "examples" / "my_attack.py").touch()
    assert search(root).runs == ["x/y/a", "x/y/a/b"]
    assert search(root / "x" / "y" / "a").runs == [".", "b"]


def test_the_search_is_bounded(root):
    for i in range(50):
        (root / f"{i:02}").mkdir()
        (root / f"{i:02}" / "attack.csv").touch()
    found = search(root, limit=60)
    assert not found.complete and 0 < len(found.runs) <= 50
    assert search(root).complete


def test_every_run_is_listed_once_and_read_again_when_it_changes(root):
    text = (attacked(root / "one", [1, -1], model="before") / "attack.csv").read_text()
    for i in range(200):
        (root / f"{i:04}").mkdir()
        (root / f"{i:04}" / "attack.csv").write_text(text)
    site = Site(root)
    assert site.index().count("<td class=\"text\">before</td>") == 201
    (root / "0007" / "attack.csv").write_text(text.replace("before", "afterwards"))
    (root / "0008" / "attack.csv").unlink()
    page = site.index()
    assert page.count("<td class=\"text\">before</td>") == 199
    assert page.count("<td class=\"text\">afterwards</td>") == 1


def test_a_table_that_was_changed_is_named_and_gives_no_number(root):
    table = attacked(root / "a", [0, 3, -1]) / "attack.csv"
    assert Listing(root).run("a").robust and not Listing(root).run("a").problem
    content = table.read_text()
    table.write_text(content.replace("0.3333", "0.4333"))
    assert table.read_text() != content
    found = Listing(root).run("a")
    assert "attack.csv" in found.problem and not found.robust
    write_report(root / "a")
    assert not Listing(root).run("a").problem
