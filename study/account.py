"""Writes the account (``docs/study.md``), its figures and its appendix from the rows alone."""

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
#: Figure -> its alternative text.
FIGURES = {"forest": "Every arm minus plain training", "accuracy": "Robustness versus clean accuracy",
           "frameness": "Robustness versus frameness"}


def write_account(docs: Path = DOCS) -> None:
    """Write the account.

    Args:
        docs: The folder in which ``study.md``, ``study-appendix.md`` and the figures in ``study/`` are replaced.

    Raises:
        InputError: for damaged trainings or rows.
    """
    study = analyse()
    drawn = figures(study)
    folder = docs / "study"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        if path.name not in drawn:
            path.unlink()
    for name, text in drawn.items():
        _write(folder / name, text)
    for name, text in pages(study).items():
        _write(docs / name, text)


def pages(study: Study) -> dict[str, str]:
    """Return file name -> text of each page."""
    filled = {}
    for name, words in (("study.md", _page(study)), ("study-appendix.md", _appendix(study))):
        template = Template((STUDY / f"{name}.in").read_text(encoding="utf-8"))
        filled[name] = wrapped(template.substitute(words))
    return filled


def _page(study: Study) -> dict[str, str]:
    primary = study.results.get(PRIMARY.key)
    reading = claims.claims()["reading"]
    drawn = {
        "forest": any(study.results[key].methods for key in FOREST if key in study.results),
        "accuracy": primary is not None,
        "frameness": primary is not None and len(primary.trainings) > 2,
    }
    return {
        "answer": answer.answer(study),
        "extent": answer.extent(study),
        "recipe": answer.recipe(),
        "queries": f"{QUERIES:,}",
        "images": f"{primary.data.scores.shape[1]:,}" if primary else "no",
        **{name: f"![{FIGURES[name]}](study/{name}.svg)" if exists else "*The figure comes with more trainings.*"
           for name, exists in drawn.items()},
        "accuracy_slope": answer.accuracy_slope(study),
        "quantiles": FOLDED.partition(": ")[2].partition(",")[0],
        "frameness_slope": answer.frameness_slope(study),
        "table": tables.main_table(study),
        "claimed_accuracy": tables.claimed_accuracy(),
        "claimed_success": tables.claimed_success(),
        "reading": " against ".join(f"{count['broken']} of {count['of']}" for count in reading.values()),
        "fewest": str(min(count["of"] for count in reading.values())),
        "most": str(max(count["of"] for count in reading.values())),
        "chance": f"{claims.chance_of_reading():.2f}",
        "other_dataset": tables.cifar100(study),
        "anchors": tables.anchors(study),
        "spanning": "; ".join(study.titles[arm] for arm in study.spanning),
        "more": answer.more(study),
    }


def _appendix(study: Study) -> dict[str, str]:
    results = list(study.results.values())
    differences = [f"### {result.endpoint.title}\n{tables.all_differences(study, result)}"
                   for result in results if result.methods]
    return {
        "trainings": tables.all_trainings(study),
        "smallest": f"{SMALLEST:g}",
        "coefficients": answer.coefficients(study),
        "bins": str(BINS),
        "means": tables.all_means(study, results),
        "events": str(EVENTS),
        "differences": "\n\n".join(differences) or "None yet.",
        "against_claims": tables.against_claims(study),
        "precision": tables.precision(results),
        "frameness_slopes": tables.frameness_slopes(results),
        "accuracy_slopes": tables.accuracy_slopes(results),
    }


def wrapped(text: str, width: int = 120) -> str:
    """Return Markdown with its paragraphs and list items wrapped at a width, and everything else unchanged."""
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
