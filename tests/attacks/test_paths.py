"""The margin's path against a plain recording of what the model was asked and what it answered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framebench.attacks.registry import make

ATTACKS = {
    "simba": {}, "simba best-of-two": {"step": "best-of-two"}, "simba probability": {"objective": "probability"},
    "simba linf": {"linf": 0.1}, "simba targeted": {"targeted": True}, "simba dct": {"basis": "dct"},
    "noise": {}, "square": {}, "apgd": {}, "apgd targeted": {"loss": "dlr-targeted", "targets": 2},
    "foolbox:L2RepeatedAdditiveGaussianNoiseAttack": {},
    "foolbox:LinearSearchBlendedUniformNoiseAttack": {"distance": "linf"},
}


@pytest.fixture
def model(mlp):
    """A product of matrices rounds by its size, so each image is answered for alone; what was asked is recorded."""
    def predict(x):
        answers = torch.cat([mlp(row[None]) for row in x])
        predict.asked += zip(x.clone(), answers, strict=True)
        return answers
    predict.asked = []
    return predict


def attack_of(label, budget=60):
    return make(label.split()[0], budget=budget, epsilon=0.1, max_queries=None, options=ATTACKS[label])


def streamed(attack, model, data, ids, batch_size):
    done = {}
    for several in attack.stream(model, data, np.asarray(ids), seed=2, batch_size=batch_size):
        done |= {int(one.ids[0]): one for one in several.each()}
    return done


def recorded(attack, asked, goal):
    """Return (query, margin) wherever the margin of what counts is nearer to a success than ever before."""
    clean, path = asked[0][0], []
    order = {"l2": 2, "linf": float("inf"), None: 2}[attack.traits.norm]
    for query, (x, logits) in enumerate(asked, 1):
        others = torch.cat([logits[:goal], logits[goal + 1 :]]).double()
        margin = float(logits[goal].double() - torch.logsumexp(others, 0))
        distance = float(torch.linalg.vector_norm((x.double() - clean.double()).flatten(), order))
        if attack.traits.bound is not None and distance > attack.traits.bound * (1 + 1e-6) + 1e-6:
            continue
        better = margin > path[-1][1] if path and attack.traits.targeted else not path or margin < path[-1][1]
        if better:
            path.append((query, margin))
    return path


@pytest.mark.parametrize("label", ATTACKS)
def test_a_path_is_the_running_least_margin_of_all_queries(model, data, label):
    attack = attack_of(label)
    lengths = []
    for example in range(6):
        model.asked.clear()
        done = streamed(attack.watching([example]), model, data, [example], 1)[example]
        expected = recorded(attack, model.asked, int(done.goals[0]))
        (path,) = done.paths
        assert path.queries == [query for query, _ in expected] and path.queries[0] == 1
        np.testing.assert_allclose(path.margins, [margin for _, margin in expected], rtol=1e-9, atol=1e-9)
        assert len(model.asked) == done.queries[0], "nothing is asked for the path's sake"
        assert done.clean_confidence[0] == pytest.approx(float(model.asked[0][1].double().softmax(0).max()))
        lengths.append(len(path.queries))
    assert max(lengths) > 2


@pytest.mark.parametrize("label", ATTACKS)
def test_paths_depend_on_no_batch_and_change_nothing_else(model, data, label):
    attack = attack_of(label)
    alone = streamed(attack.watching(range(8)), model, data, range(8), 1)
    some = streamed(attack.watching([1, 5]), model, data, range(8), 3)
    none = streamed(attack, model, data, range(8), 8)
    assert [example for example, done in sorted(some.items()) if done.paths[0]] == [1, 5]
    for example, done in some.items():
        assert none[example].paths == [None]
        assert done.paths[0] in (None, alone[example].paths[0])
        assert torch.equal(done.x_adv, none[example].x_adv) and done.queries == none[example].queries
        assert done.clean_confidence == alone[example].clean_confidence


def test_autoattack_gives_no_path_but_the_clean_confidence(mlp, data):
    attack = make("autoattack", budget=8, epsilon=0.05, max_queries=None, options={}).watching(range(3))
    for example, done in streamed(attack, mlp, data, range(3), 2).items():
        assert done.paths == [None]
        assert done.clean_confidence[0] == pytest.approx(float(mlp(data([example])[0]).softmax(1).max()), abs=1e-6)
