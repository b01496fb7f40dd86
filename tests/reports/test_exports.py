from __future__ import annotations

import contextlib
import csv
import io
import re
import shutil
import struct
import subprocess

import numpy as np
import pandas as pd
import pytest

from bench.analysis.answer import Difference
from framebench.errors import InputError
from framebench.reports import frames_plots, latex, maps, markdown, plots, printing, training_plots
from framebench.reports.best import best_cells
from framebench.reports.colors import model_styles
from framebench.reports.document import Cell, Code, Document, Folded, Markup, Part, Plot, Row, Section, Text, table
from framebench.reports.exports import csv_table, write_exports
from framebench.reports.forest import forest_plot
from framebench.reports.html import fragment
from framebench.reports.paper import apart, paper, shortened

EVIL = ["a|b `c` <i>d</i> [e](http://f) *g* _h_", r"\input{x} $\alpha$ & # % ^ ~ {y} --z \end{document}",
        "\u202eevil\u05d0\u05d1", "*starred", "[bracket]", "é ü ≤ ∞ 模型", "x" * 200, "1. item", "# head", "@someone"]


def _rate(value, low, high):
    return Cell(f"{100 * value:.0f}%", f"[{100 * low:.0f}, {100 * high:.0f}]", value, low, high)


def _table(values, best="high", data=None):
    rows = [[f"m{i}", data[i] if data else "d", _rate(*value)] for i, value in enumerate(values)]
    return table("rates", ["model", "data", "robust"], rows, 2, best={"robust": best})


def test_the_best_and_those_whose_interval_contains_it_are_bold():
    values = [(0.5, 0.4, 0.6), (0.58, 0.5, 0.66), (0.3, 0.2, 0.4)]
    assert best_cells(_table(values)) == [{2}, {2}, set()]
    assert best_cells(_table(values, "low")) == [set(), set(), {2}]
    assert best_cells(_table(values, data=["d", "d", "e"])) == [set()] * 3, "all are best of what they compare with"
    assert best_cells(_table(values[1:], data=["d", "d"])) == [{2}, set()]
    assert best_cells(table("t", ["m", "n"], [["a", Cell("–")], ["b", Cell("1", value=1)], ["c", Cell("2", value=2)]],
                            best={"n": "high"})) == [set(), set(), {1}]


def test_bold_is_the_same_in_all_formats():
    values = [(0.5, 0.4, 0.6), (0.58, 0.5, 0.66), (0.3, 0.2, 0.4)]
    assert re.findall(r"<strong>(.*?)</strong>", fragment(_table(values))) == ["50%", "58%"]
    assert re.findall(r"\*\*(.*?)\*\*", markdown.markdown_table(_table(values))) == ["50%", "58%"]
    assert re.findall(r"\\textbf\{(.*?)\}", latex.tabular(_table(values))) == [r"50\%", r"58\%"]


def test_markdown_shows_names_as_they_are():
    lines = markdown.markdown_table(table("t", ["name", "n"], [[name, "1"] for name in EVIL])).splitlines()
    assert len(lines) == 2 + len(EVIL)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines), "pipes of names are escaped"
    assert "<i>" not in lines[2] and r"\[e\](http" in lines[2] and r"\`c\`" in lines[2]
    assert "\u202e" not in lines[4] and "evil\u05d0\u05d1\u2069" in lines[4]
    assert markdown.escaped("1. item") == r"1\. item" and markdown.escaped("# head") == r"\# head"
    assert markdown.markdown_table(_table([(0.5, 0.4, 0.6)])).splitlines()[1] == "| --- | --- | ---: |"


def test_latex_shows_names_as_they_are():
    assert latex.escaped("a_b & 50% {c} \\d") == r"a\_b \& 50\% \{c\} \textbackslash{}d"
    assert latex.escaped("--x") == "-{}-x", "no dash of two hyphens"
    assert latex.escaped("é模") == "é{[}U+6A21{]}"
    assert "x" * 13 not in latex.tabular(table("t", ["m"], [["x" * 200]])), "a long name can be broken"


def test_csv_has_the_printed_cell_and_the_numbers_behind_it():
    text = csv_table(table("t", ["a", "b", "b"], [["x,y", _rate(1 / 3, 0.25, 0.5), "1"], ["z", Cell("–"), "2"]]))
    first, second = csv.DictReader(io.StringIO(text))
    assert first["a"] == "x,y" and first["b"] == "33%" and first["b (2)"] == "1" and first["b: note"] == "[25, 50]"
    assert [float(first[f"b: {name}"]) for name in ("value", "low", "high")] == [1 / 3, 0.25, 0.5]
    assert second["b"] == "–" and second["b: value"] == ""


def _curves():
    budgets = [0, 1, 10, 50, 100, 500, 1000]
    frame = pd.DataFrame({"budget": budgets, "asr": np.linspace(0, 1, 7), "ci_low": 0.0, "ci_high": 1.0})
    return plots.asr_curves({("one", "x"): frame, ("y" * 200, "x"): frame}, "queries", budgets)


def _document():
    name = EVIL[1]
    return Document(EVIL, [
        Section(name, name, [Part(name, [
            table("hostile 0.2", ["name", name], [[evil, Cell("1", evil, 1.0)] for evil in EVIL], caption=name)]),
                             Row([Plot("asr 0.2", name, _curves)]), Markup("<b>page</b>"),
                             Folded(name, [Text(name, "soft"), Code("a {\n  b ```` }\n" + name)])],
                [{"heading": name, "a": name}]),
        Section("Second", "", [table("rates", ["m", "n"], [[f"m{i}", str(i)] for i in range(80)])])])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write_exports(folder, _document(), ("md", "tex"), 3.25)
    return folder


def test_a_report_in_all_formats_holds_what_was_asked_for_last(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    stems = {"figures": {"asr-0.2"}, "tables": {"hostile-0.2", "rates"}}
    kinds = {"figures": {"svg", "pdf", "png"}, "tables": {"csv", "md", "tex"}}
    for folder in stems:
        assert {path.name for path in (tmp_path / folder).iterdir()} == {
            f"{stem}.{kind}" for stem in stems[folder] for kind in kinds[folder]}
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "(figures/asr-0.2.png)" in text and "<b>page" not in text and "<details>" in text and "`````" in text
    (tmp_path / "figures" / "old.svg").touch()
    (tmp_path / "notes.txt").touch()
    write_exports(tmp_path, _document(), ("md",), 3.25)
    assert not (tmp_path / "report.tex").exists() and not (tmp_path / "figures" / "old.svg").exists()
    write_exports(tmp_path, _document(), ("html",), 3.25)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes.txt"]


def test_the_same_report_gives_the_same_bytes(written, tmp_path):
    write_exports(tmp_path, _document(), ("md", "tex"), 3.25)
    first, second = ({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
                     for folder in (written, tmp_path))
    assert first == second


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_a_report_of_hostile_names_compiles(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"], cwd=tmp_path,
                          capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


@pytest.mark.parametrize("width", [3.25, 6.75])
def test_figures_have_a_paper_s_width_and_embedded_fonts(tmp_path, width):
    write_exports(tmp_path, _document(), ("md",), width)
    png = (tmp_path / "figures" / "asr-0.2.png").read_bytes()
    assert struct.unpack(">I", png[16:20])[0] == round(300 * width)
    pdf = (tmp_path / "figures" / "asr-0.2.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def _layers(n):
    return {f"model-{i}": pd.DataFrame({
        "layer": [f"blocks.{k}.conv" for k in range(n)], "lower": 0.1, "upper": 2.0, "lower_converged": True,
        "side": "input", "reconstruction_error": 0.1, "spectrum": [[0.1, 2.0]] * n}) for i in range(3)}


def _cells(models):
    return pd.DataFrame([{"model": f"model-{i}", "corruption": c, "severity": 1, "accuracy": 0.5}
                         for i in range(models) for c in ("fog", "frost")])


def _epochs():
    return pd.DataFrame({"epoch": [1, 2], "penalty": [1.0, 0.5], "train_loss": 1.0, "train_accuracy": 0.5,
                         "validation_accuracy": 0.5})


@pytest.mark.parametrize("draw", [
    _curves, lambda: frames_plots.bounds_by_layer(_layers(50)), lambda: frames_plots.spectra(_layers(6)),
    lambda: frames_plots.reconstruction_by_layer(_layers(20)), lambda: maps.heat_map(_cells(4)),
    lambda: training_plots.training_curves({"a": _epochs()}, {"a": "black"})],
    ids=["curves", "bounds", "spectra", "undoing", "heat", "training"])
def test_texts_of_a_paper_s_figures_lie_apart_and_are_7_to_9_points(draw):
    with paper(3.25):
        figure = draw()
        figure.draw_without_rendering()
        sizes = {text.get_fontsize() for text in figure.findobj(lambda found: hasattr(found, "get_fontsize"))
                 if text.get_text()}
        assert figure.get_figwidth() == 3.25 and sizes and min(sizes) >= 7 and max(sizes) <= 9
        for axes in figure.axes:
            labels = [text for text in axes.xaxis.get_ticklabels() if text.get_text() and text.get_visible()
                      and not text.get_rotation() % 90]
            boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.x0)
            assert all(a.x1 <= b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
        drawn = figure.get_tightbbox()
        assert drawn.x0 > -0.05 and drawn.x1 < 3.3, "nothing is cut off"


@pytest.mark.parametrize("width", [3.25, 6.75, None])
@pytest.mark.parametrize(("models", "attacks", "classes"), [(1, 0, 10), (2, 1, 10), (1, 5, 10), (3, 5, 2), (9, 9, 4)])
def test_headings_of_classes_lie_apart_and_leave_the_rows_their_room(width, models, attacks, classes):
    names = ["clean accuracy, cifar10", *(f"robust accuracy, autoattack-Linf-white-box-queries=5-eps{i}/255, cifar10"
                                          for i in range(attacks))]
    chart = {"classes": [f"class {i}" for i in range(classes)], "measures": [
        {"label": name, "models": {f"my_file:make_model_{i}" * 3: [[0.5, 0.4, 0.6, 10]] * classes
                                   for i in range(models)}} for name in names]}
    with paper(width) if width else contextlib.nullcontext():
        figure = maps.class_map(chart)
        figure.draw_without_rendering()
        axes = figure.axes[0]
        drawn, box = figure.get_tightbbox(), axes.get_window_extent()
        assert drawn.y0 > -0.05 and drawn.y1 < figure.get_figheight() + 0.05, "nothing is cut off"
        assert 0.2 < box.height / figure.dpi / classes < 0.6
        headings = [text.get_window_extent() for text in axes.texts if "accuracy" in text.get_text()
                    or "eps" in text.get_text()]
        assert 1 <= len(headings) <= len(names)
        assert all(a.x1 <= b.x0 for a, b in zip(headings, headings[1:], strict=False))
        assert all(heading.y0 >= box.y1 for heading in headings)


def test_a_map_of_one_corruption_has_room_for_long_names():
    cells = pd.DataFrame([{"model": f"model-{i}-" * 8, "corruption": "fog", "severity": 1, "accuracy": 0.5}
                          for i in range(4)])
    figure = maps.heat_map(cells)
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().height / figure.dpi > 0.2


def test_ticks_that_would_touch_are_left_out():
    places = {budget: float(np.log10(budget)) for budget in (1, 10, 50, 100, 900, 1000)}
    assert apart(places, 3.25) == [1, 10, 50, 100, 1000]
    assert apart({0: 0.0}, 3.25) == [0] and apart(places, 30) == list(places)
    assert shortened("abcdefghijkl", 9) == "abcd…ijkl" and shortened("abc", 9) == "abc"


def test_a_title_is_wrapped_whole():
    title = "robust accuracy under simba-pixel at 1,000 iterations, samples"
    pair = Difference("a", "b", 0.1, 0.0, 0.2, p=0.5, n=10, needed=100.0)
    with paper(3.25):
        (axes,) = forest_plot({title: [pair]}, "b", model_styles(["a", "b"])).axes
    assert axes.get_title(loc="left").replace("\n", " ") == title


def test_a_pdf_without_a_browser_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(printing.shutil, "which", lambda name: None)
    monkeypatch.setattr(printing, "_PLACES", ())
    with pytest.raises(InputError, match="Chromium"):
        write_exports(tmp_path, _document(), ("pdf",), 3.25)
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_fails_leaves_no_pdf(tmp_path, monkeypatch):
    monkeypatch.setattr("framebench.reports.exports.find_browser", lambda: shutil.which("false"))
    with pytest.raises(InputError, match="print"):
        write_exports(tmp_path, _document(), ("pdf",), 3.25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not any(map(shutil.which, printing._NAMES)), reason="no browser of Chromium's family is installed")
def test_the_page_is_printed(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>t</title><p>text</p>", encoding="utf-8")
    write_exports(tmp_path, _document(), ("pdf",), 3.25)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
