"""Measure a model on your own images: a folder of class folders, clean and corrupted.

    python examples/shift_on_a_folder.py [FOLDER]

FOLDER contains <class>/*.png (or .jpg) with CIFAR-10's class names; some may be missing. Images are resized to 32x32.
Without FOLDER, the 20 images that foolbox ships are first written into such a folder. From the shell:

    bench shift --models baseline --domains folder:FOLDER folder-c:FOLDER --corruptions fog contrast
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

import framebench


def write_samples(folder: Path) -> Path:
    """Write the samples as ``folder/<class>/<id>.png``."""
    samples = framebench.load_domain("samples")
    for example, (pixels, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        path = folder / samples.classes[label] / f"{example:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if sys.argv[1:] else write_samples(Path(tempfile.mkdtemp()))
    results = framebench.shift("baseline", domains=[f"folder:{folder}", f"folder-c:{folder}"],
                               corruptions=["fog", "contrast"], severities=[1, 5])
    columns = ["domain", "corruption", "severity", "n", "accuracy", "ci_low", "ci_high"]
    print(results.shift[columns].to_string(index=False))
    print(f"report: {results.page}")
