"""What the page begins with: sentences, the forest plot, matrices."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.analysis.answer import questions
from bench.analysis.findings import Findings
from bench.analysis.flags import Flag
from bench.analysis.reporting import write_report
from bench.options.report import ReportSettings
from framebench.reports import document_of, plots
from framebench.reports.answer import forest_payload, opening, sentences
from framebench.reports.colors import model_styles
from framebench.reports.document import Folded, Part, Plot, Table, walk
from framebench.reports.forest import forest_plot
from framebench.reports.html import body, drawn, fragment
from framebench.reports.matrix import matrix
from framebench.reports.sentences import listed
from tests.bench.analysis.making import cell_of, kept, run_of
from tests.bench.analysis.shifting import shifted
from tests.bench.analysis.test_answer import attacked, found_of


def _said(found):
    return sentences(found)


def _about(said, *words):
    """The sentences that have all these words in them."""
    return [sentence for sentence in said if all(word in sentence for word in words)]


@pytest.fixture
def seven(tmp_path):
    """Seven models, of which m6 is best under attack; attacked, and classified on two sets."""
    rng = np.random.default_rng(0)
    hard = rng.random(300)
    stored = []
    for i in range(7):
        model = "baseline" if i == 0 else f"m{i}"
        held = hard < (0.85 if i == 6 else 0.4 + 0.02 * i)
        stored.append(run_of(tmp_path / "examples", np.where(held, -1, 1), model=model, attack="simba",
                             facts={"set": "d"}))
        stored += shifted(tmp_path / "examples", model, seed=i % 3, n=300)
    return found_of(tmp_path, *stored)


def test_seven_models_are_told_in_few_short_sentences(seven):
    said = _said(seven)
    assert len(said) <= 12 and max(map(len, said)) < 600
    assert "7 models" in said[0] and "n = 300" in said[0] and "baseline, m1, m2, m3, m4, m5 and m6" in said[0]
    (best,) = _about(said, "m6 (80.0% [", "highest")
    assert "not" not in best and "m5" not in best
    (shown,) = _about(said, "Significant differences from baseline", "m6 +46.0 [")
    (hidden,) = _about(said, "Not significant", "m1 +2.", "images")
    assert "m6" not in hidden and "m1" not in shown


def test_equal_models_are_said_to_be_the_same(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, 0.4, model=model) for model in "abc"))
    said = _said(found)
    assert _about(said, "a, b and c is the same: 40.0% [") and not _about(said, "Significant")
    assert not _about(said, "takes about")


def test_models_with_as_many_but_other_images_have_a_caveat(tmp_path):
    stored = [attacked(tmp_path, share, model=model, examples=np.arange(400) + start)
              for model, share, start in (("a", 0.5, 0), ("b", 0.6, 100))]
    said = _said(found_of(tmp_path, *stored))
    assert _about(said, "shared images") and _about(said, "Not all models have the same images")


def test_models_with_other_cells_have_a_caveat_on_cells(tmp_path):
    clean, *cells = shifted(tmp_path / "examples", "b")
    said = _said(found_of(tmp_path, *shifted(tmp_path / "examples", "a"), clean, *cells[:2]))
    assert _about(said, "shared cells") and _about(said, "Not all models have the same cells")
    assert not _about(said, "shared images") and not _about(said, "same images")


def test_a_range_is_of_all_accuracies_even_on_other_images(tmp_path):
    stored = [attacked(tmp_path, share, model=model, examples=np.arange(400) + start)
              for model, share, start in (("a", 0.5, 0), ("b", 0.49, 0), ("c", 0.9, 1000))]
    (sentence,) = _about(_said(found_of(tmp_path, *stored)), "robust accuracy", "ranges from")
    assert "from c (90.0%" in sentence and "to b (49.0%" in sentence and "c can't be compared" in sentence
    other = tmp_path / "other"
    stored = [attacked(other, 1, model=model, examples=np.arange(400) + start)
              for model, start in (("a", 0), ("b", 1000))]
    said = _said(found_of(other, *stored))
    assert _about(said, "robust accuracy", "is the same: 100.0%", "can't be compared") and not _about(said, "ranges")


def test_one_model_has_its_numbers_with_intervals(tmp_path):
    said = _said(found_of(tmp_path, attacked(tmp_path, 0.4, model="a", n=20)))
    assert said[0].startswith("1 model (a)") and not _about(said, "highest") and not _about(said, "difference")
    assert _about(said, "robust accuracy of a: 40.0% [21.9, 61.3]", "n = 20")
    assert _about(said, "clean accuracy of a: 100.0%")


def test_targeted_attacks_rank_nobody(tmp_path):
    stored = [attacked(tmp_path, share, model=model, targeted=True, label="aimed", columns={"goal": [2] * 400})
              for model, share in (("a", 0.9), ("b", 0.1))]
    (sentence,) = _about(_said(found_of(tmp_path, *stored)), "aimed")
    assert "not compared" in sentence and "a 90.0%" in sentence and "b 10.0%" in sentence


def test_a_warning_stands_beside_the_model_that_it_concerns(tmp_path):
    labels = "the labels are shifted (docs/flags.md#labels)"
    steep = "gradients vanish (docs/flags.md#gradients)"
    stored = [attacked(tmp_path, share, model=model, facts={"warnings": warnings}) for model, share, warnings in
              (("a", 0.9, (labels, steep, "no license")), ("b", 0.1, (steep,)), ("c", 0.1, ()))]
    said = _said(found_of(tmp_path, *stored))
    assert _about(said[:3], "warnings", "labels", "gradients") and not _about(said, "license")
    robust = [one for one in said if "robust accuracy" in one]
    assert _about(robust, "a (warnings: labels, gradients) (90.0%", "b (warnings: gradients)")
    clean = [one for one in said if "clean accuracy" in one]
    assert _about(clean, "a (warnings: labels)") and not _about(clean, "gradients")


def test_a_model_without_a_correct_image_is_said_to_be_wrong(tmp_path):
    wrong = run_of(tmp_path / "examples", [0] * 400, model="wrong")
    said = _said(found_of(tmp_path, attacked(tmp_path, 0.5, model="a"), wrong))
    assert _about(said, "wrong classifies no image correctly")


def test_several_sets_share_sentences(tmp_path):
    stored = [cell for domain in ("d1", "d2", "d3") for model, share in (("a", 0.9), ("b", 0.5), ("c", 0.49))
              for cell in (cell_of(tmp_path / "examples", np.arange(200) < 200 * share, model=model, domain=domain),)]
    said = _said(found_of(tmp_path, *stored))
    (best,) = _about(said, "a is shown")
    assert all(f"on {domain} (90.0% [" in best for domain in ("d1", "d2", "d3"))
    assert _about(said, "Significant differences from a", "b -40.0 in all 3", "c -41.0 in all 3")
    assert not _about(said, "No single model")


def test_frames_alone_rank_nobody():
    found = Findings(ReportSettings(), frames={"a": None, "b": None})
    (sentence,) = sentences(found)
    assert "a and b" in sentence and "ranked" in sentence
    assert sentences(Findings(ReportSettings())) == [] and opening(Findings(ReportSettings())) == []


def test_the_forest_has_every_pair_and_its_drawing_the_reference(seven):
    asked = questions(seven)
    chart = forest_payload(seven.reference, asked)
    assert chart["reference"] == "baseline" and [len(metric["pairs"]) for metric in chart["metrics"]] == [21] * 3
    assert len({metric["key"] for metric in chart["metrics"]}) == 3
    question = asked[0]
    for pair in chart["metrics"][0]["pairs"]:
        own = question.differences[pair["a"], pair["b"]]
        assert (pair["difference"], pair["low"], pair["n"]) == (round(own.difference, 5), round(own.low, 5), 300)
        assert pair["shown"] == own.shown
    assert any(pair["shown"] for pair in chart["metrics"][0]["pairs"])
    (plot,) = [block for block in walk(opening(seven)) if isinstance(block, Plot)]
    svg = plots.to_svg(plot.draw())
    assert all(svg.count(f">m{i}<") for i in range(1, 7)) and "minus baseline" in svg


def test_a_forest_of_twenty_models_stays_readable(tmp_path):
    models = ["baseline", *(f"m{i:02}" * 30 for i in range(19))]
    found = found_of(tmp_path, *(attacked(tmp_path, 0.5, model=model, n=30, attack=attack)
                                 for model in models for attack in ("simba", "noise")))
    asked = questions(found)
    assert 3 < len(_said(found)) < 12
    figure = forest_plot({str(i): one.to("baseline") for i, one in enumerate(asked)}, "baseline", model_styles(models))
    width, height = figure.get_size_inches()
    assert width < 13 and 4 < height < 8 and len(figure.axes[0].get_yticklabels()) == 19
    assert max(len(label.get_text()) for label in figure.axes[0].get_yticklabels()) <= 41


def test_the_baseline_that_was_named_is_the_reference(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, share, model=model) for model, share in
                                 (("baseline", 0.3), ("b", 0.6))), baseline="b")
    assert _about(_said(found), "from b", "baseline -30.0 [")


def test_a_matrix_marks_what_is_not_shown(seven):
    question = questions(seven)[0]
    made = matrix(question, "robust")
    models = list(question.values)
    assert [column.title for column in made.columns[1:]] == models
    for i, (a, row) in enumerate(zip(models, made.rows, strict=True)):
        assert row[0].text == a and row[i + 1].text == ""
        for j, b in enumerate(models):
            if i != j:
                pair, cell = question.differences[a, b], row[j + 1]
                assert cell.faint == (not pair.shown) == cell.text.startswith("(")
                assert cell.value == pair.difference == -made.rows[j][i + 1].value
    html = fragment(made)
    assert html.count('class="noise"') == sum(cell.faint for row in made.rows for cell in row) > 0


def test_the_page_has_matrices_and_folds_the_pairs(seven):
    document = document_of(seven)
    names = list(document.tables())
    assert sum(name.startswith("matrix-") for name in names) == 3
    folded = [block for block in document.blocks if isinstance(block, Folded)]
    inside = [block.name for fold in folded for block in walk(fold.parts) if isinstance(block, Table)]
    assert {"paired", "shift paired"} <= set(inside)
    page = body(document, drawn(document))
    assert page.index("The answer") < page.index('data-table="asr"')


def test_clean_accuracy_before_an_attack_has_its_matrix_too(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, 0.5, model=model) for model in "abc"))
    assert [name.split("-")[1] for name in document_of(found).tables() if name.startswith("matrix-")] == [
        "robust", "clean"]


def test_two_models_need_no_matrix(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, 0.5, model=model) for model in "ab"))
    document = document_of(found)
    assert not any(name.startswith("matrix-") for name in document.tables()) and "paired" in document.tables()


def test_the_answer_is_a_file_and_part_of_the_results(tmp_path):
    for model in "ab":
        kept(attacked(tmp_path, 0.5, model=model))
    results = write_report(tmp_path)
    assert (tmp_path / "answer.txt").read_text().splitlines() == list(results.answer)
    assert isinstance(opening(found_of(tmp_path))[0], Part) and len(results.answer) >= 4


def test_of_many_models_those_that_differ_most_are_named(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, 0.1 + 0.04 * i, model=f"m{i:02}") for i in range(15)))
    (shown,) = _about(_said(found), "Significant differences from m00")
    assert "m14 +56.0 [" in shown and "m05" not in shown and " more" in shown


def test_a_set_that_a_warning_concerns_is_marked(seven):
    flag = Flag("twice (docs/flags.md#duplicates)", domains=("c",))
    said = _said(dataclasses.replace(seven, flags=[flag]))
    assert "n = 300; warnings: duplicates)" in said[0] and said[0].count("duplicates") == 1


def test_lists_are_cut():
    assert listed([]) == "" and listed(["a"]) == "a" and listed("abc") == "a, b and c"
    assert listed("abcdefgh", 4) == "a, b, c and 5 more"


def test_what_is_left_at_the_largest_budget_is_said_beside_a_smaller_one(tmp_path):
    stored = [run_of(tmp_path / "examples", np.repeat([2, breaks, 90], [20, 60, 20]), model=model, budget=1000,
                     budgets=(1, 10, 1000), attack="simba") for model, breaks in (("a", 50), ("b", 8))]
    (ranked,) = _about(_said(found_of(tmp_path, *stored)), "at 10 iterations", "highest robust")
    assert "80.0% [71.1, 86.7]; 0.0% at 1,000" in ranked


def test_the_title_of_a_set_keeps_its_parentheses(tmp_path):
    title = "folder photos/test (3,500 images, 7 of 7 classes), partial: all"
    rows = attacked(tmp_path, 0.5, model="a", n=20)
    rows.facts = dataclasses.replace(rows.facts, title=title)
    assert "d (folder photos/test (3,500 images, 7 of 7 classes); n = 20)" in _said(found_of(tmp_path, rows))[0]


def test_a_difference_says_of_which_accuracy(tmp_path):
    stored = [run_of(tmp_path / "examples", np.repeat([0, 1, -1], [wrong, 50, 150 - wrong]), model=model)
              for model, wrong in (("baseline", 10), ("b", 100))]
    said = _about(_said(found_of(tmp_path, *stored)), "Significant differences from baseline")
    assert [" in robust accuracy" in one for one in said] == [True, False]
    assert [" in clean accuracy" in one for one in said] == [False, True]
