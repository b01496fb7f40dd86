"""Provenance of a result: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from framebench import __version__

#: Packages that results depend on; the version is None if one is not installed.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "foolbox", "eagerpy", "pyautoattack", "robustbench",
            "timm", "pandas")


def provenance(device: torch.device | None = None) -> dict[str, Any]:
    """Return versions, the commit of the source (None outside a checkout), the processor and the device.

    Args:
        device: The device that computed; None for the CPU.
    """
    facts = {"framebench": __version__, "commit": _commit(), "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES}, "machine": platform.machine(), "processor": processor()}
    if device is not None and device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed, or a copy inside somebody else's repository
        return None
    try:
        head = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True,
                              text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() or None


def processor() -> str:
    """Return the processor's name; it may be empty."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
