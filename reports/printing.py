"""PDF of a page, printed by an installed browser based on Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from framebench.errors import InputError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge",
          "microsoft-edge-stable", "msedge")
#: Usual paths of browsers that are not on the PATH.
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge", "/snap/bin/chromium",
    *(f"{root}\\{program}" for root in ("C:\\Program Files", "C:\\Program Files (x86)")
      for program in ("Google\\Chrome\\Application\\chrome.exe", "Microsoft\\Edge\\Application\\msedge.exe")))
#: Time limit of a browser in seconds; a page of 20 MB takes a few.
_PATIENCE = 180


def find_browser() -> str:
    """Return the path of a browser that can print.

    Raises:
        InputError: if there is none.
    """
    for found in (*map(shutil.which, _NAMES), *(place for place in _PLACES if os.access(place, os.X_OK))):
        if found:
            return found
    raise InputError("a PDF needs Chromium, Chrome or Edge, and none is found on PATH or in the usual places; install "
                     "one, or open the page report/index.html in any browser and print it to a file")


def print_page(browser: str, page: Path, target: Path) -> None:
    """Print a page.

    Args:
        browser: Path of the browser, see `find_browser`.
        page: An HTML file; network access is blocked.
        target: Path of the PDF.

    Raises:
        InputError: if the browser fails.
    """
    with tempfile.TemporaryDirectory(prefix="framebench-", ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-extensions", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
                   f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={target.resolve()}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium refuses to run as root with one, as in a container
        try:
            done = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True, errors="replace",
                                  timeout=_PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{browser} could not print {page} ({error}); open it in a browser and print it") from None
    if done.returncode or not target.stat().st_size:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise InputError(f"{browser} could not print {page} ({said}); open the page in a browser and print it")
