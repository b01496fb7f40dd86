"""List the available models, domains and attacks, all models of one zoo, or the hardware."""

from __future__ import annotations

from dataclasses import dataclass

from bench.options.common import WithData, option
from bench.options.kinds import TEXT, TRUTH
from framebench.errors import InputError, printable

#: Sources of models with too many names for the list; importing them takes seconds.
ZOOS = ("robustbench", "timm", "torchvision")


@dataclass(frozen=True, init=False)
class ListOptions(WithData):
    """Options of `bench list`."""

    command = "list"

    zoo: str | None = option("ZOO", None, TEXT, "list all model names of this zoo, one per line", choices=ZOOS,
                             positional=True)
    machine: bool = option("--machine", False, TRUTH, "show the processor, the GPUs and the stored timings")

    def _check(self) -> None:
        if self.zoo and self.machine:
            raise InputError(f"list takes {self.zoo} or --machine; leave one of them out")


OPTIONS = ListOptions


def run(options: ListOptions) -> None:
    """Print the list."""
    if options.zoo:
        _print_zoo(options.zoo)
        return
    if options.machine:
        _print_machine()
        return

    from bench.options.protocol import NAMES
    from framebench.attacks.registry import ATTACKS
    from framebench.domains import TRAINING, default_domain, describe
    from framebench.errors import MissingDataError
    from framebench.models.architectures import ARCHITECTURES
    from framebench.models.registry import SOURCES, shipped
    from framebench.models.regularizers import REGULARIZERS

    print("models (shipped, and taken by default; also a path to NAME.safetensors, or RUN@EPOCH):")
    for name, card in shipped().items():
        measured = "; ".join(f"{entry['accuracy']:.2%} of {entry['n']} on {entry['data']}" for entry in card.accuracy)
        print(f"  {name}: {card.arch} of width {card.width}, {measured}")
    print(f"models from other sources (all names: bench list {' | '.join(ZOOS)}):")
    for name, source in SOURCES.items():
        print(f"  {name}:{source.form}: {source.summary}")
    try:
        usual = default_domain(options.data_root)
    except MissingDataError as error:
        usual = f"none, {error}"
    print(f"domains (default here: {usual}):")
    for name, description in describe().items():
        print(f"  {name}: {description}")
    print("attacks:")
    for name, entry in ATTACKS.items():
        print(f"  {name}: {entry.summary}")
    print(f"protocols: {', '.join(NAMES)}, or your own FILE.toml")
    print(f"to train: architectures {', '.join(ARCHITECTURES)}; regularizers {', '.join(REGULARIZERS)}; data sets "
          f"{', '.join(TRAINING)}, folder:PATH")


def _print_zoo(zoo: str) -> None:
    from framebench.models.registry import SOURCES

    names = SOURCES[zoo].names
    assert names is not None, f"{zoo} lists no names"
    print("\n".join(f"{zoo}:{name}" for name in names()))


def _print_machine() -> None:
    import torch

    from bench.running.computing import threads
    from bench.running.provenance import processor
    from bench.running.timing import folder, kept
    from framebench.models.precision import units
    from framebench.models.predictor import CHUNK

    print(f"processor: {processor()}, of which this process may use {threads(None)} cores")
    print(f"bfloat16 units: {', '.join(units()) or 'none that torch knows of'}")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"GPU: {', '.join(gpus) or 'none'}")
    print(f"torch: {torch.__version__}")
    print(f"stored timings (--batch-size ignores them; to discard them, remove {folder()}):")
    for timing in kept():
        shape = "x".join(map(str, timing.shape))
        gain = f", {timing.gain:.2f} times the images/s of {CHUNK}" if timing.chunk != CHUNK else ""
        title = f"{timing.model} ({timing.form}) on {shape}, threads: {timing.threads}"
        print(printable(f"  {title}: {timing.chunk} images at once{gain} ({timing.processor}, torch {timing.torch})"))
