"""What is kept of frame bounds: named, checked, joined, and drawn with the logs of trainings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.run import main
from bench.training.logs import find_logs, read_logs
from framebench.errors import InputError
from framebench.models.registry import load
from tests.bench.conftest import attack, frames


def write_training(folder, name="mine"):
    run = folder / name
    run.mkdir(parents=True)
    pd.DataFrame([(epoch, layer, 0.1 * 2**epoch, 4.0 - epoch) for epoch in (0, 0.5, 2) for layer in ("a", "b")],
                 columns=["epoch", "layer", "lower", "upper"]).to_csv(run / "layers.csv", index=False)
    pd.DataFrame({"epoch": [1, 2], "lr": 0.1, "train_loss": [2.0, 1.0], "penalty": [4.0, 1.0],
                  "train_accuracy": [0.3, 0.6], "validation_accuracy": [0.4, 0.5], "seconds": 1.0}).to_csv(
                      run / "log.csv", index=False)
    return run


@pytest.mark.parametrize(("given", "headings"), [
    ([""], {"Bounds in the course of training", "Training"}),
    (["layers.csv"], {"Bounds in the course of training"}),
    (["log.csv", "layers.csv"], {"Bounds in the course of training", "Training"}),
])
def test_a_training_is_drawn(tmp_path, networks, given, headings):
    run = write_training(tmp_path)
    out = tmp_path / "out"
    assert frames(out, networks, "small", more=["--images", "0", "--log", *(str(run / name) for name in given)]) == 0
    page = (out / "report" / "index.html").read_text()
    known = {"Bounds in the course of training", "Training"}
    assert {heading for heading in known if f"<h2>{heading}</h2>" in page} == headings and ">mine<" in page
    assert ('<figure id="training-curves"' in page) is ("Training" in headings)
    assert main(["report", str(out), "--log", *(str(run / name) for name in given)]) == 0
    page = (out / "report" / "index.html").read_text()
    assert {heading for heading in known if f"<h2>{heading}</h2>" in page} == headings


def test_the_same_command_gives_the_same_page_after_another_history(tmp_path, networks):
    """Logs come from the command alone."""
    run, out = write_training(tmp_path), tmp_path / "out"
    bare, drawn = ["--images", "0"], ["--images", "0", "--log", str(run)]
    pages = []
    for more in (bare, drawn, bare, drawn):
        assert frames(out, networks, "small", more=more) == 0
        pages.append((out / "report" / "index.html").read_text())
    assert pages[0] == pages[2] != pages[1] == pages[3]
    assert "Training</h2>" in pages[1] and "Training</h2>" not in pages[0]


@pytest.mark.parametrize("spoil", [
    Path.unlink,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"\xff\xfe\x00"),
    lambda path: path.write_text("epoch,layer\n1,a\n"),
])
def test_a_log_that_can_not_be_read_is_refused_before_anything_is_measured(tmp_path, networks, capsys, spoil):
    run, out = write_training(tmp_path), tmp_path / "out"
    spoil(run / "log.csv")
    assert frames(out, networks, "small", more=["--images", "0", "--log", str(run / "log.csv")]) == 2
    assert "log.csv is not a log of a training" in capsys.readouterr().err and not out.exists()


def test_lines_that_have_no_place_on_an_axis_are_left_out_and_layers_may_be_numbers(tmp_path):
    path = tmp_path / "layers.csv"
    path.write_text("epoch,layer,lower,upper\n1,0,0.1,2\n1,03,0.1,2\n2,0,0.1,inf\n3,0,0.")
    log = read_logs([path]).bounds[tmp_path.name]
    assert log.to_numpy().tolist() == [[1, "0", 0.1, 2], [1, "03", 0.1, 2]]
    path.write_text("epoch,layer,lower,upper\n1,0,nan,nan\n")
    with pytest.raises(InputError, match="it has no line"):
        read_logs([path])


def test_trainings_are_called_by_their_folders_or_by_files_that_were_renamed(tmp_path):
    first, second = write_training(tmp_path, "first"), write_training(tmp_path, "second")
    kept = tmp_path / "kept-layers.csv"
    (second / "layers.csv").rename(kept)
    logs = read_logs([*find_logs([first, second]), kept])
    assert list(logs.bounds) == ["first", "kept"] and list(logs.epochs) == ["first", "second"]
    with pytest.raises(InputError, match="second log of a training called first; rename"):
        read_logs([first / "log.csv", write_training(tmp_path / "other", "first") / "log.csv"])


def test_a_shift_in_the_same_folder_shares_the_report_and_outputs_are_joined(tmp_path, networks, model_file):
    both, alone, other = (tmp_path / name for name in ("both", "alone", "other"))
    assert frames(both, networks, "small", more=["--images", "0"]) == 0
    assert main(["shift", "--models", f"python:{model_file}:linear", "--domains", "samples", "--out", str(both),
                 "--threads", "1"]) == 0
    page = (both / "report" / "index.html").read_text()
    assert "Domain shift, frame bounds" in page and "Accuracy loss under shift" not in page and "At a glance" in page
    assert frames(alone, networks, "other", more=["--images", "0"]) == 0
    assert main(["report", str(other), str(both), str(alone)]) == 0
    assert len(pd.read_csv(other / "frames.csv")) == 6 and len(pd.read_csv(other / "shift.csv")) == 1


def test_a_model_that_has_changed_is_told_from_what_it_was(tmp_path, networks, capsys):
    out = tmp_path / "out"
    options = ["--models", *(f"python:{networks}:{name}" for name in ("small", "other")), "--out", str(out)]
    assert main(["shift", *options, "--domains", "samples-c", "--corruptions", "fog", "--severities", "1",
                 "--baseline", "networks:small", "--threads", "1"]) == 0
    before = pd.read_csv(out / "shift_summary.csv")
    assert frames(out, networks, "small", more=["--images", "0", "--baseline", "networks:small"]) == 0
    assert set(pd.read_csv(out / "frames.csv")["model"]) == {"networks:small"}
    old = load(f"python:{networks}:small").digest[:6]
    networks.write_text(networks.read_text().replace("def small(seed=0,", "def small(seed=5,"))
    new = load(f"python:{networks}:small").digest[:6]
    capsys.readouterr()
    assert frames(out, networks, "small", more=["--images", "0", "--baseline", "networks:small"]) == 0
    printed = capsys.readouterr().out
    assert f"networks:small #{new}: 3 layers" in printed and old not in printed, "what was asked for alone"
    table = pd.read_csv(out / "frames.csv")
    assert table["model"].value_counts().to_dict() == {f"networks:small #{old}": 3, f"networks:small #{new}": 3}
    page = (out / "report" / "index.html").read_text()
    assert f"Layers of networks:small #{old}<" in page and f"Layers of networks:small #{new}<" in page
    # The shift is of what it was. It is called so in its tables too, and is the baseline that it was.
    after = pd.read_csv(out / "shift_summary.csv")
    assert set(after["model"]) == {"networks:other", f"networks:small #{old}"}
    assert after["mce"].notna().any()
    pd.testing.assert_frame_equal(after.replace(f"networks:small #{old}", "networks:small"), before)


@pytest.mark.parametrize("damage", [
    lambda content: b"",
    lambda content: content[:-1],
    lambda content: content.replace(b"1", b"2", 1),
], ids=["empty", "cut", "changed"])
def test_a_damaged_file_is_refused_before_anything_is_done(tmp_path, networks, model_file, capsys, damage):
    out, joined = tmp_path / "out", tmp_path / "joined"
    assert frames(out, networks, "square", more=["--images", "0"]) == 0
    assert attack(out, model_file, "--budgets", "1", "-n", "2") == 0
    (path,) = (out / "frames").iterdir()
    good = path.read_bytes()
    path.write_bytes(bad := damage(good))
    capsys.readouterr()
    for again in (lambda: main(["report", str(out)]), lambda: main(["report", str(joined), str(out)]),
                  lambda: frames(out, networks, "small", more=["--images", "0"])):
        assert again() == 2
        assert f"{path} is damaged" in capsys.readouterr().err
    assert path.read_bytes() == bad and list((out / "frames").iterdir()) == [path]
    assert not [found for found in joined.rglob("*") if found.suffix in (".parquet", ".json", ".csv")]
    path.write_bytes(good)
    assert main(["report", str(joined), str(out)]) == 0


def test_damage_in_the_folder_that_is_joined_into_is_found_before_and_a_copy_is_damage(tmp_path, networks, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert frames(first, networks, "square", more=["--images", "0"]) == 0
    assert frames(second, networks, "small", more=["--images", "0"]) == 0
    (path,) = (first / "frames").iterdir()
    copy = path.with_name(f"{path.stem} (1).json")
    copy.write_bytes(path.read_bytes())
    assert main(["report", str(first), str(second)]) == 2
    assert f"{copy} is damaged" in capsys.readouterr().err and len(list((first / "frames").iterdir())) == 2
    copy.unlink()
    assert main(["report", str(first), str(second)]) == 0 and len(pd.read_csv(first / "frames.csv")) == 5
