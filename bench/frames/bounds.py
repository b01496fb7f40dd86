"""Frame bounds of the layers of models, measured once per model and request."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bench.analysis.reporting import Results, write_report
from bench.options.frames import FramesOptions
from bench.rows.frames import has_frames, keep_frames, read_frames
from bench.rows.store import Store
from bench.running.checks import load_models
from bench.running.computing import device as device_of
from bench.running.computing import threads
from bench.running.provenance import provenance
from bench.training.logs import find_logs, read_logs
from framebench.domains.samples import load_samples
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models import spectrum
from framebench.models.dual_frame import reconstruct
from framebench.models.operators import Extremes
from framebench.models.registry import LoadedModel
from framebench.models.regularizers.folding import Norm, channel_scale, norms_after
from framebench.progress import progress
from framebench.user_code import foreign, reason

#: Quantiles of a spectrum that are kept for figures.
SHARES = np.linspace(0, 1, 65)
#: Raised when the same request on the same model would give other numbers.
_VERSION = 2


def run(options: FramesOptions, models: Sequence[LoadedModel] | None = None) -> Results:
    """Measure the layers of models, and write ``frames.csv`` and the report under ``options.out``.

    Args:
        options: The options.
        models: The models, if the caller has loaded them already.

    Raises:
        InputError: for models, logs, a device or stored results that can't be used, which is checked first; and see
            `measure`.
    """
    read_logs(find_logs(options.log))
    device = device_of(options.device)
    if device.type == "mps":
        raise InputError("frame bounds need float64, which mps lacks; use --device cpu")
    torch.set_num_threads(threads(options.threads))
    models = load_models(options.models) if models is None else models
    out = writable_folder(options.out)
    with Store(out).lock(repair=options.repair):
        read_frames(out)
        for model in models:
            measure(model, options, out, device)
        return write_report(out, options.report_settings())


def measure(model: LoadedModel, options: FramesOptions, out: Path, device: torch.device) -> None:
    """Measure all layers of a model and keep the result under ``out/frames/``, unless it exists already.

    Raises:
        InputError: if the model has no convolution or linear layer, does not take such images, has weights that are
            not finite, or can't be traced to fold batch norms.
    """
    request = {"model": model.name, "digest": model.digest, "size": options.size, "padding": options.padding,
               "fold": options.fold, "images": options.images, "version": _VERSION}
    if has_frames(out, request):
        return
    module = model.module.to(device)
    norms = norms_after(module) if options.fold else {}
    inputs = _inputs(module, model.name, options, device)
    layers = []
    with progress(len(inputs), desc=model.name, unit="layer") as bar:
        for name, (layer, z) in inputs.items():
            try:
                layers.append({"layer": name, **_row(_scaled(layer, norms.get(name)), z, options)})
            except InputError as error:
                raise InputError(f"{model.name}, layer {name}: {error}") from None
            bar.update()
    keep_frames(out, request, provenance(), layers)


def _row(layer: nn.Conv2d | nn.Linear, z: torch.Tensor, options: FramesOptions) -> dict[str, Any]:
    """Return the table columns of a layer, and its spectrum if that is exact."""
    conv = layer if isinstance(layer, nn.Conv2d) else None
    size = spectrum.size_of(z)
    exact = options.padding == "circular" or spectrum.on_torus(layer, size)
    if options.padding == "circular" and conv:  # the stride must divide the size of a torus
        size = (size[0] + -size[0] % conv.stride[0], size[1] + -size[1] % conv.stride[1])
    values = spectrum.spectrum(layer, size) if exact else None
    bounds = spectrum.lanczos_bounds(layer, size) if values is None else Extremes(
        lower=float(values.eigenvalues[0]), upper=float(values.eigenvalues[-1]), lower_converged=True,
        upper_converged=True, steps=0)
    certified_lower, certified_upper = spectrum.gershgorin_bounds(layer)
    certain = exact or (conv is not None and conv.padding_mode == "zeros")
    error, recovered = _reconstruction(layer, z) if options.images else (None, None)
    return {"side": spectrum.side_of(layer), "lower": bounds.lower, "upper": bounds.upper,
            "lower_converged": bounds.lower_converged, "upper_converged": bounds.upper_converged,
            # Zero padding shortens the rows at the border: only the upper bound holds there.
            "gershgorin_lower": certified_lower if exact else None,
            "gershgorin_upper": certified_upper if certain else None,
            "kind": "conv" if conv else "linear", "c_out": len(layer.weight),
            "c_in": layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features,
            "kernel": "x".join(map(str, conv.kernel_size)) if conv else "",
            "stride": "x".join(map(str, conv.stride)) if conv else "", "groups": conv.groups if conv else 1,
            "height": size[0], "width": size[1],
            "reconstruction_error": error, "recovered": recovered,
            "spectrum": None if values is None else values.quantiles(SHARES).tolist()}


def _reconstruction(layer: nn.Conv2d | nn.Linear, z: torch.Tensor) -> tuple[float | None, float | None]:
    """Return |z' - z| / |z| and |z'| / |z| over the pixels that the layer reads; z' is z found from the output."""
    size = spectrum.size_of(z)
    with torch.no_grad():
        reconstructed = reconstruct(layer, layer(z), size)
    read = spectrum.pixels_read(layer, size).reshape(1, *z.shape[1:])
    norm = float((z * read).norm())
    if not norm:
        return None, None
    return float(((reconstructed - z) * read).norm()) / norm, float(reconstructed.norm()) / norm


def _inputs(module: nn.Module, name: str, options: FramesOptions, device: torch.device,
            ) -> dict[str, tuple[nn.Conv2d | nn.Linear, torch.Tensor]]:
    """Return the inputs of each layer for real images, or for a black one if no activations are needed."""
    samples = load_samples()
    with foreign(lambda error: InputError(
            f"the model {name} fails on images of {options.size}x{options.size} ({reason(error)}); give the size that "
            "it takes with --size, or correct it")):  # or memory may be too small
        if options.images:
            x, _ = samples.load(samples.first(options.images))
            if options.size != x.shape[2]:
                x = F.interpolate(x, (options.size, options.size), mode="bilinear", antialias=True)
        else:
            x = torch.zeros(1, 3, options.size, options.size)
        inputs = spectrum.layer_inputs(module, x.to(device))
    if not inputs:
        raise InputError(f"the model {name} has no nn.Conv2d or nn.Linear that it calls; it has no frame bounds")
    return inputs


def _scaled(layer: nn.Conv2d | nn.Linear, norm: Norm | None) -> nn.Conv2d | nn.Linear:
    """Return a layer with its kernel multiplied by the scale of the batch norm after it, if there is one."""
    if norm is None:
        return layer
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        scale = channel_scale(norm).to(folded.weight)
        folded.weight.mul_(scale.reshape(-1, *[1] * (folded.weight.ndim - 1)))
    return folded
