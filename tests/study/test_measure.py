"""Trainings and endpoints of a small study, from the manifest to files."""

import shutil

import pandas as pd
import pytest

from framebench.errors import InputError
from study import measure, plan, train

MANIFEST = """
seeds = [0]
[recipe]
dataset = "cifar10"
arch = "resnet20"
width = 4
epochs = 1
batch_size = 32
validation = 20
precision = "fp32"
[penalty]
every = 1
[arms.plain]
[arms.so]
regularizer = "so"
gammas = [1e-3, 1e5]
[endpoints.simba-pixel]
attack = "simba"
budget = 5
n = 12
[endpoints.apgd]
attack = "apgd"
epsilon = 0.01
budget = 3
n = 4
[endpoints.clean]
domain = "cifar10"
[endpoints.cifar10-c]
domain = "cifar10-c"
n = 3
[endpoints.two-classes]
domain = "folder:{data_root}/two"
[endpoints.elsewhere]
domain = "cinic10"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    from tests.conftest import write_class_folders

    folder = tmp_path_factory.mktemp("study")
    (folder / "manifest.toml").write_text(MANIFEST)
    for split, count in (("train", 12), ("test", 3)):
        write_class_folders(folder / "data", count, split)
    for name in ("truck", "cat"):
        shutil.copytree(folder / "data" / "cifar10" / "test" / name, folder / "data" / "two" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "STUDY", folder)
        patch.setattr(plan, "TRAININGS", folder / "trainings")
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        train.train_missing(str(folder / "data"), folder / "work")
        measure.measure_missing(str(folder / "data"))
        yield folder


def test_a_training_leaves_weights_card_and_logs(study):
    made = {path.name for path in (study / "trainings" / "plain-s0").iterdir()}
    assert {"plain-s0.safetensors", "plain-s0.json", "log.csv", "layers.csv"} <= made
    assert set(pd.read_csv(study / "trainings" / "plain-s0" / "layers.csv").epoch) == {1}


def test_a_training_that_diverges_is_told_and_not_tried_again(study):
    failed = study / "trainings" / "so-g100000-s0"
    assert [path.name for path in failed.iterdir()] == [plan.FAILED]
    before = (failed / plan.FAILED).stat().st_mtime_ns
    train.train_missing(str(study / "data"), study / "work")
    assert (failed / plan.FAILED).stat().st_mtime_ns == before


@pytest.mark.parametrize("endpoint, rows", [("simba-pixel", 12), ("apgd", 4), ("clean", 30), ("cifar10-c", 3 * 75)])
def test_every_training_has_the_rows_of_an_endpoint(study, endpoint, rows):
    for name in ("plain-s0", "so-g0.001-s0"):
        found = pd.read_parquet(study / "trainings" / name / f"{endpoint}.parquet")
        assert len(found) == rows and not found.duplicated(
            [column for column in ("example", "corruption", "severity") if column in found]).any()


def test_rows_of_two_endpoints_agree_on_the_clean_images(study):
    folder = study / "trainings" / "plain-s0"
    clean = pd.read_parquet(folder / "clean.parquet").set_index("example")
    attacked = pd.read_parquet(folder / "simba-pixel.parquet").set_index("example")
    assert (attacked.clean_prediction == clean.prediction[attacked.index]).all()
    assert ((attacked.success_iteration == 0) == (attacked.clean_prediction != attacked.label)).all()
    assert (attacked.queries <= 1 + 2 * 5).all() and clean.confidence.between(0.1, 1).all()


def test_folders_of_some_classes_have_the_labels_of_the_networks_classes(study):
    found = pd.read_parquet(study / "trainings" / "plain-s0" / "two-classes.parquet")
    assert found.label.value_counts().to_dict() == {3: 3, 9: 3}  # cat and truck


def test_data_that_are_missing_leave_an_endpoint_out(study):
    assert not list((study / "trainings").rglob("elsewhere.parquet"))


def test_an_unknown_arm_is_named(study):
    with pytest.raises(InputError, match="sp"):
        train.train_missing(str(study / "data"), study / "work", ["sp"])
