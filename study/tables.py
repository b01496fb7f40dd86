"""Tables of the account, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from study import claims
from study.analysis import CONTROL, Result, Study
from study.endpoints import PRIMARY
from study.rows import FOLDED, MEASURES, Trained
from study.statistics import Against, CrossedBootstrap, Estimate


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a sentence if there are no rows."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    if len(lines) == 2:
        return "Nothing yet."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, result: Result) -> str:
    """Return an endpoint's number as it is printed, in percent or as an L2 norm; empty for None."""
    return "" if value is None else f"{result.endpoint.scale * value:.{result.endpoint.digits}f}"


def signed(value: float, result: Result) -> str:
    """Return a difference with its sign."""
    shown = f"{result.endpoint.scale * value:+.{result.endpoint.digits}f}"
    return shown[1:] if not shown.strip("+-0.") else shown


def interval(ends: tuple[float, float], result: Result) -> str:
    """Return an interval."""
    return f"[{signed(ends[0], result)}, {signed(ends[1], result)}]"


def difference(estimate: Estimate | None, result: Result) -> str:
    """Return a difference and its interval; empty for None."""
    return f"{signed(estimate.value, result)} {interval(estimate.interval(), result)}" if estimate else ""


def simultaneous(result: Result, arm: str) -> str:
    """Return an arm's difference to plain training and its simultaneous interval; empty if it is not compared."""
    against = result.simultaneous.get(arm)
    if against is None:
        return ""
    return f"{signed(against.estimate.value, result)} {interval((against.low, against.high), result)}"


def p_value(against: Against) -> str:
    """Return a p-value of Dunnett's test; an upper bound if no draw was as large."""
    return f"< {against.p:g}" if against.bound else f"{against.p:.2g}"


def main_table(study: Study) -> str:
    """Return the table of the page: one row per arm."""
    shown = [(key, head) for key, head in (("clean", "clean"), (PRIMARY.key, "area"), ("cifar10-c", "CIFAR-10-C"))
             if key in study.results]
    primary = study.results.get(PRIMARY.key)
    head = ["arm", "trainings", "log10 B/A", *(name for _, name in shown), "area minus plain", "p",
            "at equal accuracy"]
    rows = []
    for arm in study.arms("cifar10"):
        if not study.count(arm):
            continue
        against = primary.simultaneous.get(arm) if primary else None
        frameness = np.mean([trained.frameness[FOLDED] for trained in study.trainings if trained.group == arm])
        rows.append([study.titles[arm], str(study.count(arm)), f"{frameness:.2f}",
                     *(number(study.results[key].mean(arm), study.results[key]) for key, _ in shown),
                     simultaneous(primary, arm) if primary else "", p_value(against) if against else "",
                     difference(primary.adjusted.get(arm), primary) if primary else ""])
    return table(head, rows)


def cifar100(study: Study) -> str:
    """Return clean accuracy on CIFAR-100, one row per arm, beside the study's claims."""
    result = study.results.get("clean-cifar100")
    rows = []
    for arm in study.arms("cifar100") if result else []:
        assert result is not None
        method = next((method for method, name in claims.ARMS.items() if arm == claims.CIFAR100 + name), None)
        rows.append([study.titles[arm], str(study.count(arm)), number(result.mean(arm), result),
                     simultaneous(result, arm),
                     "" if method is None else f"{claims.effects(method)['clean-cifar100']:+.2f}"])
    return table(["arm", "trainings", "clean", "minus plain", "the study's claim"], rows)


def claimed_accuracy() -> str:
    """Return the study's accuracies."""
    accuracy = claims.claims()["accuracy"]
    columns: list[str] = accuracy["columns"]
    rows = []
    for method, cells in accuracy["rows"].items():
        shown = [f"{mean:.2f} +- {spread:.2f}" for mean, spread in cells]
        rows.append([method, *shown, *[""] * (len(columns) - len(shown))])
    return table(["", *columns], rows)


def claimed_success() -> str:
    """Return the study's attack success rates."""
    success = claims.claims()["success"]
    return table(["iterations", *map(str, success["iterations"])],
                 ([method, *(f"{rate:.2f}" for rate in rates)] for method, rates in success["rows"].items()))


def anchors(study: Study) -> str:
    """Return published plain networks beside ours."""
    rows = [[anchor["network"], f"{anchor['clean']:.2f}", f"{anchor['corrupted']:.2f}", "published"]
            for anchor in claims.claims()["anchors"]]
    clean, corrupted = study.results.get("clean"), study.results.get("cifar10-c")
    for arm in (CONTROL, *study.spanning):
        if clean and corrupted and clean.mean(arm) is not None and corrupted.mean(arm) is not None:
            rows.append([f"ours, {study.titles[arm]}", number(clean.mean(arm), clean),
                         number(corrupted.mean(arm), corrupted), "generated"])
    return table(["network", "clean", "CIFAR-10-C", "CIFAR-10-C is"], rows)


def all_means(study: Study, results: Sequence[Result]) -> str:
    """Return the mean over an arm's trainings in every endpoint."""
    groups = list(dict.fromkeys(trained.group for trained in study.trainings))
    images = ["*images*", *(f"{result.data.scores.shape[1]:,}" for result in results)]
    rows = ([study.titles.get(group, f"{group} (tried)"), *(number(result.mean(group), result) for result in results)]
            for group in groups)
    return table(["arm", *(result.endpoint.title for result in results)], [images, *rows])


def all_differences(study: Study, result: Result) -> str:
    """Return every method minus plain training, in one endpoint."""
    rows, bootstrap = [], CrossedBootstrap(result.data)
    for arm, estimate in result.differences.items():
        boot = bootstrap.interval(result.data.weights(arm, result.control))
        rows.append([study.titles[arm], f"{len(result.data.index(arm))}", difference(estimate, result),
                     f"{estimate.df:.0f}", interval(boot, result), difference(result.adjusted.get(arm), result)])
    return table(["arm", "trainings", "minus plain", "df", "crossed bootstrap", "at equal accuracy"], rows)


def claims_of_the_penalty(study: Study) -> str:
    """Return the study's penalty minus plain training beside the study's claims; empty if trainings are too few."""
    arm, rows = claims.ARMS["frame"], []
    for key in (PRIMARY.key, "asr-100", "asr-1000", "clean", "cifar10-c", "clean-cifar100"):
        result = study.results.get(key)
        compared = claims.CIFAR100 + arm if key == "clean-cifar100" else arm
        if result is not None and compared in result.differences:
            claim, ends = claims.effects("frame")[key], result.interval(compared)
            rows.append([result.endpoint.title, f"{claim:+.2f}",
                         f"{signed(result.differences[compared].value, result)} {interval(ends, result)}",
                         verdict(ends, claim / 100)])
    return table(["the study's penalty minus plain, points", "claimed", "here", "the claim is"], rows) if rows else ""


def against_claims(study: Study) -> str:
    """Return every method minus plain training beside the study's claims for its frame."""
    rows = []
    for key, claim in claims.effects("frame").items():
        result = study.results.get(key)
        for arm, estimate in (result.differences if result else {}).items():
            assert result is not None
            p = estimate.equivalence(abs(claim) / 100)
            rows.append([result.endpoint.title, f"{claim:+.2f}", study.titles[arm], difference(estimate, result),
                         verdict(estimate.interval(), claim / 100), "< 0.0001" if p < 1e-4 else f"{p:.2g}",
                         difference(result.adjusted.get(arm), result)])
    return table(["endpoint", "the study's frame", "arm", "minus plain", "the claim is", "p (equivalence)",
                  "at equal accuracy"], rows)


def verdict(ends: tuple[float, float], claim: float) -> str:
    """Return whether an interval excludes, exceeds or contains a claimed effect, in the direction of the claim."""
    low, high = sorted(end * np.sign(claim) for end in ends)
    if high < abs(claim):
        return "excluded"
    return "exceeded" if low > abs(claim) else "within the interval"


def precision(results: Sequence[Result]) -> str:
    """Return standard deviations and the differences that the trainings can detect."""
    rows = []
    for result in results:
        if (power := result.precision) is None:
            continue
        effect = claims.effects("frame").get(result.endpoint.key)
        needed = power.needed(abs(effect) / 100) if effect else None
        rows.append([result.endpoint.title, f"{result.data.scores.shape[1]:,}",
                     *(number(value, result) for value in (
                         result.data.training ** 0.5, power.interaction ** 0.5, result.data.residual ** 0.5,
                         power.detectable(result.repeats), power.detectable(10), power.detectable(20),
                         power.detectable(result.repeats, 4.0))),
                     "" if not effect else f"{abs(effect):.2f}: {needed or 'more images first'}"])
    return table(["endpoint", "images", "sd between trainings", "error from images, method", "from images, training",
                  "detectable", "with 10 trainings", "with 20", "with 4 times the images",
                  "the study's effect: trainings needed"], rows)


def frameness_slopes(results: Sequence[Result]) -> str:
    """Return slopes on frameness and clean accuracy, each adjusted for the other; all measures if primary."""
    rows = []
    for result in results:
        for measure in MEASURES if result.endpoint is PRIMARY else [FOLDED]:
            if not result.endpoint.covariate and (found := result.slopes(result.frameness(measure), result.accuracy)):
                rows.append([result.endpoint.title, measure, str(len(result.trainings)), difference(found[0], result),
                             difference(found[1].scaled(0.01), result)])
    return table(["endpoint", "measure", "trainings", "per tenfold", "per point of clean accuracy"], rows)


def accuracy_slopes(results: Sequence[Result]) -> str:
    """Return slopes on clean accuracy alone."""
    rows = ([result.endpoint.title, str(len(result.trainings)), difference(found[0].scaled(0.01), result)]
            for result in results if not result.endpoint.covariate and (found := result.slopes(result.accuracy)))
    return table(["endpoint", "trainings", "per point of clean accuracy"], rows)


def all_trainings(study: Study) -> str:
    """Return one row per training."""
    rows = []
    for trained in study.trainings:
        recipe, minutes = trained.card["recipe"], trained.card["provenance"]["seconds"] / 60
        rows.append([trained.training.name, f"{recipe['gamma']:g}", str(recipe["epochs"]),
                     f"{100 * trained.accuracy:.2f}", f"{100 * trained.training.held_out:.2f}",
                     *(f"{trained.frameness[name]:.2f}" for name in MEASURES), f"{minutes:.0f}", device(trained)])
    return table(["training", "gamma", "epochs", "test", "held out", *MEASURES, "minutes", "made on"], rows)


def device(trained: Trained) -> str:
    """Return the processor or device of a training, and its version of torch."""
    facts = trained.card["provenance"]
    return f"{facts.get('processor') or facts['device']}, torch {facts['torch']}"
