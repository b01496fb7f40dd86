"""What is kept below an output folder, what a training resumes from, and the cache."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import strategies as st

from bench.analysis.reporting import write_report
from bench.rows.adversarial import Adversarial, folder_of, parts_of
from bench.rows.adversarial import read as read_adversarial
from bench.rows.frames import keep_frames, read_frames
from bench.rows.kept import TRANSFER
from bench.rows.pictures import Picture, Pictures
from bench.rows.store import Store
from bench.training.logs import COLUMNS, read_logs
from framebench.attacks.base import MarginPath
from framebench.domains import load_domain, load_training
from framebench.domains.corrupted import load_corrupted
from framebench.domains.duplicates import duplicates_of
from framebench.files import digest, seal
from framebench.models.architectures import build
from framebench.models.watch import LayerLog
from tests.bench.analysis.making import run_of
from tests.conftest import write_class_folders
from tests.faults.mutate import Target, changed, damaged, dumped, tensors_damaged
from tests.models.training import RECIPE, images_of, prepare, state_of


def write_results(out: Path) -> Store:
    """Write one of each kind of kept file."""
    store = Store(out)
    for model in ("m", "n"):
        rows = run_of(out / "examples", [0, 3, -1, 7], model=model)
        saved = Adversarial(run_of(out / "examples", [], model=model))
        saved.add(np.arange(4), np.ones(4, int), torch.full((4, 3, 8, 8), 0.5))
        saved.flush()
        pictures = Pictures(rows.folder)
        for example in range(4):
            image = np.full((3, 8, 8), 0.25, np.float32)
            pictures.add(example, Picture(image, image, 0.5, MarginPath([1, 3], [0.5, -0.5])))
        pictures.flush()
        rows.finish()
    keep_frames(out, {"model": "m", "digest": "m", "size": 8, "padding": "own", "fold": False, "images": 0},
                {"torch": "2"}, [{"layer": "a", "side": "rows", "lower": 0.5, "upper": 2.0, "lower_converged": True,
                                  "upper_converged": True, "gershgorin_lower": 0.1, "gershgorin_upper": 3.0,
                                  "kind": "conv", "c_out": 4, "c_in": 3, "kernel": "3x3", "stride": "1x1", "groups": 1,
                                  "height": 8, "width": 8, "reconstruction_error": None, "recovered": None,
                                  "spectrum": None}])
    TRANSFER.write(out, TRANSFER.read(out).reindex([0]).assign(source="m", target="n", evaluation="e", n=4, asr=0.5))
    return store


def _read_all(out: Path) -> list[Any]:
    """Return all that is kept, as something to compare."""
    found: list[Any] = []
    for rows in Store(out).all():
        found += [rows.evaluation.key, rows.frame().to_csv(), repr(rows.facts)]
        pictures = Pictures(rows.folder)
        found.append([(example, pictures.get(example).attacked.tobytes()) for example in pictures.examples])
        if parts_of(folder_of(rows)):
            found.append(read_adversarial(folder_of(rows)).images.numpy().tobytes())
    return [*found, TRANSFER.read(out).to_csv(), repr([kept.layers for kept in read_frames(out)])]


def kept_files(prepared: Path) -> Target:
    """Every kept file, under its own name: damage is found, or, of pictures, leaves them out."""
    write_results(prepared)
    files = sorted(path.relative_to(prepared) for path in prepared.rglob("*-*.*") if path.is_file())
    want = _read_all(prepared)

    def run(own: Path, data: Any) -> None:
        shutil.copytree(prepared, own, dirs_exist_ok=True)
        path = own / data.draw(st.sampled_from(files))
        content = damaged(data, good := path.read_bytes())
        path.write_bytes(content)
        found = _read_all(own)
        assert content == good or (path.name.startswith("pictures-") and [] in found
                                   and all(entry in want or entry == [] for entry in found))
    return run


def _sealed(own: Path, path: Path, content: bytes) -> None:
    """Put other content in the place of a kept file, under the name that fits."""
    path.unlink()
    seal(path.parent, path.stem.rpartition("-")[0], path.suffix, content)


def sealed_files(prepared: Path) -> Target:
    """Kept files with damage that their checksums fit, as somebody hostile would write them; read, and tabled."""
    write_results(prepared)
    files = sorted(path.relative_to(prepared) for path in prepared.rglob("*-*.*") if path.is_file())

    def run(own: Path, data: Any) -> None:
        shutil.copytree(prepared, own, dirs_exist_ok=True)
        path = own / data.draw(st.sampled_from(files))
        good = path.read_bytes()
        if path.suffix == ".json" and data.draw(st.booleans()):
            content = dumped(changed(data, json.loads(good)))
        elif path.suffix == ".safetensors":
            content = tensors_damaged(data, good)
        elif path.suffix == ".parquet" and data.draw(st.booleans()):
            content = _rows_changed(data, good)
        else:
            content = damaged(data, good)
        _sealed(own, path, content)
        _read_all(own)
        if data.draw(st.integers(0, 9)) == 0:  # it takes a second
            write_report(own)
    return run


def _rows_changed(data: Any, content: bytes) -> bytes:
    """Return a part of rows with other values, or with other facts."""
    table = pq.read_table(io.BytesIO(content))
    if data.draw(st.booleans()):
        meta = changed(data, json.loads(table.schema.metadata[b"framebench"]))
        table = table.replace_schema_metadata({b"framebench": dumped(meta)})
    else:
        frame = table.to_pandas()
        column = data.draw(st.sampled_from(sorted(set(frame) - {"steps"})))
        values = st.integers(-(2**63), 2**63 - 1) if frame[column].dtype == int else st.floats()
        frame.loc[data.draw(st.integers(0, 3)), column] = data.draw(st.one_of(values, st.sampled_from([-1, 0, 11])))
        table = type(table).from_pandas(frame, preserve_index=False).replace_schema_metadata(table.schema.metadata)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def caches(prepared: Path) -> Target:
    """Files in the cache: what is damaged is made anew, and nothing else comes out."""
    write_class_folders(prepared, 2, "train")
    write_class_folders(prepared, 2, "test")
    (prepared / "own").mkdir()
    shutil.copytree(prepared / "cifar10" / "test" / "cat", prepared / "own" / "cat")

    def ask() -> list[Any]:
        clean = load_domain("cifar10", prepared)
        cells = load_corrupted("cifar10-c", prepared)
        cells.generate(["brightness"], [1])
        found = duplicates_of(clean, load_training("cifar10", prepared))
        return [clean.digest, load_domain(f"folder:{prepared / 'own'}", None).digest,
                digest(cells.cell("brightness", 1).images), digest(*vars(found).values())]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(prepared / "cache"))
        want = ask()
    files = sorted(path.relative_to(prepared) for path in (prepared / "cache").rglob("*") if path.is_file())

    def run(own: Path, data: Any) -> None:
        shutil.copytree(prepared / "cache", own / "cache")
        path = own / data.draw(st.sampled_from(files))
        path.write_bytes(damaged(data, path.read_bytes()))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BENCH_CACHE", str(own / "cache"))
            assert ask() == want
    return run


def training(prepared: Path) -> Target:
    """What a training resumes from: its state, with a checksum that fits or not, and its logs."""
    data_of, recipe = images_of(80), dataclasses.replace(RECIPE, epochs=1)
    prepare(data_of, prepared, recipe).run()
    model = build(RECIPE.arch, width=RECIPE.width, num_classes=4)
    LayerLog(prepared / "layers.csv", model, (16, 16))
    state = state_of(prepared)
    good, want = state.read_bytes(), prepare(data_of, prepared, recipe).model.state_dict()

    def run(own: Path, data: Any) -> None:
        shutil.copytree(prepared, own, dirs_exist_ok=True)
        if data.draw(st.booleans()):
            (own / "layers.csv").write_bytes(damaged(data, (own / "layers.csv").read_bytes()))
            LayerLog(own / "layers.csv", model, (16, 16), done=1).add(model, 2)
            return
        content, fits = damaged(data, good), data.draw(st.booleans())
        (own / state.name).unlink()
        if fits:
            seal(own, "state-00001", ".pt", content)
        else:
            (own / state.name).write_bytes(content)
        found = prepare(data_of, own, recipe).model.state_dict()
        assert fits or all(torch.equal(found[name], tensor) for name, tensor in want.items())
    return run


def logs(prepared: Path) -> Target:
    """Logs of trainings."""
    good = {"log.csv": b"epoch,lr,train_loss,penalty,train_accuracy,validation_accuracy,seconds\n"
                       b"1,0.1,2.0,4.0,0.3,0.4,1.0\n2,0.1,1.0,1.0,0.6,0.5,1.0\n",
            "layers.csv": b"epoch,layer,lower,upper\n0,a,0.1,4.0\n0.5,a,0.2,3.5\n2,b,0.4,2.0\n"}

    def run(own: Path, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(COLUMNS)))
        (own / name).write_bytes(damaged(data, good[name]))
        read_logs([own / name])
    return run
