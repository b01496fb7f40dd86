from __future__ import annotations

import re
import shutil

import pytest

from framebench.errors import InputError
from study import plan
from study.__main__ import main
from study.account import DOCS, pages, wrapped, write_account
from study.analysis import analyse

TEMPLATES = sorted(DOCS.parent.glob("study/*.md.in"))


def answer(page: str) -> str:
    return page.partition("## The answer")[2].partition("##")[0]


def test_the_committed_pages_are_what_the_rows_give():
    for page, text in pages(analyse()).items():
        assert text == (DOCS / page).read_text(encoding="utf-8"), "run `make study`"


def test_the_committed_pages_show_the_figures_that_there_are():
    shown = set(re.findall(r"\(study/(\w+\.svg)\)", (DOCS / "study.md").read_text(encoding="utf-8")))
    assert shown == {path.name for path in DOCS.glob("study/*")}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_number_is_typed_by_hand(template):
    names = r"CIFAR-100?(-C)?|CINIC-10|ResNet-34|L2|log10|MIPT 2022|95% interval"
    assert TEMPLATES and not re.findall(r"\d+", re.sub(names, "", template.read_text(encoding="utf-8")))


def test_without_trainings_the_page_says_so(drawn, tmp_path):
    write_account(tmp_path / "docs")
    page = (tmp_path / "docs" / "study.md").read_text()
    assert "yet" in answer(page) and "$" not in page
    assert not list((tmp_path / "docs" / "study").iterdir())


def test_single_trainings_carry_no_interval_and_no_sentence_about_a_method(drawn, tmp_path):
    for arm in ("plain", "better", "same"):
        drawn.add(plan.tries(arm)[0])
    for page in pages(analyse()).values():
        assert not re.search(r"\[[+-]\d", page)
    assert "yet" in answer(pages(analyse())["study.md"])


def test_an_arm_with_one_training_is_not_compared(drawn):
    for training in plan.trainings():
        if training.arm in ("plain", "better") or (training.arm == "same" and training.seed == 0):
            drawn.add(training)
    primary = analyse().results["area"]
    assert primary.methods == ("better",)


def test_the_arm_that_withstands_more_is_found_and_no_other(whole):
    found = analyse()
    text = answer(pages(found)["study.md"])
    assert "1 of the 4 arms" in text and "*better*" in text
    assert found.results["area"].methods == ("better", "frame", "same", "ocnn")  # plain of other lengths is no method
    assert found.results["area"].adjusted["better"].interval()[0] > 0
    assert not found.results["clean"].adjusted


def test_the_answer_sets_each_claim_of_the_penalty_beside_what_was_measured(whole):
    rows = [line.split(" | ") for line in answer(pages(analyse())["study.md"]).splitlines() if line.startswith("| ")]
    verdicts = {row[0].strip("| "): row[-1].strip("| ") for row in rows[2:]}
    assert verdicts["clean accuracy"] == "within the interval"
    assert verdicts["clean accuracy, CIFAR-100"] == "exceeded"


def test_rates_with_few_images_on_one_side_are_not_compared(whole):
    found = analyse().results
    assert found["asr-1"].scarce and not found["asr-1"].methods
    assert found["asr-50"].methods


def test_where_nothing_varies_nothing_is_compared(whole):
    first = plan.tries("plain")[0].folder
    for training in plan.trainings():
        if training.folder != first:
            shutil.copy(first / "clean.parquet", training.folder)
    assert analyse().results["clean"].methods == ()


def test_the_same_rows_give_the_same_files_and_stale_figures_go(whole, tmp_path):
    written = []
    for name in ("a", "b"):
        docs = tmp_path / name
        (docs / "study").mkdir(parents=True)
        (docs / "study" / "old.svg").write_text("<svg/>")
        write_account(docs)
        written.append({path.name: path.read_bytes() for path in sorted(docs.rglob("*.*"))})
    assert written[0] == written[1]
    assert set(written[0]) == {"study.md", "study-appendix.md", "forest.svg", "accuracy.svg", "frameness.svg"}
    assert b"<text" in written[0]["forest.svg"]


def test_what_is_missing_and_what_failed_is_named(drawn):
    first, failed = plan.tries("plain")[0], plan.tries("better")[0]
    drawn.add(first)
    failed.folder.mkdir()
    (failed.folder / plan.FAILED).write_text("the loss is not finite\n")
    page = pages(analyse())["study.md"]
    assert failed.name in page and "apgd-1" in page.partition("Not measured yet")[2].partition("##")[0]


def test_damaged_rows_leave_the_old_page(drawn, tmp_path):
    training = plan.tries("plain")[0]
    drawn.add(training)
    write_account(tmp_path)
    before = (tmp_path / "study.md").read_text()
    (training.folder / "simba-pixel.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="simba-pixel"):
        write_account(tmp_path)
    assert (tmp_path / "study.md").read_text() == before


def test_the_command_refuses_damaged_rows_with_one_line(drawn, monkeypatch, capsys):
    training = plan.tries("plain")[0]
    drawn.add(training)
    (training.folder / "clean.parquet").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["study", "report"])
    assert main() == 2
    assert "clean.parquet" in capsys.readouterr().err


def test_wrapping_leaves_tables_headings_and_code_alone():
    long = "word " * 20
    text = f"# {long}\n{long}\nmore\n\n| {long} |\n\n```\n{long}\n{long}\n```\n- {long}\n  more\n- two\n"
    lines = wrapped(text, 40).splitlines()
    assert {f"# {long}", f"| {long} |", long, "- two"} <= set(lines)
    assert all(len(line) <= 40 for line in lines if line not in (f"# {long}", f"| {long} |", long))
    assert any(line.startswith("  word") for line in lines)


def test_cifar100_is_compared_with_its_own_control(whole):
    found = analyse()
    result = found.results["clean-cifar100"]
    assert result.control == "cifar100-plain" and result.methods == ("cifar100-frame",)
    assert result.differences["cifar100-frame"].value == pytest.approx(0.05)
    assert not any(arm.startswith("cifar100") for arm in found.results["area"].methods)
    page = pages(found)["study.md"]
    table = page.partition("## CIFAR-100")[2].partition("##")[0]
    assert "| frame, CIFAR-100 | 2 | 75.50 | +5.00" in table and "+2.03" in table
    assert "CIFAR-100" not in page.partition("## One table")[2].partition("##")[0]
