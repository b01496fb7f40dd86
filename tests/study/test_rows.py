from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from framebench.errors import InputError
from study import plan
from study.rows import FOLDED, finished, measured


def test_tries_are_groups_of_their_own_and_the_chosen_one_counts_for_its_arm(whole):
    groups = [one.group for one in finished()]
    assert groups.count("frame") == 3 and sum(group.startswith("frame ") for group in groups) == 1
    assert groups[:3] == ["plain"] * 3


def test_before_a_choice_all_are_tries(drawn):
    drawn.add(plan.tries("frame")[0])
    (only,) = finished()
    assert only.group != "frame" and only.training.arm == "frame"


def test_frameness_is_the_median_over_the_layers(drawn):
    drawn.add(plan.tries("plain")[0])
    (only,) = finished()
    layers = {"q01": [1, 0.1, 0.01], "q99": [10, 10, 10], "lower": [0, 0, 1e-9], "upper": [1, 1, 1]}
    table = pd.DataFrame(layers | {f"folded_{name}": values for name, values in layers.items()})
    table.to_csv(only.training.folder / "layers.csv")
    assert only.frameness[FOLDED] == pytest.approx(2)
    assert only.frameness["B/A: extremes, kernel alone"] == pytest.approx(7)  # what is below rounding counts as it


def test_trainings_without_rows_are_left_out_of_the_endpoint(drawn):
    first, second = plan.tries("plain")[0], plan.tries("better")[0]
    drawn.add(first)
    drawn.add(second, rows=False)
    found = measured(finished())
    there, data = found["area"]
    assert [one.training for one in there] == [first] and data.scores.shape == (1, 400)
    assert "apgd-1" not in found


def damaged(path):
    path.write_bytes(path.read_bytes()[:100])


def without_column(path):
    pd.read_parquet(path).drop(columns="queries").to_parquet(path)


def other_images(path):
    pd.read_parquet(path).assign(example=lambda rows: rows["example"] + 1).to_parquet(path)


def other_labels(path):
    pd.read_parquet(path).assign(label=lambda rows: rows["label"] + 1).to_parquet(path)


def disordered(path):
    pd.read_parquet(path)[::-1].to_parquet(path)


def repeated(path):
    pd.concat([pd.read_parquet(path)] * 2).sort_values("example").to_parquet(path)


def empty(path):
    pd.read_parquet(path)[:0].to_parquet(path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the mean of no images
@pytest.mark.parametrize("harm", [damaged, without_column, other_images, other_labels, disordered, repeated, empty])
def test_rows_that_are_not_those_of_the_others_are_refused(drawn, harm):
    for training in (plan.tries("plain")[0], plan.tries("better")[0]):
        drawn.add(training)
    harm(training.folder / "simba-pixel.parquet")
    with pytest.raises(InputError, match="measure it again"):
        measured(finished())


def test_missing_cells_are_refused(drawn):
    training = plan.tries("plain")[0]
    drawn.add(training)
    path = training.folder / "cifar10-c.parquet"
    pd.read_parquet(path).drop(index=7).to_parquet(path)
    with pytest.raises(InputError, match="cifar10-c"):
        measured(finished())


@pytest.mark.parametrize("text", ["", "layer,lower\nconv,1\n"])
def test_a_table_of_layers_that_is_none_is_refused(drawn, text):
    drawn.add(plan.tries("plain")[0])
    (only,) = finished()
    (only.training.folder / "layers.csv").write_text(text)
    with pytest.raises(InputError, match="layers"):
        only.frameness  # noqa: B018  # reads the file


def test_a_card_without_the_test_images_is_refused(drawn):
    training = plan.tries("plain")[0]
    drawn.add(training)
    (only,) = finished()
    only.card["accuracy"] = []
    with pytest.raises(InputError, match="accuracy"):
        np.asarray(only.accuracy)
