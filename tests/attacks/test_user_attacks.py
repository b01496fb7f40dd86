"""Users' functions as attacks: exact counts, budgets to the query, one-line errors; docs/attacks.md and its example."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from framebench.attacks.registry import canonical, make
from framebench.attacks.user import at_hand
from framebench.errors import InputError
from framebench.user_code import load_function

ROOT = Path(__file__).parents[2]
EXAMPLE = f"python:{ROOT / 'examples' / 'my_attack.py'}:random_search"
SHAPE = (3, 8, 8)


@pytest.fixture
def write(tmp_path):
    """Write a file with a function `f` of the given body and attributes; return the attack's name."""
    def write(body, *attributes, parameters="model, images, labels, *, epsilon, budget, generator"):
        text = f"import torch\n\ndef f({parameters}):\n" + "\n".join(f"    {line}" for line in body.split("\n"))
        text += "".join(f"\nf.{attribute}" for attribute in attributes)
        (tmp_path / "mine.py").write_text(text + "\n")
        return f"python:{tmp_path / 'mine.py'}:f"
    return write


def rows(attack, predict, load, ids, *, seed=0, batch_size=256):
    done = list(attack.stream(predict, load, np.asarray(ids), seed=seed, batch_size=batch_size))
    return {int(d.ids[0]): d for d in done}


STEPS = """for _ in range(budget + extra):
    images = (images + 0.03 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    model(images)
return images"""


@pytest.mark.parametrize(("budget", "max_queries"), [(1, None), (23, None), (40, 7), (40, 1)])
@pytest.mark.parametrize("extra", [0, 5])
def test_budgets_are_exact(mlp, data, write, budget, max_queries, extra):
    attack = make(write(STEPS.replace("extra", str(extra))), budget=budget, max_queries=max_queries)
    limit = min(budget + 1, max_queries or budget + 1)
    spent = []
    for example in range(8):
        seen = []

        def predict(x, seen=seen):
            seen.append(len(x))
            return mlp(x)

        done = rows(attack, predict, data, [example])[example]
        success = int(done.success_iteration[0])
        assert int(done.queries[0]) == sum(seen) <= limit
        assert sum(seen) == (success + 1 if success >= 0 else limit)
        assert mlp(done.x_adv).argmax(1).tolist() == done.prediction.tolist()
        assert (int(done.prediction[0]) != int(done.labels[0])) == (success >= 0)
        spent.append(sum(seen))
    assert spent[0] == 1, "a clean error"


@pytest.mark.parametrize("needs", ["scores", "labels", "gradients"])
def test_rows_depend_on_neither_batch_nor_order_nor_shard(mlp, data, write, needs):
    attack = make(write(STEPS.replace("extra", "0"), f'needs = "{needs}"'), budget=25)
    assert attack.traits.needs == needs
    whole = rows(attack, mlp, data, range(8), seed=4)
    assert len({tuple(d.queries) for d in whole.values()}) > 1
    assert not torch.equal(whole[3].x_adv, rows(attack, mlp, data, [3], seed=5)[3].x_adv)
    for part, batch_size in (([7, 2, 5], 64), (range(8), 1), (range(7, -1, -1), 3)):
        for example, done in rows(attack, mlp, data, part, seed=4, batch_size=batch_size).items():
            for field in ("success_iteration", "queries", "prediction", "x_adv"):
                assert np.array_equal(getattr(done, field), getattr(whole[example], field)), (example, field)


def test_forward_passes_are_full(mlp, data, write):
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return mlp(x)

    rows(make(write("for _ in range(3):\n    model(images * 0.99)"), budget=3), predict, data, range(1, 8))
    assert sizes[0] == 7


@pytest.mark.parametrize(("body", "queries"), [
    ("return images.flip(-1)", 2),  # not asked about: one more query
    ("model(images.flip(-1)); return images.flip(-1)", 2),  # asked about
    ("model(images.flip(-1)); return None", 2),
    ("return images", 1), ("return None", 1), ("model(images); model(images)", 1),  # the clean image is known
    ("model(images.flip(-1)); model(images.flip(-1)); return images.flip(-2)", 4),  # asked twice, charged twice
    ("model(torch.cat([images.flip(-1), images.flip(-2)])); return images.flip(-2)", 3),
])
def test_what_is_returned_is_judged_and_charged(data, write, body, queries):
    def constant(x):
        return torch.eye(5)[data([3])[1]].repeat(len(x), 1)

    for batch_size in (1, 64):
        done = rows(make(write(body), budget=9), constant, data, [3], batch_size=batch_size)[3]
        assert int(done.queries[0]) == queries and int(done.success_iteration[0]) == -1


def test_a_success_that_is_only_returned_counts_if_the_budget_allows(data, write):
    """The model is right about the clean image alone."""
    clean, label = data([3])

    def model(x):
        same = torch.tensor([torch.equal(row, clean[0]) for row in x])
        return torch.where(same[:, None], torch.eye(5)[label], torch.eye(5)[(label + 1) % 5])

    for max_queries, success in ((2, 1), (1, -1)):
        attack = make(write("return images * 0.5"), budget=5, max_queries=max_queries)
        done = rows(attack, model, data, [3])[3]
        assert (int(done.success_iteration[0]), int(done.queries[0])) == (success, max_queries)


def test_a_bound_holds_what_counts(mlp, data, write):
    body = "for scale in (0.9, 0.5, 0):\n    model(images * scale)"
    free = rows(make(write(body), budget=9), mlp, data, range(1, 8))
    bound = rows(make(write(body, 'norm = "linf"', "epsilon = 0.2"), budget=9), mlp, data, range(1, 8))
    assert any(d.linf[0] > 0.2 for d in free.values()) and all(d.linf[0] <= 0.2 + 1e-6 for d in bound.values())


def test_a_labels_attack_sees_no_more_than_labels(mlp, data, write):
    body = "for _ in range(budget):\n    z = model(images * 0.99)\n    assert sorted(z[0].tolist()) == [0, 0, 0, 0, 1]"
    rows(make(write(body, 'needs = "labels"'), budget=3), mlp, data, range(1, 8))
    with pytest.raises(InputError, match="AssertionError"):
        rows(make(write(body), budget=3), mlp, data, range(1, 8))


GRADIENT = """x = images.clone().requires_grad_()
for _ in range(budget):
    loss = torch.nn.functional.cross_entropy(model(x), labels)
    step, = torch.autograd.grad(loss, x)
    x = (x + 0.01 * step.sign()).clamp(0, 1).detach().requires_grad_()"""


def test_a_gradient_attack_gets_gradients(mlp, data, write):
    done = rows(make(write(GRADIENT, 'needs = "gradients"', 'norm = "linf"', "epsilon = 0.1"), budget=9), mlp, data,
                range(8))
    assert all(d.success_iteration[0] >= 0 for d in done.values())

    def opaque(x):
        with torch.inference_mode():
            return mlp(x)

    with pytest.raises(InputError, match="mine.py:f failed on example"):
        rows(make(write(GRADIENT), budget=9), opaque, data, range(1, 8))


def test_a_function_that_writes_into_its_images_changes_nothing_else(mlp, data, write):
    before = data(range(8))[0].clone()
    done = rows(make(write("images.zero_()\nmodel(images).fill_(9)\nmodel(images)"), budget=2), mlp, data, range(8))
    assert torch.equal(data(range(8))[0], before)
    for example, d in done.items():
        assert d.l2[0] == pytest.approx(float((d.x_adv - before[example]).norm()), rel=1e-5)


@pytest.mark.parametrize(("body", "message"), [
    ("return images + 1", "returned an image that is not finite or not in"),
    ("return images * float('nan')", "not finite"),
    ("model(images - 1)", "asked about an image that"),
    ("return images[0]", r"shape \[3, 8, 8\]; they must be \[m, 3, 8, 8\]"),
    ("return images.repeat(2, 1, 1, 1)", "returned 2 images for one"),
    ("model(images[:, :1])", r"asked about images of the shape \[1, 1, 8, 8\]"),
    ("return images.numpy()", "returned a ndarray"),
    ("return (images * 255).byte()", "returned a tensor of torch.uint8"),
    ("return 1 / 0", "ZeroDivisionError"),
    ("raise SystemExit(3)", "SystemExit"), ("raise GeneratorExit", "GeneratorExit"),
])
def test_what_can_not_be_is_one_line_that_names_the_file(mlp, data, write, body, message):
    with pytest.raises(InputError, match=message) as told:
        rows(make(write(body), budget=3), mlp, data, [2])
    assert "mine.py:f" in str(told.value) and "\n" not in str(told.value) and "example 2" in str(told.value)


@pytest.mark.parametrize(("attributes", "how", "message"), [
    (['needs = "logits"'], {}, "unknown needs"), (['norm = "l7"'], {}, "unknown norm"),
    (['norm = "l2"'], {}, "has no epsilon"), (['epsilon = "much"'], {}, "must be a number"),
    (["epsilon = -1"], {}, "above 0"), (['nedds = "labels"'], {}, "did you mean needs"),
    (["eps = 1"], {}, "did you mean epsilon"), ([], {"options": {"shar": 1}}, "no options of its own"),
    ([], {"options": {"basis": "dct"}}, "basis is an option of simba and noise"),
    ([], {"options": {"budget": 3}}, "the benchmark sets budget"), ([], {"options": {"images": 3}}, "sets images"),
])
def test_bad_settings_are_refused(write, attributes, how, message):
    with pytest.raises(InputError, match=message) as told:
        make(write("return images", *attributes), budget=3, **how)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("parameters", ["model, images", "model, images, labels", "*, epsilon, budget, generator",
                                        "model, images, labels, *, epsilon, budget, generator, scale"])
def test_a_function_that_can_not_be_called_is_refused(write, parameters):
    with pytest.raises(InputError, match="must take"):
        make(write("return None", parameters=parameters), budget=3)


def test_missing_files_and_functions_are_told(write):
    with pytest.raises(InputError, match="no file"):
        make("python:nowhere/mine.py:f", budget=3)
    with pytest.raises(InputError, match="unknown function"):
        make(write("return images")[:-1] + "g", budget=3)


def test_options_reach_the_function_and_are_typed(mlp, data, write):
    name = write("return images * scale",
                 parameters="model, images, labels, *, epsilon, budget, generator, scale: float = 1.0, flip=False")
    for scale in (0.5, 0):
        seen = []

        def predict(x, seen=seen):
            seen.extend(x)
            return torch.eye(5)[data([3])[1]].repeat(len(x), 1)

        rows(make(name, budget=3, options={"scale": scale}), predict, data, [3])
        assert torch.equal(seen[-1], data([3])[0][0] * scale) and len(seen) == 2
    for options in ({"scale": "much"}, {"flip": "false"}, {"flip": 1}):
        with pytest.raises(InputError, match="must be"):
            make(name, budget=3, options=options)


def test_an_edited_function_never_answers_with_old_rows(write):
    first = make(write("return images"), budget=3)
    again = make(write("return images"), budget=3)
    edited = make(write("return images * 0.5"), budget=3)
    assert first.settings == again.settings != edited.settings
    assert first.settings != make(write("return images"), budget=4).settings, "the function is told the budget"
    assert not first.traits.prefix


def test_labels_name_the_file_and_not_its_folder(write, tmp_path):
    name = write("return images", 'norm = "l2"', "epsilon = 0.5", "needs = 'gradients'")
    assert canonical(name) == "python:mine:f"
    assert make(name, budget=3).traits.label == "python:mine:f-white-box-schedule3"
    assert make(name, budget=3, epsilon=2.0).traits.label.endswith("-eps2")
    traits = make(name, budget=3).traits
    assert (traits.norm, traits.bound, traits.epsilon) == ("l2", 0.5, 0.5)


def test_the_example_breaks_images_within_its_bound(mlp, data):
    attack = make(EXAMPLE, budget=60, options={"share": 0.3}, epsilon=0.1)
    done = rows(attack, mlp, data, range(8))
    assert sum(d.success_iteration[0] > 0 for d in done.values()) >= 4
    assert all(d.linf[0] <= 0.1 + 1e-6 and d.queries[0] <= 61 for d in done.values())
    assert attack.traits.label == "python:my_attack:random_search-schedule60-share=0.3-eps0.1"
    assert make(EXAMPLE, budget=60).traits.label == "python:my_attack:random_search-schedule60"


def test_the_functions_of_the_documentation_run(mlp, data, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "attacks.md").read_text(), re.DOTALL)
    functions = [block for block in blocks if "def " in block and "generator" in block]
    assert functions
    for block in functions:
        (tmp_path / "shown.py").write_text(block)
        name = re.search(r"def (\w+)\(model", block)[1]
        done = rows(make(f"python:{tmp_path / 'shown.py'}:{name}", budget=30), mlp, data, range(8))
        assert len(done) == 8 and any(d.success_iteration[0] > 0 for d in done.values())


def test_the_attack_of_the_documentation_is_added_by_one_line(mlp, data, tmp_path, monkeypatch):
    from framebench.attacks import registry

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "attacks.md").read_text(), re.DOTALL)
    block, = (block for block in blocks if "SingleImageAttack" in block)
    namespace = {}
    exec(compile(block, "docs/attacks.md", "exec"), namespace)
    monkeypatch.setitem(registry.ATTACKS, "blend", registry.Entry("as documented", namespace["make"]))
    attack = make("blend", budget=10)
    done = rows(attack, mlp, data, range(8), batch_size=3)
    assert attack.traits.label == "blend-schedule10" and any(d.success_iteration[0] > 0 for d in done.values())
    with pytest.raises(InputError, match="unknown option of blend"):
        make("blend", budget=10, options={"grays": 1})


def test_a_function_at_hand_is_an_attack_like_one_in_a_file(mlp, data, write):
    name = write(STEPS.replace("extra", "0"), 'needs = "labels"')
    function = load_function("python", name.removeprefix("python:")).function
    attack, other = make(at_hand(function), budget=25), make(name, budget=25)
    ours, theirs = (rows(made, mlp, data, range(8)) for made in (attack, other))
    assert all(torch.equal(ours[example].x_adv, theirs[example].x_adv) for example in range(8))
    assert attack.traits.needs == "labels" and attack.traits.label == "python:f-schedule25"
    assert canonical(at_hand(function)) == "python:f"


def test_a_function_at_hand_is_told_by_its_code_and_its_settings():
    def made(step, **attributes):
        def darken(model, images, labels, *, epsilon, budget, generator):
            model(images * step)
        for name, value in attributes.items():
            setattr(darken, name, value)
        return make(at_hand(darken), budget=3).settings

    assert made(0.5) == made(0.5)
    different = [made(0.5), made(0.6), made(0.5, norm="l2", epsilon=1), made(0.5, norm="linf", epsilon=1)]
    assert all(one != other for i, one in enumerate(different) for other in different[:i])
