"""The attack command with attacks besides SimBA, epsilons, seeds, caps and conventions."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision

import framebench
from bench.analysis.attack_tables import ATTACK_COLUMNS
from bench.rows.pictures import Pictures
from bench.rows.store import Store
from bench.run import main
from bench.running.prepare import prepare
from tests.bench.conftest import attack, table


@pytest.mark.parametrize(("options", "label", "epsilon", "norm", "units"), [
    (["--attack", "noise", "--basis", "dct", "--epsilon", "5"], "noise-dct-eps5", 5, None, ["iterations", "queries"]),
    (["--attack", "square", "--epsilon", "51/255"], "square-Linf-schedule12-eps0.2", 0.2, "linf",
     ["iterations", "queries"]),
    (["--attack", "apgd", "--epsilon", "2/255"], "apgd-Linf-white-box-schedule12-eps2/255", 2 / 255, "linf",
     ["iterations"]),
    (["--attack", "foolbox:SaltAndPepperNoiseAttack", "--attack-option", "steps=20", "--epsilon", "6"],
     "foolbox:SaltAndPepperNoiseAttack-steps=20-eps6", 6, "l2", ["iterations", "queries"]),
])
def test_on_the_samples(tmp_path, model_file, options, label, epsilon, norm, units):
    out = tmp_path / "out"
    command = [out, model_file, "--budgets", "1", "12", *options]
    assert attack(*command) == 0
    found = table(out)
    assert list(found.columns) == ATTACK_COLUMNS and set(found["attack"]) == {label}
    assert found["epsilon"].unique() == pytest.approx([epsilon])
    if norm is None:
        assert found[["norm", "bound"]].isna().all(axis=None)
    else:
        assert (found["norm"] == norm).all() and (found["bound"] == found["epsilon"]).all()
    assert list(dict.fromkeys(found["unit"])) == units
    assert found["budget"].tolist() == [0, 1, 12] * len(units)
    assert (found["n"] == 20).all() and (found["n_correct"] == 6).all()
    assert (found[found.budget == 0]["asr"] == 0).all()
    (rows,) = Store(out).all()
    frame = rows.frame()
    assert frame["queries"].max() <= 13 and set(frame["steps"]) == {b""}
    right = frame["clean_prediction"] == frame["label"]
    won = right & (frame["prediction"] != frame["label"])
    assert found[(found.unit == "iterations") & (found.budget == 12)]["successes"].item() == won.sum() > 0
    assert (frame["success_iteration"][won] == frame["queries"][won] - 1).all()
    before = frame.copy()
    assert attack(*command, "--batch-size", "3") == 0
    (again,) = Store(out).all()
    pd.testing.assert_frame_equal(again.frame(), before)
    assert label in (out / "report" / "index.html").read_text()


def test_batches_and_shards_give_the_same_rows(tmp_path, model_file):
    more = ["--budgets", "12", "--attack", "square"]
    assert attack(tmp_path / "whole", model_file, *more) == 0
    for shard in ("1/2", "2/2"):
        assert attack(tmp_path / shard[0], model_file, *more, "--shard", shard, "--batch-size", shard[0]) == 0
    assert main(["report", str(tmp_path / "joined"), str(tmp_path / "1"), str(tmp_path / "2")]) == 0
    (whole,), (joined,) = (Store(tmp_path / name).all() for name in ("whole", "joined"))
    pd.testing.assert_frame_equal(whole.frame(), joined.frame())


@pytest.mark.parametrize("name", ["simba", "noise", "square", "apgd", "foolbox:BoundaryAttack"])
def test_the_query_limit_is_hard(tmp_path, model_file, name):
    assert attack(tmp_path, model_file, "--attack", name, "--budgets", "30", "--max-queries", "5", "--epsilon",
                  "0.001") == 0
    (rows,) = Store(tmp_path).all()
    assert rows.frame()["queries"].max() == 5
    assert "maxqueries5" in table(tmp_path)["attack"].iloc[0]


@pytest.mark.parametrize(("name", "answers"), [
    ("noise", True), ("foolbox:BoundaryAttack", True), ("square", False), ("apgd", False)])
def test_a_longer_run_answers_for_a_shorter_one_unless_its_schedule_differs(tmp_path, model_file, name, answers):
    for budget in ("12", "6"):
        assert attack(tmp_path, model_file, "-n", "4", "--attack", name, "--epsilon", "0.5", "--budgets", budget) == 0
    stored = Store(tmp_path).all()
    assert len(stored) == (1 if answers else 2)
    assert len({rows.label for rows in stored}) == len(stored), "tables must tell them apart"


def working():
    """Return the threads but that of the progress bars, which starts with the first of them."""
    return {thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"}


def test_interrupted_it_keeps_what_is_finished_and_goes_on(tmp_path, model_file, monkeypatch):
    more = ["--attack", "noise", "--budgets", "12"]
    threads = working()
    with monkeypatch.context() as patch:
        def interrupt(self, done):
            raise KeyboardInterrupt
        patch.setattr("bench.running.progress.AttackProgress.update", interrupt)
        assert attack(tmp_path / "cut", model_file, *more) == 130
    gc.collect()
    assert working() == threads, "no attack is left waiting"
    assert 0 < len(Store(tmp_path / "cut").all()[0].ids) < 20
    for name in ("cut", "whole"):
        assert attack(tmp_path / name, model_file, *more) == 0
    (cut,), (whole,) = (Store(tmp_path / name).all() for name in ("cut", "whole"))
    pd.testing.assert_frame_equal(cut.frame(), whole.frame())
    pictures = [Pictures(rows.folder) for rows in (cut, whole)]
    assert pictures[0].examples == pictures[1].examples == list(range(20))
    for example in range(20):
        first, second = (kept.get(example) for kept in pictures)
        assert first.path == second.path and first.path.queries[0] == 1 and first.confidence == second.confidence


def test_every_seed_has_its_own_entries(tmp_path, model_file):
    assert attack(tmp_path, model_file, "--budgets", "9", "--seeds", "0", "2", models=("linear", "other")) == 0
    assert set(table(tmp_path)["attack"]) == {"simba-pixel", "simba-pixel-s2"}
    assert {rows.evaluation.seed for rows in Store(tmp_path).all()} == {0, 2} and len(Store(tmp_path).all()) == 4
    paired = pd.read_csv(tmp_path / "paired.csv")
    assert set(paired["attack"]) == {"simba-pixel", "simba-pixel-s2"} and len(paired) == 4, "no pair of two seeds"
    assert "simba-pixel-s2" in (tmp_path / "report" / "index.html").read_text()


def test_every_epsilon_has_its_own_entries(tmp_path, model_file, capsys):
    more = ["--budgets", "9", "-n", "6"]
    assert attack(tmp_path / "sweep", model_file, *more, "--epsilon", "0.2", "102/255", models=("linear", "other")) == 0
    printed = capsys.readouterr().out
    found = table(tmp_path / "sweep")
    assert found.groupby("attack")["epsilon"].unique().map(list).to_dict() == {"simba-pixel": [0.2],
                                                                               "simba-pixel-eps0.4": [0.4]}
    assert (found.groupby(["model", "attack", "unit", "budget"]).size() == 1).all()
    paired = pd.read_csv(tmp_path / "sweep" / "paired.csv")
    assert paired["attack"].tolist() == ["simba-pixel"] * 2 + ["simba-pixel-eps0.4"] * 2, "no pair of two epsilons"
    page = (tmp_path / "sweep" / "report" / "index.html").read_text()
    for name in set(found["attack"]):
        assert f"factories:other · {name} on samples: " in printed
        assert page.count(f">factories:other · {name}</text>") == 2, "a curve of its own against either unit"

    assert attack(tmp_path / "alone", model_file, *more, "--epsilon", "0.4") == 0
    (alone,) = Store(tmp_path / "alone").all()
    (swept,) = (rows for rows in Store(tmp_path / "sweep").all() if rows.evaluation.key == alone.evaluation.key)
    pd.testing.assert_frame_equal(swept.frame(), alone.frame(), check_exact=True)


def test_epsilons_from_python(model_file):
    model = f"python:{model_file}:linear"
    swept = framebench.attack(model, n=4, budgets=[2], epsilon=np.array([0.1, 0.2]), threads=1).attack
    assert swept.groupby("attack")["epsilon"].unique().map(list).to_dict() == {"simba-pixel": [0.2],
                                                                               "simba-pixel-eps0.1": [0.1]}
    alone = framebench.attack(model, n=4, budgets=[2], epsilon=0.1, threads=1).attack
    pd.testing.assert_frame_equal(alone, swept[swept["epsilon"] == 0.1].reset_index(drop=True))


def test_successes_beyond_a_cap_do_not_count(tmp_path, model_file):
    assert attack(tmp_path, model_file, "--budgets", "60") == 0
    assert attack(tmp_path, model_file, "--budgets", "60", "--l2", "0.5") == 0
    (rows,) = Store(tmp_path).all()
    frame = rows.frame()
    found = table(tmp_path, "iterations").query("budget == 60").set_index("attack")
    assert found.loc["simba-pixel-L2cap0.5", ["norm", "bound"]].tolist() == ["l2", 0.5]
    assert found.loc["simba-pixel", ["norm", "bound"]].isna().all()
    for name, within in (("simba-pixel", np.inf), ("simba-pixel-L2cap0.5", 0.5)):
        won = (frame["success_iteration"] > 0) & (frame["l2"] <= within)
        assert found.loc[name, "successes"] == won.sum()
        right = frame["clean_prediction"] == frame["label"]
        assert found.loc[name, "robust_accuracy"] == pytest.approx((right & ~won).mean())
    assert found.loc["simba-pixel-L2cap0.5", "successes"] < found.loc["simba-pixel", "successes"]


def test_the_normalised_clip_shows_in_its_control(tmp_path, model_file, capsys):
    more = ["--budgets", "1", "20", "--epsilon", "2", "--basis", "dct", "--step", "best-of-two"]
    assert attack(tmp_path, model_file, *more, models=("normalised",)) == 0
    for clip in ("anew", "cumulative"):
        assert attack(tmp_path, model_file, *more, "--convention", "normalised-clip", "--clip", clip,
                      models=("normalised",)) == 0
        entries = table(tmp_path, "iterations").query("budget == 20 and attack.str.contains('clip')")
        broken = entries.set_index(entries["attack"].str.contains("cumulative"))["successes"][clip == "cumulative"]
        assert capsys.readouterr().err.rsplit("broken ", 1)[1].startswith(f"{broken},"), "by the clip and the attack"
    found = table(tmp_path).query("budget == 0").groupby("attack")["asr"].agg(["min", "max"])
    assert tuple(found.loc["simba-dct-best-of-two-eps2"]) == (0, 0)
    low, high = found.loc["simba-dct-best-of-two-normalised-clip-eps2"]
    assert low == high > 0
    assert tuple(found.loc["simba-dct-best-of-two-normalised-clip-cumulative-eps2"]) == (low, high)
    (usual,), clipped = ([rows.frame() for rows in Store(tmp_path).all() if ("normalised-clip" in rows.label) == kind]
                         for kind in (False, True))
    assert len(clipped) == 2
    for frame in clipped:
        assert (usual["clean_prediction"] == frame["clean_prediction"]).all()
    assert "broken by the clip" in (tmp_path / "report" / "index.html").read_text()


def test_a_cumulative_clip_goes_on_where_it_was_cut_off(tmp_path, model_file):
    more = ["--budgets", "1", "20", "--epsilon", "2", "--basis", "dct", "--clip", "cumulative"]
    assert attack(tmp_path / "whole", model_file, *more) == 0
    assert attack(tmp_path / "parts", model_file, *more, "-n", "9", "--batch-size", "4") == 0
    assert attack(tmp_path / "parts", model_file, *more, "--batch-size", "3") == 0
    (whole,), (parts,) = (Store(tmp_path / name).all() for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole.frame(), parts.frame(), check_exact=True)
    assert whole.evaluation.settings["clip"] == "cumulative" and whole.label == "simba-dct-cumulative-eps2"


def test_a_model_of_labels_alone_takes_decision_based_attacks(tmp_path, model_file, capsys):
    for name in ("simba", "square", "apgd"):
        assert attack(tmp_path, model_file, "--attack", name, "--budgets", "3", models=("service",)) == 2
        assert f"gives labels alone, and {name} needs" in capsys.readouterr().err
    for name in ("apgd", "foolbox:PGD"):
        assert attack(tmp_path, model_file, "--attack", name, "--budgets", "3", models=("linear", "scores")) == 2
        assert f"gives no gradients, and {name} needs them; use simba" in capsys.readouterr().err
    more = ["--attack", "foolbox:SaltAndPepperNoiseAttack", "--attack-option", "steps=20", "--epsilon", "6",
            "--budgets", "12"]
    assert attack(tmp_path, model_file, *more, models=("service", "linear")) == 0
    labels, logits = (rows.frame() for rows in Store(tmp_path).all())
    pd.testing.assert_series_equal(labels["success_iteration"], logits["success_iteration"])
    assert (labels["success_iteration"] > 0).any()
    assert "probabilities" not in capsys.readouterr().out, "no warning: one-hot rows are not a softmax"


@pytest.mark.parametrize(("options", "message"), [
    (["--attack", "simab"], "did you mean simba"),
    (["--attack", "foolbox:BoundryAttack"], "did you mean BoundaryAttack"),
    (["--attack", "square", "--step", "best-of-two"], "step is an option of simba, not of square"),
    (["--attack", "square", "--basis", "dct"], "basis is an option of simba and noise, not of square"),
    (["--attack", "noise", "--targeted"], "targeted is an option of simba, not of noise"),
    (["--attack", "square", "--attack-option", "p_ini=1"], "unknown option of square 'p_ini'; did you mean p_init"),
    (["--attack-option", "steps=1"], "unknown option of simba 'steps'"),
    (["--attack", "noise", "--budgets", "5000"], "no direction repeats"),
    (["--attack", "square", "--epsilon", "0"], "--epsilon must be above 0"),
    (["--epsilon", "1/0"], "--epsilon must be a number"),
    (["--epsilon", "0.1", "0.2", "0"], "epsilon must be above 0"),
    (["--epsilon", "0.2", "51/255"], "--epsilon 0.2 0.2: give each value once"),
    (["--attack", "square", "--epsilon", "0.1", "inf"], "--epsilon must be above 0 and finite"),
    (["--attack", "square", "--clip", "cumulative"], "clip is an option of simba, not of square"),
    (["--clip", "cumulativ"], "did you mean cumulative"),
    (["--l2", "-1"], "--l2 must be above 0"),
    (["--seeds", "1", "1"], "--seeds 1 1: give each value once"),
    (["--convention", "normalised-clip"], "needs a model with a layer `normalize`"),
    (["--transfer-from", "{tmp}/none.safetensors"], "not a folder of attacked images"),
    (["--transfer-from", "{file}"], "not a folder of attacked images"),
])
def test_bad_input_is_one_line(tmp_path, model_file, capsys, options, message):
    given = [option.format(tmp=tmp_path, file=model_file) for option in options]
    code = attack(tmp_path / "out", model_file, *([] if "--budgets" in given else ["--budgets", "3"]), *given)
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0], captured.err
    assert not list((tmp_path / "out").rglob("*.parquet")) and not (tmp_path / "out" / "attack.csv").exists()


@pytest.mark.parametrize(("last", "more", "message"), [
    ("five", [], "the data have 10 classes"),
    ("broken", ["--attack", "square"], "returns logits that are not finite"),
    ("service", [], "gives labels alone"),
    ("linear", ["--convention", "normalised-clip"], "needs a model with a layer `normalize`"),
])
def test_a_misfit_of_the_last_model_is_told_before_the_first_is_attacked(tmp_path, model_file, capsys, monkeypatch,
                                                                         last, more, message):
    monkeypatch.setattr("bench.running.attacking.attack_images", None)
    assert attack(tmp_path, model_file, "--budgets", "3", *more, models=("normalised", last)) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.rglob("*.parquet"))


def test_a_model_is_made_ready_once_and_only_for_missing_rows(tmp_path, model_file, monkeypatch):
    prepared = []

    def counting(model, *given, **options):
        prepared.append(model.name)
        return prepare(model, *given, **options)

    monkeypatch.setattr("bench.running.attacking.prepare", counting)
    more = ["--budgets", "3", "-n", "4", "--seeds", "0", "1"]
    assert attack(tmp_path, model_file, *more, models=("other",)) == 0
    assert attack(tmp_path, model_file, *more, models=("linear", "normalised", "other")) == 0
    assert prepared == ["factories:other", "factories:linear", "factories:normalised"]


def test_models_of_other_sizes_are_given_the_same_images_and_the_page_says_who_resizes(tmp_path, networks):
    out = tmp_path / "out"
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), tmp_path / "squeeze.pt")
    state = f"state:torchvision/squeezenet1_1,size=48,interpolation=bicubic:{tmp_path / 'squeeze.pt'}"
    common = ["--models", state, f"python:{networks}:small", "--out", str(out)]
    assert main(["attack", *common, "--budgets", "3", "--threads", "1"]) == 0
    assert main(["shift", *common, "--domains", "samples", "--threads", "1"]) == 0
    found = {rows.evaluation.model: rows.facts.resizing for rows in Store(out).all()}
    assert found == {"squeeze": "32x32 to 48x48 (bicubic)", "networks:small": ""}
    assert (out / "report" / "index.html").read_text().count("squeeze resizes 32x32 to 48x48 (bicubic).") == 2


def test_autoattack_is_tabled_part_by_part_and_against_epsilon(tmp_path, model_file):
    options = ["--attack", "autoattack", "--attack-option", "iterations=4", "queries=20", "targets=2"]
    out = tmp_path / "out"
    assert attack(out, model_file, *options, "--epsilon", "1/255", "4/255", "16/255") == 0
    found = table(out)
    assert sorted(found["budget"].unique()) == [0, 5, 15, 31, 52] and set(found["unit"]) == {"iterations"}
    parts = pd.read_csv(out / "autoattack.csv")
    assert parts["part"].tolist() == ["apgd-ce", "apgd-t", "fab-t", "square"] * 3
    for rows in Store(out).all():
        own, success = parts[parts["epsilon"] == rows.facts.traits.epsilon], rows.frame()["success_iteration"]
        assert own["broken"].sum() == (success > 0).sum()
        assert own["robust_accuracy"].iloc[-1] == (success < 0).mean()
    assert parts["broken"].sum() > 0
    page = (out / "report" / "index.html").read_text()
    assert "AutoAttack, part by part" in page and "Robust accuracy against epsilon" in page
    assert '<figure id="robust-' in page

    more = ["--epsilon", "4/255", "--budgets", "7"]  # which the longer run answers
    assert attack(out, model_file, *options, *more) == 0 and len(Store(out).all()) == 3
    assert attack(tmp_path / "short", model_file, *options, *more) == 0
    (short,) = Store(tmp_path / "short").all()
    (whole,) = (rows for rows in Store(out).all() if rows.facts.traits.epsilon == 4 / 255)
    assert ((short.frame()["success_iteration"] > 0) == whole.frame()["success_iteration"].between(1, 7)).all()


def test_median_minimal_distances_are_in_the_table(tmp_path, model_file):
    assert attack(tmp_path, model_file, "--attack", "foolbox:DDNAttack", "--attack-option", "minimise=true", "steps=30",
                  "--budgets", "31") == 0
    found = table(tmp_path).iloc[-1]
    (rows,) = Store(tmp_path).all()
    frame = rows.frame()
    won = frame["success_iteration"] > 0
    assert found["asr"] == 1 and found["l2_median"] == frame["l2"][won].median()
    assert np.isnan(found["bound"]) and (frame["queries"][won] > frame["success_iteration"][won] + 1).any()


def test_smaller_budgets_of_what_minimises_claim_no_distance_of_the_end(tmp_path, model_file):
    options = ["--attack", "foolbox:DDNAttack", "--attack-option", "minimise=true", "--l2", "0.3", "-n", "8"]
    assert attack(tmp_path / "long", model_file, *options, "--budgets", "5", "60", "--seeds", "0", "1") == 0
    assert attack(tmp_path / "short", model_file, *options, "--budgets", "5") == 0
    found, alone = (table(tmp_path / name) for name in ("long", "short"))
    capped, at = (found["attack"].str.contains("L2cap"), found["budget"] == 5)
    short = alone[alone["budget"] == 5]
    assert short["asr"].tolist() == [1, 0] and short["l2_median"].iloc[0] > 0.3, "after 5 iterations it is far away"
    assert found[at & ~capped]["asr"].tolist() == [1, 1] and found[at]["l2_median"].isna().all()
    assert not (at & capped).any() and found[capped & (found["budget"] == 60)]["asr"].tolist() == [1, 1]
    seeds = pd.read_csv(tmp_path / "long" / "attack_seeds.csv")
    assert seeds[seeds["attack"].str.contains("L2cap")]["budget"].tolist() == [0, 60]
    assert (tmp_path / "long" / "report" / "index.html").stat().st_size > 0
