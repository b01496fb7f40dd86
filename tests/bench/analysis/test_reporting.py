"""What a report is made with, and that nothing else goes into it."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from bench.analysis.labels import meant
from bench.analysis.reporting import COLUMNS, Results, run, write_report
from bench.options.report import ReportOptions, ReportSettings
from bench.rows.kept import DUPLICATES, TRANSFER
from framebench.errors import InputError
from framebench.reports import SECTIONS
from framebench.reports.document import Part, Section, Text
from tests.bench.analysis.making import CLASSES, cell_of, kept, run_of
from tests.bench.analysis.shifting import shifted


@pytest.fixture
def out(tmp_path):
    """An output folder with two models under shift and one of them under attack."""
    folder = tmp_path / "out" / "examples"
    for seed, model in enumerate(("one", "two")):
        for rows in shifted(folder, model, seed=seed):
            kept(rows)
    kept(run_of(folder, (0, 2, 3, -1, 1), model="one"))
    return tmp_path / "out"


def files(out):
    """The content of every file that is derived."""
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*")
            if path.is_file() and "examples" not in path.parts}


def mce(results):
    return results.shift_summary.query("part == 'benchmark'").set_index("model")["mce_baseline"]


def test_the_same_settings_give_the_same_files_whatever_was_before(out):
    plain = write_report(out)
    assert isinstance(plain, Results) and mce(plain).isna().all()
    before = files(out)
    assert (mce(write_report(out, ReportSettings(baseline="two", matched=("two is matched.",)))) == "two").all()
    assert files(out) != before
    write_report(out, ReportSettings())
    assert files(out) == before and not list(out.rglob("settings.json"))


def test_what_a_report_was_made_with_is_on_the_page(out, tmp_path):
    log = tmp_path / "mine" / "log.csv"
    log.parent.mkdir()
    log.write_text("epoch,train_loss,penalty,train_accuracy,validation_accuracy\n1,2,0,0.3,0.4\n")
    command = "bench report runs --baseline two"
    page = write_report(out, ReportSettings("two", ("two is matched.",), (log.parent,), command)).page.read_text()
    for text in (command, "errors of two", "--baseline", "two is matched.", str(log.parent), ">mine<"):
        assert text in page
    plain = write_report(out).page.read_text()
    assert command not in plain and "two is matched." not in plain and "mean error" in plain and ">mine<" not in plain


def test_the_model_called_baseline_is_the_baseline_of_several(out):
    for rows in shifted(out / "examples", "baseline", seed=2):
        kept(rows)
    results = write_report(out)
    assert (mce(results) == "baseline").all() and "of that name" in results.page.read_text()


def test_a_baseline_that_is_no_model_is_an_error_that_names_them(out):
    with pytest.raises(InputError, match="three.*one, two"):
        write_report(out, ReportSettings(baseline="three"))
    with pytest.raises(InputError, match="three.*one, two"):
        run(ReportOptions(out=(out,), baseline="three"))


def test_a_name_of_several_models_is_the_one_under_shift_else_an_error(out):
    for name in ("two", "three"):  # other weights of that name, attacked alone
        kept(run_of(out / "examples", (0, 2), model=name, weights="abcdef"))
    kept(run_of(out / "examples", (0, 2), model="three"))
    assert (mce(write_report(out, ReportSettings(baseline="two"))) == "two #two").all()
    with pytest.raises(InputError, match="three #abcdef, three #three"):
        write_report(out, ReportSettings(baseline="three"))
    assert meant(["a@2 #1", "b@2", "b@3"], "a") == ["a@2 #1"] and meant(["b@2", "b@3"], "b") == ["b@2", "b@3"]


def test_a_baseline_without_results_under_shift_divides_nothing(out):
    kept(run_of(out / "examples", (0, 2), model="three"))
    results = write_report(out, ReportSettings(baseline="three"))
    assert mce(results).isna().all() and "three, which --baseline names" in results.page.read_text()


def test_a_log_that_can_not_be_read_is_an_error(out, tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv"):
        write_report(out, ReportSettings(logs=(tmp_path / "gone.csv",)))


def test_outputs_are_joined(out, tmp_path):
    other = tmp_path / "other"
    kept(run_of(other / "examples", (0, 2, 3, -1, 1), model="two"))
    results = run(ReportOptions(out=(tmp_path / "both", out, other)))
    assert set(results.attack["model"]) == {"one", "two"} and len(results.paired) and len(results.shift) == 10
    page = (tmp_path / "both" / "report" / "index.html").read_text()
    assert "bench report" in page
    alone = run(ReportOptions(out=(tmp_path / "both",)))
    pd.testing.assert_frame_equal(alone.attack, results.attack)
    shutil.rmtree(other / "examples")
    with pytest.raises(InputError, match="not the output of a run"):
        run(ReportOptions(out=(out, other)))


def test_nothing_measured_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        write_report(tmp_path)


def test_a_section_is_a_function_and_a_line(out, monkeypatch):
    def toy(found):
        return Section("toy", "", [Part("Toy", [Text(f"{len(found.attacks)} & {len(found.shifts)}")])])

    monkeypatch.setattr("framebench.reports.SECTIONS", [*SECTIONS, toy, lambda found: None])
    page = write_report(out).page.read_text()
    assert "<h3>Toy</h3>" in page and "1 &amp; 10" in page


def test_an_attack_without_an_epsilon_is_reported(tmp_path):
    for seed in (0, 1):
        for model in "ab":
            kept(run_of(tmp_path / "examples", (0, 2, -1), model=model, seed=seed, epsilon=None, needs="gradients"))
    results = write_report(tmp_path)
    page = results.page.read_text()
    assert len(results.attack_seeds) and "White-box attack" in page and ">nan" not in page and ">None" not in page


def test_warnings_head_the_page_once_and_are_returned(tmp_path):
    for model in "abc":
        kept(cell_of(tmp_path / "examples", [True, False], model=model, warnings=("odd",)))
    results = write_report(tmp_path)
    assert results.warnings == ("a, b, c: odd",)
    assert pd.read_csv(tmp_path / "warnings.csv")["warning"].tolist() == ["a, b, c: odd"]
    assert results.page.read_text().count('class="warning"') == 1


def test_the_page_says_where_classes_are_missing(tmp_path):
    kept(cell_of(tmp_path / "examples", np.arange(40) % 5 > 0, domain="cifar10", labels=np.arange(40) % 10,
                 classes=CLASSES))
    kept(cell_of(tmp_path / "examples", [True, False, True], domain="tiny", labels=[0, 1, 6], classes=CLASSES))
    page = write_report(tmp_path).page.read_text()
    assert "tiny has images of 3 of the 10 classes" in page and "(12)" in page


def test_every_table_has_its_columns_and_numbers_are_numbers(out):
    results = write_report(out)
    for name, columns in COLUMNS.items():
        assert list(getattr(results, name).columns) == list(columns), name
    assert results.frames.empty and results.transfer.empty and results.duplicates.empty
    assert results.attack["bound"].dtype == results.attack["epsilon"].dtype == np.float64
    assert results.attack["bound"].isna().all(), "of SimBA any distance counts"


def test_kept_tables_are_among_the_results(out):
    transfer = dict.fromkeys(TRANSFER.columns, 1) | dict.fromkeys(TRANSFER.texts, "a")
    duplicate = dict.fromkeys(DUPLICATES.columns, 1) | dict.fromkeys(DUPLICATES.texts, "a")
    TRANSFER.write(out, pd.DataFrame([transfer]))
    DUPLICATES.write(out, pd.DataFrame([duplicate]))
    results = write_report(out)
    assert results.transfer["source"].tolist() == ["a"] and results.duplicates["example"].tolist() == [1]


def test_results_are_shown_as_text_too(out):
    results = write_report(out)
    shown = repr(results)
    assert all(sentence in shown for sentence in results.answer) and results.answer
    assert f"attack ({len(results.attack)})" in shown and str(results.page) in shown and len(shown) < 3000
    assert "frames (" not in shown, "an empty table is no news"
