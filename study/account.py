"""Writes the account, ``docs/study.md``, its figures and its appendix, from the rows; nothing else is in them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from string import Template

from framebench.files import atomic
from study import answer, claims, tables
from study.analysis import EVENTS, Study, analyse
from study.endpoints import BINS, PRIMARY, QUERIES
from study.figures import FOREST, figures
from study.plan import STUDY
from study.rows import FOLDED, SMALLEST

DOCS = STUDY.parent / "docs"
#: Figure -> what stands for it where it can't be seen.
FIGURES = {"forest": "Every arm minus plain training", "accuracy": "Robustness against clean accuracy",
           "frameness": "Robustness against frameness"}


def write_account(docs: Path = DOCS) -> None:
    """Write the account.

    Args:
        docs: The folder; ``study.md`` and ``study-appendix.md`` in it are replaced, and the figures in ``study/``.

    Raises:
        InputError: for trainings or rows that are damaged.
    """
    found = analyse()
    drawn = figures(found)
    folder = docs / "study"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        if path.name not in drawn:
            path.unlink()
    for name, text in drawn.items():
        _write(folder / name, text)
    for name, text in pages(found).items():
        _write(docs / name, text)


def pages(found: Study) -> dict[str, str]:
    """Return the name of each page and its text."""
    filled = {}
    for name, words in (("study.md", _page(found)), ("study-appendix.md", _appendix(found))):
        template = Template((STUDY / f"{name}.in").read_text(encoding="utf-8"))
        filled[name] = wrapped(template.substitute(words))
    return filled


def _page(found: Study) -> dict[str, str]:
    primary = found.results.get(PRIMARY.key)
    reading = claims.claims()["reading"]
    drawn = {
        "forest": any(found.results[key].methods for key in FOREST if key in found.results),
        "accuracy": primary is not None,
        "frameness": primary is not None and len(primary.trainings) > 2,
    }
    return {
        "answer": answer.answer(found),
        "extent": answer.extent(found),
        "recipe": answer.recipe(),
        "queries": f"{QUERIES:,}",
        "images": f"{primary.data.scores.shape[1]:,}" if primary else "no",
        **{name: f"![{FIGURES[name]}](study/{name}.svg)" if there else "*The figure comes with more trainings.*"
           for name, there in drawn.items()},
        "accuracy_slope": answer.accuracy_slope(found),
        "quantiles": FOLDED.partition(": ")[2].partition(",")[0],
        "frameness_slope": answer.frameness_slope(found),
        "table": tables.main_table(found),
        "claimed_accuracy": tables.claimed_accuracy(),
        "claimed_success": tables.claimed_success(),
        "reading": " against ".join(f"{one['broken']} of {one['of']}" for one in reading.values()),
        "fewest": str(min(one["of"] for one in reading.values())),
        "most": str(max(one["of"] for one in reading.values())),
        "chance": f"{claims.chance_of_reading():.2f}",
        "other_dataset": tables.cifar100(found),
        "anchors": tables.anchors(found),
        "spanning": "; ".join(found.titles[arm] for arm in found.spanning),
        "more": answer.more(found),
    }


def _appendix(found: Study) -> dict[str, str]:
    results = list(found.results.values())
    differences = [f"### {result.endpoint.title}\n{tables.all_differences(found, result)}"
                   for result in results if result.methods]
    return {
        "trainings": tables.all_trainings(found),
        "smallest": f"{SMALLEST:g}",
        "coefficients": answer.coefficients(found),
        "bins": str(BINS),
        "means": tables.all_means(found, results),
        "events": str(EVENTS),
        "differences": "\n\n".join(differences) or "None yet.",
        "against_claims": tables.against_claims(found),
        "precision": tables.precision(results),
        "frameness_slopes": tables.frameness_slopes(results),
        "accuracy_slopes": tables.accuracy_slopes(results),
    }


def wrapped(text: str, width: int = 120) -> str:
    """Return Markdown with its paragraphs and list items filled to a width, and everything else as it is."""
    lines: list[str] = []
    paragraph: list[str] = []
    code = False
    for line in [*text.splitlines(), ""]:
        fence = line.startswith("```")
        verbatim = code or fence or not line or line.startswith(("#", "|", "!"))
        if paragraph and (verbatim or line.startswith("- ")):
            indent = "  " if paragraph[0].startswith("- ") else ""
            lines += textwrap.wrap(" ".join(paragraph), width, subsequent_indent=indent, break_long_words=False,
                                   break_on_hyphens=False)
            paragraph = []
        if verbatim:
            lines.append(line)
        else:
            paragraph.append(line.strip())
        code ^= fence
    return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
