"""The sentences of the account that depend on what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from study import claims, plan
from study.analysis import CONTROL, Result, Study
from study.endpoints import ENDPOINTS, PRIMARY
from study.tables import device, difference, interval, signed, verdict

#: Endpoints of the second sentence: accuracy and shift.
OTHER = ("clean", "cifar10-c")


def answer(study: Study) -> str:
    """Return the answer, three sentences."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not primary.methods:
        return ("Nothing can be said of a method yet: that takes two trainings of it and two of plain training. "
                f"Trainings so far: {len(study.trainings)}, of which {study.count(CONTROL)} plain. "
                "What they score stands below, without an interval and without a conclusion.")
    claimed = _claims(study)
    return " ".join([_attacked(study, primary), claimed[0].upper() + claimed[1:], _is_it_the_frame(primary)])


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _attacked(study: Study, primary: Result) -> str:
    found, claim = primary.simultaneous, claims.effects("frame")[PRIMARY.key]
    titles = {arm: f"*{title}*" for arm, title in study.titles.items()}
    harder = [arm for arm, one in found.items() if one.low > 0]
    easier = [arm for arm, one in found.items() if one.high < 0]
    best = max(found, key=lambda arm: found[arm].estimate.value)
    size = f"{signed(found[best].estimate.value, primary)} {interval(primary.interval(best), primary)} points of area"
    excluded = sum(verdict(primary.interval(arm), claim / 100) == "excluded" for arm in found)
    many = f"{len(harder) or 'None'} of the {len(found)} arms with two trainings or more"
    said = (f"{many} {'is' if len(harder) == 1 else 'are'} harder to attack than plain training: "
            f"{listed([titles[arm] for arm in harder])}, the best by {size}" if harder else
            f"{many} is shown to be harder to attack than plain training: the best, {titles[best]}, differs by "
            f"{size}")
    if easier:
        said += f"; easier to attack: {listed([titles[arm] for arm in easier])}"
    return f"{said}; {excluded} of the {len(found)} intervals exclude the study's effect, {claim:+.2f}."


def _claims(study: Study) -> str:
    """Say which arms are more accurate, or better under shift, and which claims the study's own penalty excludes."""
    arm, said = claims.ARMS["frame"], dict[str, list[str]]()
    better = [f"{sum(one.low > 0 for one in result.simultaneous.values())} of {len(result.methods)} arms are better in "
              f"{result.endpoint.title}" for key in OTHER
              if (result := study.results.get(key)) is not None and result.methods]
    start = f"Taken all at once, {listed(better)} than plain training; " if better else ""
    for key in (PRIMARY.key, "asr-100", "asr-1000", *OTHER, "clean-cifar100"):
        result = study.results.get(key)
        own = claims.CIFAR100 + arm if key == "clean-cifar100" else arm
        if result is not None and own in result.differences:
            claim, ends = claims.effects("frame")[key], result.interval(own)
            said.setdefault(verdict(ends, claim / 100), []).append(
                f"{result.endpoint.title} ({claim:+.2f}; here {signed(result.differences[own].value, result)} "
                f"{interval(ends, result)})")
    if not said:
        return f"{start}the study's own penalty has too few trainings to set its claims against."
    parts = [f"{does} {listed(said[outcome])}" for outcome, does in
             (("excluded", "exclude"), ("within the interval", "can't exclude"), ("exceeded", "lie beyond"))
             if outcome in said]
    return f"{start}of what the study claims for its penalty, in points, the intervals of that penalty {listed(parts)}."


def _is_it_the_frame(primary: Result) -> str:
    found = primary.slopes(primary.frameness(), primary.accuracy)
    if not found:
        return "Whether it is being a frame that matters can't be said yet: the arms are too few, or too alike."
    slope = found[0].scaled(-1)
    low, high = slope.interval()
    said = ("there is no sign that being nearer to a tight frame makes a network harder to attack" if low <= 0 <= high
            else f"being nearer to a tight frame goes with {'more' if low > 0 else 'less'} robustness")
    return (f"At equal clean accuracy, over all {len(primary.trainings)} trainings, {said}: "
            f"{difference(slope, primary)} points of area for each tenfold reduction of B/A.")


def frameness_slope(study: Study) -> str:
    """Say how robustness goes with frameness; nothing where there are too few arms."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not (found := primary.slopes(primary.frameness(), primary.accuracy)):
        return ""
    return (f"With clean accuracy held, a tenfold B/A goes with {difference(found[0], primary)} points of area over "
            f"{len(primary.trainings)} trainings.")


def accuracy_slope(study: Study) -> str:
    """Say how robustness goes with accuracy; nothing where there are too few arms."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not (found := primary.slopes(primary.accuracy)):
        return ""
    return (f"A point of clean accuracy goes with {difference(found[0].scaled(0.01), primary)} points of area over "
            f"{len(primary.trainings)} trainings.")


def coefficients(study: Study) -> str:
    """List the coefficients that were tried and what they gave on the held-out images."""
    lines = []
    for arm, title in study.titles.items():
        made = [training for training in plan.tries(arm) if training.gamma is not None]
        shown = [f"{training.gamma:g}: " + ("failed" if training.failed else "missing" if training.card is None else
                                            f"{100 * training.held_out:.2f}") for training in made]
        if made:
            going_on = next((one.training.gamma for one in study.trainings if one.group == arm), None)
            lines.append(f"- {title}: {', '.join(shown)}; " +
                         ("not chosen yet" if going_on is None else f"chosen: {going_on:g}"))
    return "\n".join(lines) or "No arm has several."


def extent(study: Study) -> str:
    """Say what there is: trainings, hours, devices, and what is missing."""
    hours = sum(one.card["provenance"]["seconds"] for one in study.trainings) / 3600
    counts = Counter(study.count(arm) for arm in study.titles)
    arms = [f"{number} with {count}" for count, number in sorted(counts.items(), reverse=True)]
    tried = sum(one.group not in study.titles for one in study.trainings)
    made = Counter(device(one) for one in study.trainings)
    said = [f"Trainings: {len(study.trainings)}. Arms by their number of trainings: {', '.join(arms)}. "
            f"Coefficients that were tried and not chosen: {tried}. {hours:.1f} core hours of training. Made on: "
            f"{'; '.join(f'{name} ({count})' for name, count in made.most_common())}."]
    if len(made) > 1:
        said.append("Processors and releases of torch round differently: to the results that is one more draw of the "
                    "seed, but arms that were made on one device alone may differ by it.")
    if study.failed:
        said.append(f"Not finished: {', '.join(study.failed)}.")
    measured = {endpoint.rows: len(study.results[endpoint.key].trainings) if endpoint.key in study.results else 0
                for endpoint in ENDPOINTS}
    if missing := [f"`{rows}`" for rows, number in measured.items() if not number]:
        said.append(f"Not measured yet: {', '.join(missing)}.")
    wanted = {endpoint.rows: sum(one.training.dataset == endpoint.dataset for one in study.trainings)
              for endpoint in ENDPOINTS}
    if partly := [f"`{rows}` ({number} of {wanted[rows]})" for rows, number in measured.items()
                  if 0 < number < wanted[rows]]:
        said.append(f"Measured of some trainings only: {', '.join(partly)}.")
    return " ".join(said)


def recipe() -> str:
    """Say what all trainings have in common."""
    found = plan.manifest()["recipe"]
    return f"{found['arch']} of width {found['width']}, {found['epochs']} epochs"


def more(study: Study) -> str:
    """Say what more trainings, or more images, would change."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or (found := primary.precision) is None:
        return ("With a second training of plain training and of a method there are intervals; the variance between "
                "trainings, and so the power, is not known before.")
    now, effect = primary.repeats, abs(claims.effects("frame")[PRIMARY.key])
    least = {n: f"{100 * found.detectable(n):.2f}" for n in (now, 5, 10)}
    needed = found.needed(effect / 100)
    return (f"With {now} trainings per arm a difference of {least[now]} points of area is found in four of five cases "
            f"(unadjusted); with 5 it is {least[5]}, with 10 {least[10]}, and with 5 and four times the images "
            f"{100 * found.detectable(5, 4.0):.2f}. The study's effect, {effect:.1f} points, needs "
            + (f"{needed} trainings per arm." if needed else "more images before more trainings."))
