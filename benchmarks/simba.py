"""SimBA's queries/s against the raw rate of the model, and its time against ART's SimBA.

    python benchmarks/simba.py --data-root DIR
    python benchmarks/simba.py --untrained squeezenet1_1 -n 64 --batch-size 64 --iterations 10000 --max-queries 100

Limits, checked at the end (exit code 1 if one is missed): the attack with the fused predictor makes at least 0.95 of
the predictor's raw queries/s on full batches, and its peak memory is below 4 GiB. On CIFAR-10, it makes at least 1.4 of
the eager model's queries/s; eager to eager it needs at most 1/6 of the time of ART's SimBA on the same images, fused
1/14; ASRs of ART and ours lie within each other's 95% interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from clocks import peak_memory, rate, timed
from ratios import Ratio, conclude

from bench.analysis.stats import wilson
from bench.running.provenance import provenance
from framebench.attacks.base import Attack, Load, Predict
from framebench.attacks.registry import make
from framebench.domains import load_domain
from framebench.domains.cifar import load_cifar10
from framebench.memory import keep_freed_memory
from framebench.models.predictor import Predictor
from framebench.models.registry import load


def main() -> int:
    """Measure, print, and tell whether all limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="baseline")
    parser.add_argument("--data-root", default=None, help="without it: the 20 samples, too few to fill a batch")
    parser.add_argument("--untrained", metavar="NAME", help="instead: a network of torchvision with random weights, on "
                        "random images that it classifies correctly")
    parser.add_argument("--size", type=int, default=224, help="of these images")
    parser.add_argument("--basis", default="pixel")
    parser.add_argument("--order", default="random")
    parser.add_argument("-n", type=int, default=1000, help="images of the long run")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--max-queries", type=int, default=None, help="ends a long run early, with its memory in use")
    parser.add_argument("--art-images", type=int, default=100, help="images of the comparison with ART; 0 for none")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()

    keep_freed_memory()  # as the commands do
    model, load_images, ids, title = (_untrained if arguments.untrained else _trained)(arguments)
    example, _ = load_images(ids[:32])
    facts = provenance()
    print(f"{facts['processor']}, {arguments.threads} threads, torch {facts['torch']}; {title}, n = {len(ids)}, "
          f"{arguments.basis}, {arguments.order}, {arguments.iterations} iterations, batch {arguments.batch_size}")

    attack = make("simba", budget=arguments.iterations, max_queries=arguments.max_queries,
                  options={"basis": arguments.basis, "order": arguments.order})
    eager = _eager(model, arguments.threads)
    fused = Predictor(model, example, threads=arguments.threads)
    full, _ = load_images(np.resize(ids, arguments.batch_size))
    # Rates before and after the long run, interleaved, since a machine's clock drifts.
    raw = {name: [rate(predict, full, 8)] for name, predict in (("eager", eager), ("fused", fused))}
    seconds, queries, won, right = _attack(attack, fused, load_images, ids, arguments.batch_size)
    for name, predict in (("eager", eager), ("fused", fused)):
        raw[name].append(rate(predict, full, 8))
    eager_rate, fused_rate = (float(np.mean(raw[name])) for name in ("eager", "fused"))
    print(f"raw, full batches: eager {eager_rate:,.0f}/s, {fused.kind} {fused_rate:,.0f}/s "
          f"({fused_rate / eager_rate:.2f} of eager); each {[[round(r) for r in rates] for rates in raw.values()]}")
    low, high = wilson(won, right)
    peak = peak_memory()
    print(f"attack, {fused.kind}: {queries:,} queries in {seconds:.1f} s = {queries / seconds:,.0f}/s; "
          f"ASR {won}/{right} = {won / right:.1%} [{low:.1%}, {high:.1%}]; peak memory {peak:.2f} GiB")
    ratios = [Ratio("queries/s of SimBA over the predictor's raw rate", queries / seconds / fused_rate, 0.95),
              Ratio("peak memory of SimBA, GiB", peak, 4, at_most=True)]
    if not arguments.untrained:
        ratios.append(Ratio("queries/s of SimBA over the eager model's raw rate", queries / seconds / eager_rate, 1.4))
        if arguments.art_images:
            ratios += _against_art(attack, model, eager, fused, load_images, ids[: arguments.art_images], arguments)
    return conclude(ratios)


def _trained(arguments: argparse.Namespace) -> tuple[torch.nn.Module, Load, np.ndarray, str]:
    """Return a model, images that it may misclassify, their ids, and a title."""
    domain = load_domain("samples") if arguments.data_root is None else load_cifar10(Path(arguments.data_root))
    model = load(arguments.model).module
    return model, domain.load, domain.first(min(arguments.n, len(domain))), f"{arguments.model} on {domain.title}"


def _untrained(arguments: argparse.Namespace) -> tuple[torch.nn.Module, Load, np.ndarray, str]:
    """Return the same for a network with random weights, which needs no download; the labels are its predictions."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(arguments.untrained, weights=None).eval()
    model = model.to(memory_format=torch.channels_last)
    x = torch.rand(arguments.n, 3, arguments.size, arguments.size)
    with torch.inference_mode():
        y = torch.cat([model(part).argmax(1) for part in x.split(16)])
    return (model, lambda i: (x[i], y[i]), np.arange(len(x)),
            f"{arguments.untrained}, untrained, on random images of {arguments.size}x{arguments.size}")


def _eager(model: torch.nn.Module, threads: int) -> Predict:
    """Return the eager model: channels last, with torch's threads."""
    @torch.inference_mode()
    def predict(x: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(threads)
        logits: torch.Tensor = model(x)
        torch.set_num_threads(1)
        return logits
    return predict


def _attack(attack: Attack, predict: Predict, load_images: Load, ids: np.ndarray,
            batch_size: int) -> tuple[float, int, int, int]:
    """Return seconds, queries, images broken, images classified correctly before the attack."""
    started, queries, won, right = time.perf_counter(), 0, 0, 0
    for done in attack.stream(predict, load_images, ids, seed=0, batch_size=batch_size):
        queries += int(done.queries.sum())
        won += int((done.success_iteration > 0).sum())
        right += int((done.success_iteration != 0).sum())
    return time.perf_counter() - started, queries, won, right


def _against_art(attack: Attack, model: torch.nn.Module, eager: Predict, fused: Predict, load_images: Load,
                 ids: np.ndarray, arguments: argparse.Namespace) -> list[Ratio]:
    from art.attacks.evasion import SimBA
    from art.estimators.classification import PyTorchClassifier

    torch.set_num_threads(arguments.threads)
    probabilities = torch.nn.Sequential(model, torch.nn.Softmax(1)).eval()  # ART's SimBA wants them
    classifier = PyTorchClassifier(probabilities, torch.nn.CrossEntropyLoss(), (3, 32, 32), 10,
                                   clip_values=(0, 1), device_type="cpu")
    x, y = load_images(ids)
    clean = classifier.predict(x.numpy()).argmax(1) == y.numpy()
    art = SimBA(classifier, attack="px", max_iter=attack.traits.budget, epsilon=attack.traits.epsilon, order="random",
                verbose=False)
    np.random.seed(0)  # ART draws its directions from the global generator
    # ART skips misclassified images, as framebench does.
    art_seconds, adversarial = timed(lambda: art.generate(x.numpy(), np.eye(10)[y.numpy()]))
    art_won = int((clean & (classifier.predict(adversarial).argmax(1) != y.numpy())).sum())
    alone = rate(eager, x[:1], 4)
    torch.set_num_threads(1)
    ours = {name: _attack(attack, predict, load_images, ids, arguments.batch_size)
            for name, predict in (("eager", eager), ("fused", fused))}
    n_right, won = ours["eager"][3], ours["eager"][2]
    print(f"ART on {len(ids)} images: {art_seconds:.1f} s, ASR {art_won}/{int(clean.sum())} "
          f"[{wilson(art_won, int(clean.sum()))[0]:.1%}, {wilson(art_won, int(clean.sum()))[1]:.1%}]; ours eager "
          f"{ours['eager'][0]:.1f} s, fused {ours['fused'][0]:.1f} s, ASR {won}/{n_right}; a batch of 1, as ART's, "
          f"runs eagerly at {alone:,.0f}/s: what batches can win over it is the full rate over this")
    inside = all(low <= rate <= high for (low, high), rate in (
        (wilson(art_won, int(clean.sum())), won / n_right), (wilson(won, n_right), art_won / int(clean.sum()))))
    return [Ratio("time of ART's SimBA over ours, eager to eager", art_seconds / ours["eager"][0], 6),
            Ratio("time of ART's SimBA over ours, fused", art_seconds / ours["fused"][0], 14),
            Ratio("ASRs of ART and ours within each other's interval", float(inside), 1)]


if __name__ == "__main__":
    sys.exit(main())
