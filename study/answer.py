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
        return ("No method can be judged yet: this needs two trainings of it and two of plain training. "
                f"Trainings so far: {len(study.trainings)}, of which {study.count(CONTROL)} plain. "
                "Their scores are given below, without intervals or conclusions.")
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
    number = str(len(harder)) if harder else "none"
    return (f"**Attack: {number} of the {len(arms)} arms {'are' if len(harder) > 1 else 'is'} shown to be harder to "
            f"attack than plain training.** The best, {title}, differs by {size} points of the area under robust "
            f"accuracy. {easier} {'is' if easier == 1 else 'are'} shown to be easier to attack. The intervals of "
            f"{'all' if excluded == len(arms) else f'{excluded} of the'} {len(arms)} arms exclude the study's effect, "
            f"{claim:+.2f}.")


def _accurate(study: Study) -> str:
    """Say how many arms are more accurate, or more accurate under shift."""
    results = [result for key in OTHER if (result := study.results.get(key)) is not None and result.methods]
    if not results:
        return "**Accuracy and shift:** nothing can be said yet, since too few arms have two trainings."
    parts = list[str]()
    for result in results:
        better = sum(against.low > 0 for against in result.simultaneous.values())
        verb = "" if parts else f"arms {'are' if better > 1 else 'is'} shown to be better than plain training "
        parts.append(f"{better or 'none'} of the {len(result.methods)} {verb}in {result.endpoint.title}")
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
    return (f"At fixed clean accuracy, a tenfold increase of B/A is associated with {difference(slopes[0], primary)} "
            f"points of area ({len(primary.trainings)} trainings).")


def accuracy_slope(study: Study) -> str:
    """Return the slope of robustness on clean accuracy in a sentence; empty if there are too few arms."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or not (slopes := primary.slopes(primary.accuracy)):
        return ""
    return (f"One more point of clean accuracy is associated with {difference(slopes[0].scaled(0.01), primary)} points "
            f"of area ({len(primary.trainings)} trainings).")


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
    arms = [f"{number} arms with {count} each" for count, number in sorted(counts.items(), reverse=True)]
    tried = sum(trained.group not in study.titles for trained in study.trainings)
    devices = Counter(map(device, study.trainings))
    sentences = [f"{len(study.trainings)} trainings: {', '.join(arms)}, and {tried} with coefficients that were tried "
                 f"and not chosen. They took {hours:.1f} core hours. Trained on: "
                 f"{'; '.join(f'{name} ({count})' for name, count in devices.most_common())}."]
    if len(devices) > 1:
        sentences.append("Processors and versions of torch round differently. This acts like another random seed, but "
                         "arms trained on one device only may differ because of it.")
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
        sentences.append(f"Measured for some trainings only: {', '.join(partly)}.")
    return " ".join(sentences)


def recipe() -> str:
    """Return what all trainings have in common."""
    recipe = plan.manifest()["recipe"]
    return f"{recipe['arch']} of width {recipe['width']}, {recipe['epochs']} epochs"


def more(study: Study) -> str:
    """Return what more trainings or more images would change."""
    primary = study.results.get(PRIMARY.key)
    if primary is None or (power := primary.precision) is None:
        return ("Intervals need two trainings of plain training and two of a method. Until then the variance between "
                "trainings, and so the power, is unknown.")
    now, effect = primary.repeats, abs(claims.effects("frame")[PRIMARY.key])
    least = {n: f"{100 * power.detectable(n):.2f}" for n in (now, 2 * now)}
    needed = power.needed(effect / 100)
    return (f"With {now} trainings per arm, a difference of {least[now]} points of area is detected with 80% power "
            f"(unadjusted). With {2 * now} trainings it is {least[2 * now]}, and with {now} trainings and four times "
            f"the images {100 * power.detectable(now, 4.0):.2f}. Detecting the study's effect, {effect:.1f} points, "
            "needs "
            + (f"{needed} trainings per arm." if needed else "more images before more trainings."))
