"""`bench report --format`: what is written beside the page, and the methods paragraph of a real run."""

from __future__ import annotations

import json
import re

import pytest

import framebench
from bench.options.report import ReportOptions
from bench.rows.store import Store
from bench.run import main
from framebench.errors import InputError
from tests.bench.conftest import attack


@pytest.fixture
def out(tmp_path, model_file):
    out = tmp_path / "out"
    assert attack(out, model_file, "--budgets", "1", "9", "--basis", "dct", "--seeds", "3", "--max-queries", "15",
                  models=("linear", "normalised")) == 0
    return out


def test_the_report_folder_holds_what_the_last_command_asked_for(out):
    assert [path.name for path in (out / "report").iterdir()] == ["index.html"]
    assert main(["report", str(out), "--format", "md", "tex", "--figure-width", "text"]) == 0
    assert {path.name for path in (out / "report").iterdir()} == {"index.html", "report.md", "report.tex", "figures",
                                                                 "tables"}
    assert "6.75in" in (out / "report" / "report.tex").read_text(encoding="utf-8")
    assert framebench.report(out).page.exists()
    assert [path.name for path in (out / "report").rglob("*") if path.is_file()] == ["index.html"]


def test_methods_say_what_was_done_and_cite_what_was_used(out):
    assert main(["report", str(out), "--format", "md"]) == 0
    text = (out / "report" / "report.md").read_text(encoding="utf-8")
    methods = re.sub(r"\\(.)", r"\1", text[text.index("Methods, in words"):])
    stored = Store(out).all()[0]
    made = stored.facts.provenance[0]
    facts = ["SimBA", "basis dct", "seed (3)", "at most 9 iterations", "after 1, 9", "more than 15 queries", "n = 20",
             stored.facts.title, "epsilon = 0.2", made["torch"], f"framebench {framebench.__version__}", "McNemar"]
    assert [fact for fact in facts if fact not in methods] == []
    bibliography = methods[methods.index("@misc{framebench"):]
    keys = set(re.findall(r"@\w+\{(\w+),", bibliography))
    assert {"guo2019simba", "krizhevsky2009cifar", "mcnemar1947"} < keys
    assert not keys & {"croce2020autoattack", "hendrycks2019corruptions", "croce2021robustbench"}
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert "<summary>Methods, in words</summary>" in page and "@inproceedings{guo2019simba," in page
    assert json.dumps(made["processor"])[1:-1] in methods


@pytest.mark.parametrize(("given", "inches"), [("column", 3.25), ("text", 6.75), ("5.5", 5.5), (4, 4.0)])
def test_widths_have_names_or_are_inches(given, inches):
    assert ReportOptions(figure_width=given).figure_width == inches


@pytest.mark.parametrize("given", [{"figure_width": "wide"}, {"figure_width": 0.5}, {"formats": ["docx"]}])
def test_other_formats_and_widths_are_refused(given):
    with pytest.raises(InputError):
        ReportOptions(**given)


def test_a_pdf_without_a_browser_changes_nothing(out, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr("framebench.reports.printing.shutil.which", lambda name: None)
    monkeypatch.setattr("framebench.reports.printing._PLACES", ())
    assert main(["report", str(out), "--format", "pdf"]) == 2
    assert "Chromium" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
