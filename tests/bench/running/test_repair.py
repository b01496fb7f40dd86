"""Damage below OUT: it is named before it is used, and --repair computes again what it held, and nothing else."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.rows.adversarial import folder_of, read
from bench.rows.damage import KEPT
from bench.rows.pictures import Pictures
from bench.rows.store import Store
from bench.run import main
from tests.bench.conftest import attack, frames


def flip(path, at=0.6):
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 8
    path.write_bytes(content)


@pytest.fixture
def made(tmp_path, model_file, networks):
    """Return a folder with every kind of kept file, and the commands that have written it and write it again."""
    out = tmp_path / "out"
    commands = {
        "attack": lambda *more: attack(out, model_file, "--budgets", "20", "--save-adversarial", *more,
                                       models=("linear", "other")),
        "shift": lambda *more: main(["shift", "--models", f"python:{model_file}:linear", "--domains", "samples",
                                     "--threads", "1", "--out", str(out), *more]),
        "frames": lambda *more: frames(out, networks, "small", more=["--images", "0", *more]),
        "transfer": lambda *more: attack(
            out, model_file, "--transfer-from", str(next((out / "adversarial").glob("*other*"))), *more)}
    for command in commands.values():
        assert command() == 0
    return out, commands


def kept(out):
    return {path.relative_to(out): path.read_bytes() for form in KEPT for path in sorted(out.glob(form))}


#: Kept files of every kind, and the command that writes them.
EVERY = {"examples/*other*simba*/rows-*": "attack", "examples/*other*simba*/pictures-*": "attack",
         "adversarial/*other*/images-*": "attack", "kept/transfer-*": "transfer", "frames/*.json": "frames",
         "examples/*linear-samples-[!s]*/rows-*": "shift"}


def test_a_damaged_file_is_named_and_made_again_on_request(made, capsys):
    out, commands = made
    tables = {name: pd.read_csv(out / f"{name}.csv") for name in ("attack", "shift", "transfer")}
    for form, command in EVERY.items():
        (path,) = out.glob(form)
        before = kept(out)
        flip(path)
        capsys.readouterr()
        assert commands[command]() == (0 if path.name.startswith("pictures-") else 2), form
        said = capsys.readouterr()
        assert path.name in said.out + said.err and "--repair" in said.out + said.err, form
        assert path.exists(), "nothing is removed unasked"
        assert commands[command]("--repair") == 0, form
        assert f"{path} was damaged and is removed" in capsys.readouterr().out
        again = kept(out)
        assert {name for name in before if before[name] != again.get(name)} <= {path.relative_to(out)}, form
        if command != "frames" and "rows" not in path.name:  # their provenance has the time, and parts another order
            assert again == before, form
        for name, table in tables.items():
            pd.testing.assert_frame_equal(pd.read_csv(out / f"{name}.csv"), table)
    for run in commands.values():
        assert run() == 0


def test_what_was_removed_by_hand_is_made_again_too(made):
    out, commands = made
    (other,) = [rows for rows in Store(out).all() if rows.label != "none" and "other" in rows.evaluation.model]
    images, pictures = read(folder_of(other)), Pictures(other.folder).examples
    for path in [*folder_of(other).iterdir(), *other.folder.glob("pictures-*")]:
        path.unlink()
    assert commands["attack"]() == 2, "its images are gone"
    assert commands["attack"]("--repair") == 0
    again = read(folder_of(other))
    assert (again.images == images.images).all() and (again.ids == images.ids).all()
    assert Pictures(other.folder).examples == pictures != []


def test_images_can_be_saved_afterwards(tmp_path, model_file):
    command = (tmp_path / "out", model_file, "--budgets", "5")
    assert attack(*command) == 0
    (before,) = Store(tmp_path / "out").files()
    assert attack(*command, "--save-adversarial") == 2 and attack(*command, "--save-adversarial", "--repair") == 0
    (rows,) = Store(tmp_path / "out").all()
    assert read(folder_of(rows)).ids.tolist() == rows.ids.tolist() and Store(tmp_path / "out").files() == [before]


def test_a_report_is_of_what_is_left(made, capsys):
    out, _ = made
    (path,) = out.glob("examples/*other*simba*/rows-*")
    flip(path)
    assert main(["report", str(out)]) == 2
    assert main(["report", str(out), "--repair"]) == 0
    assert "other" not in " ".join(pd.read_csv(out / "attack.csv")["model"])


def test_what_is_not_damage_is_left(made):
    out, commands = made
    (path,) = out.glob("frames/*.json")
    whole = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert commands["frames"]("--repair") == 2 and path.is_dir()
    path.rmdir()
    path.write_bytes(whole)
    assert commands["frames"]("--repair") == 0 and path.read_bytes() == whole
