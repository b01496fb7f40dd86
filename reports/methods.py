"""A methods paragraph for a paper and its references, from the facts stored with the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.measured import Measured
from framebench import __version__
from framebench.reports.document import Block, Code, Folded, Part, Text
from framebench.reports.format import distance, from_to, number, number_of

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

_BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
#: Prefix of an attack's name -> its title and keys of its publications; the first match counts.
_ATTACKS = {
    "simba": ("SimBA", ("guo2019simba",)), "square": ("the Square attack", ("andriushchenko2020square",)),
    "apgd": ("APGD", ("croce2020autoattack",)),
    "autoattack": ("AutoAttack", ("croce2020autoattack", "croce2020fab", "andriushchenko2020square")),
    "foolbox:": ("", ("rauber2020foolbox",)), "noise": ("random noise, the control", ())}
#: Prefix of a domain's name -> keys of its publications; the longest match counts.
_DATA: dict[str, tuple[str, ...]] = {
    "cinic10": ("darlow2018cinic",), "cifar10.1": ("recht2018cifar",), "cifar10.2": ("lu2020harder",),
    "stl10": ("coates2011stl",), "svhn": ("netzer2011svhn",),
    "imagenet-v2": ("russakovsky2015imagenet", "recht2019imagenet"),
    "imagenet-sketch": ("russakovsky2015imagenet", "wang2019sketch"),
    "imagenet-a": ("russakovsky2015imagenet", "hendrycks2021natural"),
    "imagenet-r": ("russakovsky2015imagenet", "hendrycks2021faces"), "imagenet": ("russakovsky2015imagenet",),
    "tiny-imagenet": ("russakovsky2015imagenet",), "cifar10": ("krizhevsky2009cifar",),
    "cifar100": ("krizhevsky2009cifar",), "samples": ("krizhevsky2009cifar",)}
_MODELS: dict[str, tuple[str, ...]] = {"robustbench:": ("croce2021robustbench",), "timm:": ("wightman2019timm",)}
_COST = {"one": "one query", "two": "two queries", "one-or-two": "one or two queries"}
#: Settings with a sentence of their own.
_TOLD = {"epsilon", "budget", "max_queries", "targeted"}
_MACHINE = ("device", "processor")


def methods_part(found: Findings) -> Part | None:
    """Return the methods paragraph and its references, folded; None without attacks and shift tests."""
    if not found.attacks and not found.shifts:
        return None
    cited: dict[str, None] = {}
    paragraphs: list[Block] = [Text(text) for text in (
        _images(found, cited), *_attacks(found, cited), _statistics(found, cited), _software(found, cited)) if text]
    return Part("For a paper", [
        Folded("Methods, in words", paragraphs), Folded("References, as BibTeX", [Code(bibliography(cited, found))])])


def bibliography(cited: Iterable[str], found: Findings) -> str:
    """Return the references as BibTeX, this software first."""
    entries = re.findall(r"^(@\w+\{(\w+),\n.*?^\})", _BIBLIOGRAPHY.read_text(encoding="utf-8"),
                         re.DOTALL | re.MULTILINE)
    by_key = {key: entry for entry, key in entries}
    versions = sorted(_values(list(_provenance(found)), ["framebench"])) or [__version__]
    framebench = ("@misc{framebench,\n  title = {framebench: a robustness benchmark for image classifiers},\n"
                  f"  note = {{Version {', '.join(versions)}}}\n}}")
    return "\n\n".join([framebench, *(by_key[key] for key in cited)])


def _images(found: Findings, cited: dict[str, None]) -> str:
    """Return the sentences on models and images."""
    titles: dict[str, set[int]] = {}
    sizes = [*(len(run.ids) for run in found.attacks), *(found.tables["shift"]["n"] if found.shifts else ())]
    for run, n in zip((*found.attacks, *found.shifts), sizes, strict=True):  # the table has the order of the cells
        titles.setdefault(run.facts.title, set()).add(int(n))
        _cite(cited, _first(_DATA, run.evaluation.domain))
        if run.evaluation.corruption:
            _cite(cited, ("hendrycks2019corruptions",))
        _cite(cited, _first(_MODELS, run.evaluation.model))
    data = "; ".join(f"{title} (n = {from_to(sizes)})" for title, sizes in titles.items())
    models = list(dict.fromkeys(run.model for run in (*found.attacks, *found.shifts)))
    return (f"We evaluated {number_of(len(models), 'model')} ({', '.join(models)}) on {data}. The images are the first "
            "n of one order per data set, which is seeded, class-balanced and nested, and the same for every model. "
            "Pixels lie in [0, 1]; each model's normalisation is inside the model.")


def _attacks(found: Findings, cited: dict[str, None]) -> list[str]:
    """Return the sentences on each attack: its variant, size, length, queries and random draws."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for run in found.attacks:
        groups.setdefault((run.attack, run.evaluation.family), []).append(run)
    paragraphs = []
    for (label, _), runs in groups.items():
        traits, evaluation = runs[0].traits, runs[0].evaluation
        name, keys = next((entry for start, entry in _ATTACKS.items() if evaluation.attack.startswith(start)), ("", ()))
        _cite(cited, keys)
        settings = ", ".join(f"{key} {_worded(value)}" for key, value in _flat(evaluation.settings)
                             if key not in _TOLD and value not in (None, "", False))
        sees = {"labels": "predicted labels", "scores": "scores", "gradients": "gradients"}[traits.needs]
        budgets = sorted({budget for run in runs for budget in run.facts.budgets})
        counted = ("an iteration is a forward pass with its gradient" if traits.needs == "gradients" else
                   f"an iteration takes {_COST[traits.cost]}")
        seeds = ", ".join(map(str, sorted({run.evaluation.seed for run in runs})))
        sentences = [
            f"The attack {label}" + (f" is {name}" if name else "") + (f" ({settings})" if settings else "")
            + f"; it sees the model's {sees}" + (" and goes towards a target class" if traits.targeted else "") + ".",
            _size(runs[0]),
            f"It ran for at most {number_of(max(run.length for run in runs), 'iteration')}"
            + (f", and results are given after {', '.join(f'{b:,}' for b in budgets)}" if budgets else "") + ".",
            f"Every forward pass of an image counts as one query, the clean image's included; {counted}."
            + (f" No image was given more than {evaluation.settings['max_queries']:,} queries."
               if evaluation.settings.get("max_queries") else ""),
            f"Random draws are keyed by seed ({seeds}) and image, and so are the same for every model."]
        paragraphs.append(" ".join(filter(None, sentences)))
    return paragraphs


def _size(run: Measured) -> str:
    """Return the sentence on an attack's step and the distance within which a success counts."""
    traits = run.traits
    where = "at any distance" if traits.bound is None or not traits.norm else \
        f"within a distance of {number(traits.bound)} ({traits.norm.capitalize()})"
    step = f"Its step is epsilon = {distance(traits.epsilon)}; a" \
        if run.evaluation.attack in ("simba", "noise") and traits.epsilon is not None else "A"
    return f"{step} success counts {where}."


def _statistics(found: Findings, cited: dict[str, None]) -> str:
    """Return the sentences on the intervals and tests of the tables."""
    sentences = ["Intervals are 95% intervals: Wilson's for rates of one set of images"]
    _cite(cited, ("wilson1927",))
    if any(run.evaluation.corruption for run in found.shifts):
        sentences[0] += ", and Wilson's for the effective number of outcomes for means over the cells of corrupted " \
                        "images"
    paired, shifted = (found.tables.get(name) for name in ("paired", "shift_paired"))
    tests = set(shifted["test"]) if shifted is not None and len(shifted) else set()
    if (paired is not None and len(paired)) or "McNemar" in tests:
        sentences.append("Two models are compared on the same images, by Newcombe's interval for paired proportions "
                         "and McNemar's exact test")
        _cite(cited, ("newcombe1998paired", "mcnemar1947"))
    if tests - {"McNemar"}:
        sentences.append("Means over cells are compared by Student's interval and a test that flips the signs of the "
                         "images' differences")
    if len(sentences) > 1:
        sentences.append("p-values are adjusted by Holm's method within each family of comparisons")
        _cite(cited, ("holm1979",))
    return ". ".join(sentences) + "."


def _software(found: Findings, cited: dict[str, None]) -> str:
    """Return the sentences on software versions and machines."""
    provenance = list(_provenance(found))
    names = ["framebench", "commit", "torch", "torchvision", "numpy"]
    attacks = {run.evaluation.attack for run in found.attacks}
    if any(name.startswith("foolbox:") for name in attacks) or any("foolbox" in title for title in _titles(found)):
        names.append("foolbox")
        _cite(cited, ("rauber2020foolbox",))
    names += [name for name in ("robustbench", "timm")
              if any(model.startswith(f"{name}:") for model in _model_names(found))]
    _cite(cited, ("paszke2019pytorch",))
    versions = ", ".join(f"{name} {' and '.join(values)}" for name in names if (values := _values(provenance, [name])))
    machines = _values(provenance, _MACHINE)
    return f"Software: {versions}." + (f" It ran on {'; '.join(machines)}." if machines else "")


def _provenance(found: Findings) -> Iterable[dict[str, Any]]:
    for run in (*found.attacks, *found.shifts):
        yield from run.facts.provenance


def _values(entries: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Return the distinct values of entries, each under the first of these names that it has."""
    values = (next((str(entry[name]) for name in names if entry.get(name)), "") for entry in entries)
    return [value for value in dict.fromkeys(values) if value]


def _titles(found: Findings) -> set[str]:
    return {run.facts.title for run in (*found.attacks, *found.shifts)}


def _model_names(found: Findings) -> set[str]:
    return {run.evaluation.model for run in (*found.attacks, *found.shifts)}


def _first(table: dict[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    """Return the entry of the longest key that a name starts with; () if there is none."""
    return next((table[start] for start in sorted(table, key=len, reverse=True) if name.startswith(start)), ())


def _cite(cited: dict[str, None], keys: Iterable[str]) -> None:
    cited.update(dict.fromkeys(keys))


def _flat(settings: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, value


def _worded(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value).replace("_", " ")
