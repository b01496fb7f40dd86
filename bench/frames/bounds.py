"""Frame bounds of a model's layers: measured once a model, kept as JSON, made into a table and a page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from bench.running.provenance import provenance
from bench.training.logs import TrainingLogs
from framebench.domains.samples import load_samples
from framebench.errors import InputError
from framebench.files import atomic
from framebench.models import spectrum
from framebench.models.dual_frame import reconstruct
from framebench.models.operators import Extremes
from framebench.models.registry import LoadedModel
from framebench.reports.frames import frames_section, ratio
from framebench.reports.page import Section
from framebench.user_code import reason

#: The columns of ``frames.csv``; the first eight are a contract.
COLUMNS = ["model", "layer", "side", "lower", "upper", "condition", "gershgorin_lower", "gershgorin_upper",
           "lower_converged", "upper_converged", "kind", "c_out", "c_in", "kernel", "stride", "groups", "height",
           "width", "padding", "batch_norm", "image", "images", "reconstruction_error", "recovered"]
#: At which shares of all eigenvalues a spectrum is kept, for plots.
SHARES = np.linspace(0, 1, 65)
#: Raised whenever the same request on the same model would give other numbers.
_VERSION = 1
_NUMBER = int | float
#: The fields of a request and of a layer, as they are kept.
_REQUEST = {"model": str, "digest": str, "size": int, "padding": str, "fold": bool, "images": int, "version": int}
_LAYER: dict[str, Any] = {
    **dict.fromkeys(["layer", "side", "kind", "kernel", "stride"], str),
    **dict.fromkeys(["c_out", "c_in", "groups", "height", "width"], int),
    **dict.fromkeys(["lower", "upper"], _NUMBER),
    **dict.fromkeys(["gershgorin_lower", "gershgorin_upper", "reconstruction_error", "recovered"], _NUMBER | None),
    "spectrum": list | None}
#: Fields of a layer that older files lack.
_CONVERGED = ["lower_converged", "upper_converged"]


@dataclass(frozen=True)
class Request:
    """What is asked of a model.

    Attributes:
        size: Height and width of its input images.
        padding: "circular" or "own", see `framebench.models.spectrum.frame_bounds`.
        fold: Whether batch norms are folded into the layers that they directly follow.
        images: Number of real images whose activations are reconstructed; 0 for none.
    """

    size: int
    padding: spectrum.Padding
    fold: bool
    images: int


@dataclass(frozen=True)
class Measured:
    """The bounds of a model's layers as they are kept.

    Attributes:
        path: Their file.
        request: What was asked: the fields of `Request`, the model's name and digest, and a version.
        provenance: Where they come from, `bench.running.provenance.provenance`.
        layers: A row a layer: the numbers of ``frames.csv``, and the spectrum at `SHARES` where that is exact.
    """

    path: Path
    request: dict[str, Any]
    provenance: dict[str, Any]
    layers: list[dict[str, Any]]


def measure(model: LoadedModel, request: Request, out: Path, device: torch.device) -> None:
    """Measure all layers of a model and keep the result under ``out/frames/``, unless it is there already.

    Raises:
        InputError: if the model has no convolution or linear layer, does not take such images, has weights that are
            not finite, or can't be traced where batch norms are to be folded.
    """
    asked = {"model": model.name, "digest": model.digest, **dataclasses.asdict(request), "version": _VERSION}
    path = out / "frames" / f"{_key(asked)}.json"
    if path.exists():
        return
    module = (_folded(model) if request.fold else model.module).to(device)
    inputs = _inputs(module, model.name, request, device)
    rows = []
    for name, (layer, z) in tqdm(inputs.items(), desc=model.name, unit="layer", dynamic_ncols=True):
        try:
            rows.append({"layer": name, **_row(layer, z, request)})
        except InputError as error:
            raise InputError(f"{model.name}, layer {name}: {error}") from None
    with atomic(path) as temporary:
        temporary.write_text(json.dumps({"request": asked, "provenance": provenance(), "layers": rows}, indent=1))


def kept_frames(out: Path) -> list[Path]:
    """Return the files of all models that were measured into an output folder."""
    return sorted((out / "frames").glob("*.json"))


def read_frames(out: Path) -> list[Measured]:
    """Read all that was measured into an output folder.

    Raises:
        InputError: if one of the files is damaged.
    """
    return [_read(path) for path in kept_frames(out)]


def take_frames(out: Path, others: Iterable[Measured]) -> None:
    """Add what was measured into another output folder and is missing in `out`."""
    for theirs in others:
        mine = out / "frames" / theirs.path.name
        if not mine.exists():
            with atomic(mine) as temporary:
                temporary.write_bytes(theirs.path.read_bytes())


def stored_frames(kept: Sequence[Measured], names: dict[tuple[str, str], str], logs: TrainingLogs,
                  ) -> tuple[pd.DataFrame, Section]:
    """Return the table and the part of the report of what is kept.

    Args:
        kept: What `read_frames` returned, not nothing.
        names: Name and digest of a model -> what it is called, which must be unique
            (`bench.analysis.labels.unique_names`).
        logs: Of trainings, drawn as well.
    """
    kept = sorted(kept, key=lambda entry: (entry.request["model"] != "baseline", *map(str, entry.request.values())))
    frames = {label: _frame(entry, names[_model(entry.request)])
              for label, entry in zip(_labels([entry.request for entry in kept], names), kept, strict=True)}
    section = frames_section(
        frames, SHARES, logs.bounds, logs.epochs, [f"{path.parent.name}/{path.name}" for path in logs.skipped],
        [{"heading": label, "request": entry.request, **entry.provenance}
         for label, entry in zip(frames, kept, strict=True)])
    return pd.concat(frames.values(), ignore_index=True)[COLUMNS], section


def _key(request: dict[str, Any]) -> str:
    """Return what the file of a request is called."""
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]


def _model(request: dict[str, Any]) -> tuple[str, str]:
    return request["model"], request["digest"]


def _read(path: Path) -> Measured:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        measured = Measured(path, kept["request"], kept["provenance"], kept["layers"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        measured = None
    # Under another name it would be a second file of the same, such as a copy.
    if measured is None or not (_has(measured.request, _REQUEST) and _key(measured.request) == path.stem
                                and isinstance(measured.provenance, dict) and isinstance(measured.layers, list)
                                and measured.layers and all(map(_whole, measured.layers))):
        raise InputError(f"{path} is not a whole file of frame bounds; remove it, and bench frames measures them anew")
    return measured


def _has(entry: Any, fields: dict[str, Any]) -> bool:
    """Tell whether what a file holds is an object with these fields, each of its type."""
    return isinstance(entry, dict) and all(name in entry and isinstance(entry[name], kind)
                                           for name, kind in fields.items())


def _whole(layer: Any) -> bool:
    """Tell whether what a file holds is all that is kept of a layer."""
    if not _has(layer, _LAYER) or not all(isinstance(layer.get(name, False), bool) for name in _CONVERGED):
        return False
    values = layer["spectrum"]
    return values is None or (len(values) == len(SHARES) and all(isinstance(value, _NUMBER) for value in values))


def _row(layer: nn.Conv2d | nn.Linear, z: torch.Tensor, request: Request) -> dict[str, Any]:
    """Return a layer's part of the table, and its spectrum where that is exact."""
    conv = isinstance(layer, nn.Conv2d)
    size = spectrum.size_of(z)
    exact = request.padding == "circular" or spectrum.on_torus(layer, size)
    if request.padding == "circular" and isinstance(layer, nn.Conv2d):  # a stride must divide the size of a torus
        size = (size[0] + -size[0] % layer.stride[0], size[1] + -size[1] % layer.stride[1])
    values = spectrum.spectrum(layer, size) if exact else None
    bounds = spectrum.lanczos_bounds(layer, size) if values is None else Extremes(
        lower=float(values.eigenvalues[0]), upper=float(values.eigenvalues[-1]), lower_converged=True,
        upper_converged=True, steps=0)
    certified_lower, certified_upper = spectrum.gershgorin_bounds(layer)
    certain = exact or (isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros")
    error, recovered = _reconstruction(layer, z) if request.images else (None, None)
    return {"side": spectrum.side_of(layer), "lower": bounds.lower, "upper": bounds.upper,
            "lower_converged": bounds.lower_converged, "upper_converged": bounds.upper_converged,
            # A border of zeros shortens the rows next to it: only the upper bound holds there.
            "gershgorin_lower": certified_lower if exact else None,
            "gershgorin_upper": certified_upper if certain else None,
            "kind": "conv" if conv else "linear", "c_out": len(layer.weight),
            "c_in": layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features,
            "kernel": "x".join(map(str, layer.kernel_size)) if isinstance(layer, nn.Conv2d) else "",
            "stride": "x".join(map(str, layer.stride)) if isinstance(layer, nn.Conv2d) else "",
            "groups": layer.groups if isinstance(layer, nn.Conv2d) else 1, "height": size[0], "width": size[1],
            "reconstruction_error": error, "recovered": recovered,
            "spectrum": None if values is None else values.quantiles(SHARES).tolist()}


def _reconstruction(layer: nn.Conv2d | nn.Linear, z: torch.Tensor) -> tuple[float | None, float | None]:
    """Return |z' - z| / |z| and |z'| / |z|, z' being found from the layer's output; over what the layer reads of z."""
    size = spectrum.size_of(z)
    with torch.no_grad():
        found = reconstruct(layer, layer(z), size)
    read = spectrum.pixels_read(layer, size).reshape(1, *z.shape[1:])
    norm = float((z * read).norm())
    return (float(((found - z) * read).norm()) / norm, float(found.norm()) / norm) if norm else (None, None)


def _frame(measured: Measured, model: str) -> pd.DataFrame:
    """Return a model's table: `COLUMNS` and spectrum."""
    request = measured.request
    # What was kept before estimates said whether they have converged is not taken for converged.
    frame = pd.DataFrame([{**dict.fromkeys(_CONVERGED, layer["spectrum"] is not None), **layer}
                          for layer in measured.layers])
    numbers = [name for name, kind in _LAYER.items() if kind == _NUMBER | None]
    return frame.astype(dict.fromkeys(numbers, float)).assign(
        model=model, padding=request["padding"], image=request["size"], images=request["images"],
        batch_norm="folded" if request["fold"] else "left out",
        condition=ratio(frame).where(frame[_CONVERGED].all(axis=1)))


def _labels(requests: list[dict[str, Any]], names: dict[tuple[str, str], str]) -> list[str]:
    """Return a label of each request: the model's name, with whatever else tells it from others of that model."""
    words: dict[str, Callable[[dict[str, Any]], str]] = {
        "size": lambda r: f"{r['size']} pixels", "padding": lambda r: f"{r['padding']} padding",
        "fold": lambda r: "batch norm folded" if r["fold"] else "batch norm left out",
        "images": lambda r: f"{r['images']} images"}
    labels = []
    for request in requests:
        others = [other for other in requests if _model(other) == _model(request)]
        labels.append(", ".join([names[_model(request)], *(say(request) for key, say in words.items()
                                                           if any(other[key] != request[key] for other in others))]))
    return labels


def _inputs(module: nn.Module, name: str, request: Request, device: torch.device,
            ) -> dict[str, tuple[nn.Conv2d | nn.Linear, torch.Tensor]]:
    """Return what each layer sees of real images (of black ones, where no activations are asked for)."""
    if request.images:
        samples = load_samples()
        x, _ = samples.load(samples.first(request.images))
        if request.size != x.shape[2]:
            x = F.interpolate(x, (request.size, request.size), mode="bilinear", antialias=True)
    else:
        x = torch.zeros(1, 3, request.size, request.size)
    try:
        inputs = spectrum.layer_inputs(module, x.to(device))
    except (Exception, SystemExit) as error:  # a stranger's model can raise anything
        raise InputError(f"the model {name} fails on images of {request.size}x{request.size} ({reason(error)}); give "
                         "the size that it takes with --size, or correct it") from None
    if not inputs:
        raise InputError(f"the model {name} has no nn.Conv2d or nn.Linear that it calls; it has no frame bounds")
    return inputs


def _folded(model: LoadedModel) -> nn.Module:
    """Return the model with batch norms folded into the convolutions (and linear layers) that they directly follow."""
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(model.module)
    except (Exception, SystemExit) as error:  # tracing runs the user's code
        raise InputError(f"the model {model.name} can't be traced to fold its batch norms ({type(error).__name__}); "
                         "leave out --fold") from None
