"""The sentences of the account that depend on the results."""

from __future__ import annotations

from collections import Counter

from framebench.reports.sentences import listed
from study import claims, plan, tables
from study.analysis import CONTROL, Result, Study
from study.endpoints import ENDPOINTS, PRIMARY
from study.tables import device, difference, simultaneous, verdict

#: Endpoints of the second sentence: accuracy and shift.
OTHER = ("clean", "cifar10-c")


def answer(study: Study) -> str:
    """Return the answer: three sentences, and a table of the study's claims beside the measurements."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not primary.methods:
        return ("Nothing can be said of a method yet: that takes two trainings of it and two of plain training. "
                f"Trainings so far: {len(study.trainings)}, of which {study.count(CONTROL)} plain. "
                "What they score stands below, without an interval and without a conclusion.")
    return "\n\n".join(text for text in ("\n".join([f"- {_attacked(study, primary)}", f"- {_accurate(study)}",
                                                    f"- {_is_it_the_frame(primary)}"]),
                                         tables.claims_of_the_penalty(study)) if text)


def _attacked(study: Study, primary: Result) -> str:
    arms, claim = primary.simultaneous, claims.effects("frame")[PRIMARY.key]
    harder = [arm for arm, against in arms.items() if against.low > 0]
    easier = sum(against.high < 0 for against in arms.values())
    best = max(arms, key=lambda arm: arms[arm].estimate.value)
    size = simultaneous(primary, best)
    excluded = sum(verdict(primary.interval(arm), claim / 100) == "excluded" for arm in arms)
    title = f"*{study.titles[best]}*"
    lead = (f"**Attack: {len(harder)} of {len(arms)} arms {'is' if len(harder) == 1 else 'are'} harder to attack than "
            f"plain training**, the best of them {title}, by {size} points of the area under robust accuracy" if harder
            else f"**Attack: none of the {len(arms)} arms is shown to be harder to attack than plain training**; the "
            f"best, {title}, differs by {size} points of the area under robust accuracy")
    return (f"{lead}; {easier} {'is' if easier == 1 else 'are'} shown to be easier to attack, and {excluded} of the "
            f"{len(arms)} intervals exclude the study's effect, {claim:+.2f}.")


def _accurate(study: Study) -> str:
    """Say how many arms are more accurate, or more accurate under shift."""
    results = [result for key in OTHER if (result := study.results.get(key)) is not None and result.methods]
    if not results:
        return "**Accuracy and shift:** nothing can be said yet, since too few arms have two trainings."
    parts = list[str]()
    for result in results:
        better = sum(against.low > 0 for against in result.simultaneous.values())
        verb = "" if parts else f"arms {'are' if better > 1 else 'is'} shown to be better than plain training "
        parts.append(f"{better or 'none'} of {len(result.methods)} {verb}in {result.endpoint.title}")
    return f"**Accuracy and shift: {listed(parts)}**, with intervals that hold for all arms at once."


def _is_it_the_frame(primary: Result) -> str:
    slopes = primary.slopes(primary.frameness(), primary.accuracy)
    if not slopes:
        return "**Frame:** whether being a frame matters can't be said yet: the arms are too few, or too alike."
    slope = slopes[0].scaled(-1)
    low, high = slope.interval()
    lead = ("there is no sign that being nearer to a tight frame makes a network harder to attack" if low <= 0 <= high
            else f"being nearer to a tight frame goes with {'more' if low > 0 else 'less'} robustness")
    return (f"**Frame: {lead}**; at equal clean accuracy, over all {len(primary.trainings)} trainings, the area "
            f"changes by {difference(slope, primary)} points for each tenfold reduction of B/A.")


def frameness_slope(study: Study) -> str:
    """Return the slope of robustness on frameness in a sentence; empty if there are too few arms."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not (slopes := primary.slopes(primary.frameness(), primary.accuracy)):
        return ""
    return (f"With clean accuracy held, a tenfold B/A goes with {difference(slopes[0], primary)} points of area over "
            f"{len(primary.trainings)} trainings.")


def accuracy_slope(study: Study) -> str:
    """Return the slope of robustness on clean accuracy in a sentence; empty if there are too few arms."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not (slopes := primary.slopes(primary.accuracy)):
        return ""
    return (f"A point of clean accuracy goes with {difference(slopes[0].scaled(0.01), primary)} points of area over "
            f"{len(primary.trainings)} trainings.")


def coefficients(study: Study) -> str:
    """List the coefficients that were tried, with their accuracy on the held-out images."""
    lines = []
    for arm, title in study.titles.items():
        tries = [training for training in plan.tries(arm) if training.gamma is not None]
        shown = [f"{training.gamma:g}: " + ("failed" if training.failed else "missing" if training.card is None else
                                            f"{100 * training.held_out:.2f}") for training in tries]
        if tries:
            chosen = next((trained.training.gamma for trained in study.trainings if trained.group == arm), None)
            lines.append(f"- {title}: {', '.join(shown)}; " +
                         ("not chosen yet" if chosen is None else f"chosen: {chosen:g}"))
    return "\n".join(lines) or "No arm has several."


def extent(study: Study) -> str:
    """Return the extent of the study: trainings, hours, devices, and what is missing."""
    hours = sum(trained.card["provenance"]["seconds"] for trained in study.trainings) / 3600
    counts = Counter(study.count(arm) for arm in study.titles)
    arms = [f"{number} with {count}" for count, number in sorted(counts.items(), reverse=True)]
    tried = sum(trained.group not in study.titles for trained in study.trainings)
    devices = Counter(map(device, study.trainings))
    sentences = [f"Trainings: {len(study.trainings)}. Arms by their number of trainings: {', '.join(arms)}. "
            f"Coefficients that were tried and not chosen: {tried}. {hours:.1f} core hours of training. Made on: "
            f"{'; '.join(f'{name} ({count})' for name, count in devices.most_common())}."]
    if len(devices) > 1:
        sentences.append("Processors and releases of torch round differently: to the results that is one more draw of "
                         "the seed, but arms that were made on one device alone may differ by it.")
    if study.failed:
        sentences.append(f"Not finished: {', '.join(study.failed)}.")
    measured = {endpoint.rows: len(study.results[endpoint.key].trainings) if endpoint.key in study.results else 0
                for endpoint in ENDPOINTS}
    if missing := [f"`{rows}`" for rows, number in measured.items() if not number]:
        sentences.append(f"Not measured yet: {', '.join(missing)}.")
    planned = {endpoint.rows: sum(trained.training.dataset == endpoint.dataset for trained in study.trainings)
               for endpoint in ENDPOINTS}
    if partly := [f"`{rows}` ({number} of {planned[rows]})" for rows, number in measured.items()
                  if 0 < number < planned[rows]]:
        sentences.append(f"Measured of some trainings only: {', '.join(partly)}.")
    return " ".join(sentences)


def recipe() -> str:
    """Return what all trainings have in common."""
    recipe = plan.manifest()["recipe"]
    return f"{recipe['arch']} of width {recipe['width']}, {recipe['epochs']} epochs"


def more(study: Study) -> str:
    """Return what more trainings or more images would change."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or (power := primary.precision) is None:
        return ("With a second training of plain training and of a method there are intervals; the variance between "
                "trainings, and so the power, is not known before.")
    now, effect = primary.repeats, abs(claims.effects("frame")[PRIMARY.key])
    least = {n: f"{100 * power.detectable(n):.2f}" for n in (now, 5, 10)}
    needed = power.needed(effect / 100)
    return (f"With {now} trainings per arm a difference of {least[now]} points of area is found in four of five cases "
            f"(unadjusted); with 5 it is {least[5]}, with 10 {least[10]}, and with 5 and four times the images "
            f"{100 * power.detectable(5, 4.0):.2f}. The study's effect, {effect:.1f} points, needs "
            + (f"{needed} trainings per arm." if needed else "more images before more trainings."))
