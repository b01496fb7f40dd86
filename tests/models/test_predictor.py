from __future__ import annotations

import itertools
import random
import threading
from asyncio import CancelledError

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from framebench.attacks.simba import simba
from framebench.errors import InputError
from framebench.models.architectures import ARCHITECTURES
from framebench.models.differentiable import Differentiable
from framebench.models.predictor import CHUNK, Predictor
from tests.conftest import make_network


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_agrees_with_the_eager_model(arch, images):
    model = make_network(arch)
    predictor = Predictor(model, images)
    assert predictor.kind == "fused"
    with torch.inference_mode():
        want = model(images)
    torch.testing.assert_close(predictor(images), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["fused", "eager"])
@pytest.mark.parametrize("arch", ["resnet18", "speednet"])
def test_logits_depend_on_neither_the_batch_nor_the_threads(arch, kind):
    model = make_network(arch)
    x = torch.rand(3 * CHUNK + 5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    one, two = (Predictor(model, x, threads=t, kind=kind) for t in (1, 2))
    whole = one(x)
    assert torch.equal(two(x), whole)
    for size in (1, 2, 7, CHUNK, CHUNK + 1):
        for predictor in (one, two):
            parts = torch.cat([predictor(part) for part in torch.split(x, size)])
            assert torch.equal(parts, whole), size
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    assert torch.equal(two(x[shuffled]), whole[shuffled])


class _RoundsBySize(nn.Module):
    """Answers as libraries do that choose an algorithm by the number of images."""

    def forward(self, x):
        return x.mean((2, 3)) + (1e-6 if len(x) < CHUNK else 0)


def test_a_model_whose_roundings_go_by_the_size_of_a_batch_is_given_whole_chunks():
    x = torch.rand(CHUNK + 3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    predictor = Predictor(_RoundsBySize().eval(), x[:3], kind="eager")
    whole = predictor(x)
    assert torch.equal(torch.cat([predictor(part) for part in x.split(1)]), whole)
    assert torch.equal(predictor(x[:7]), whole[:7]) and predictor(x[:0]).shape == (0, 3)


class _Rows(TorchFunctionMode):
    """Notes the rows of every input of a linear layer."""

    rows: tuple[int, ...] = ()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.rows += (len(args[0]),) if func is F.linear else ()
        return func(*args, **(kwargs or {}))


class _Leaf(nn.Module):
    __module__ = "torch.nn"  # a trace does not enter torch's own layers

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(48, 48)

    def forward(self, x):
        return self.linear(x)


class _Linears(nn.Module):
    """A layer used twice, a function, a weight that a hook computes, and a layer inside a layer of torch's."""

    def __init__(self):
        super().__init__()
        self.same, self.weight, self.leaf = nn.Linear(48, 48), nn.Parameter(torch.eye(48)), _Leaf()
        self.hooked = nn.utils.spectral_norm(nn.Linear(48, 48))

    def forward(self, x):
        x = F.linear(self.same(self.same(F.avg_pool2d(x, 8).flatten(1))), weight=self.weight)
        return self.hooked(self.leaf(x))


@pytest.mark.parametrize("kind", ["fused", "eager"])
def test_linear_layers_compute_as_many_rows_for_few_images_as_for_a_chunk(images, kind):
    model = _Linears().eval()
    for name, parameter in model.named_parameters():  # exact sums, whatever kernel computes them
        (nn.init.zeros_ if "bias" in name else nn.init.eye_)(parameter)
    predictor = Predictor(model, images, kind=kind)
    with _Rows() as seen, torch.inference_mode():
        got = predictor(images[:3])
    assert seen.rows == (CHUNK,) * 5
    torch.testing.assert_close(got, model(images[:3]), rtol=1e-5, atol=1e-5)


class _OtherRows(nn.Module):
    """Answers with a row too many, or with one for all images."""

    def __init__(self, averages):
        super().__init__()
        self.averages = averages

    def forward(self, x):
        logits = x.mean((2, 3))
        return logits.mean(0, keepdim=True) if self.averages else torch.cat([logits[:1], logits])


@pytest.mark.parametrize("averages", [False, True])
def test_a_model_that_gives_another_number_of_rows_is_refused(images, averages):
    with pytest.raises(InputError, match="one row"):
        Predictor(_OtherRows(averages).eval(), images)(images)


class _InPlace(nn.Module):
    def forward(self, x):
        return x.sub_(0.5).mean((2, 3))


@pytest.mark.parametrize("kind", [None, "eager"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_that_works_in_place_changes_none_of_the_callers_images(images, kind, threads):
    before = images.clone()
    predictor = Predictor(_InPlace().eval(), images, kind=kind, threads=threads)
    first, second = predictor(images), predictor(images)
    assert torch.equal(images, before) and torch.equal(first, second)
    torch.testing.assert_close(first, (before - 0.5).mean((2, 3)))


class _Answers(nn.Module):
    """Answers with whatever a function makes of the images and the logits."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, 0

    def forward(self, x):
        self.calls += 1
        return self.answer(self, x.mean((2, 3)))


def _raises(error):
    def answer(*_):
        raise error
    return answer


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), CancelledError(),
                                   type("Own", (BaseException,), {})(), ValueError("on\nSundays"), MemoryError(),
                                   StopIteration(), torch.OutOfMemoryError("CUDA out of memory")])
def test_whatever_a_model_raises_is_one_line_with_its_name(images, error):
    predictor = Predictor(_Answers(_raises(error)).eval(), images, name="mine")
    with pytest.raises(InputError, match=f"mine .*{type(error).__name__}") as raised:
        predictor(images)
    assert "\n" not in str(raised.value) and raised.value.__cause__ is error


@pytest.mark.parametrize("answer", [
    lambda _, logits: None, lambda _, logits: {"logits": logits}, lambda _, logits: logits.numpy(),
    lambda _, logits: logits.to(torch.complex64), lambda _, logits: logits.to_sparse(), lambda _, logits: logits[0],
    lambda model, logits: logits if model.calls < 30 else torch.cat([logits, logits], 1)])
def test_what_is_no_row_of_logits_per_image_is_refused(images, answer):
    with pytest.raises(InputError, match="mine returns"):
        predictor = Predictor(_Answers(answer).eval(), images, kind="eager", name="mine")
        for _ in range(40):
            predictor(images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_come_as_float32(images, dtype):
    predictor = Predictor(_Answers(lambda _, logits: logits.to(dtype)).eval(), images)
    logits = predictor(images)
    assert logits.dtype == torch.float32 and torch.equal(logits, images.mean((2, 3)).to(dtype).float())


class _Careless(nn.Linear):
    def eval(self):
        self.train(False)

    def to(self, *where, **how):
        super().to(*where, **how)


def test_eval_and_to_may_return_nothing(images):
    class Whole(_Careless):
        def forward(self, x):
            return super().forward(x.flatten(1))

    model = Whole(3072, 10)
    assert Predictor(model, images)(images).shape == (12, 10) and not model.training


def test_float32_rows_of_an_attack_are_the_same_at_any_batch_size_and_thread_count(network, images):
    center = Predictor(network, images)(images).mean(0)  # an untrained network prefers one class by far
    results = []
    for threads, size in itertools.product((1, 2), (1, 7, 256)):
        predictor = Predictor(network, images, threads=threads)
        labels = (predictor(images) - center).argmax(1)
        results.append(simba(lambda x, p=predictor: p(x) - center, images, labels, max_iterations=60, batch_size=size))
    assert (results[0].success_iteration > 0).any()
    for other in results[1:]:
        for name in ("x_adv", "success_iteration", "queries"):
            assert torch.equal(getattr(results[0], name), getattr(other, name)), name


def test_a_model_that_cannot_be_traced_runs_as_it_is(images):
    class Branching(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if float(x.mean()) > 0 else x.sum((2, 3))

    predictor = Predictor(Branching(), images)
    assert predictor.kind == "eager"
    torch.testing.assert_close(predictor(images), images.mean((2, 3)))
    with pytest.raises(InputError, match="can.t be fused"):
        Predictor(Branching(), images, kind="fused")


class Moody(nn.Module):
    """Flips its images at some calls; `mood` says at which. A trace would flip them always or never."""

    def __init__(self, mood):
        super().__init__()
        self.network, self.mood, self.calls = make_network("speednet"), mood, 0
        self.register_buffer("counted", torch.zeros((), dtype=torch.bfloat16))

    def forward(self, x):
        return self.network(x.flip(3) if self.mood(self) else x)


def _every_ninth(model):
    model.calls += 1
    return model.calls % 9 == 0


def _from_a_buffer(model):
    model.counted += 1
    return getattr(model.counted, "item", int)() == 40


@pytest.mark.parametrize("mood", [
    lambda model: random.random() < 1e-6, lambda model: np.random.random() < 1e-6,  # noqa: NPY002
    lambda model: bool(torch.rand(()) < 1e-6), _every_ninth, _from_a_buffer],
    ids=["python", "numpy", "torch", "attribute", "buffer"])
def test_a_model_that_does_not_answer_for_its_images_alone_runs_as_it_is(images, mood):
    assert Predictor(Moody(mood), images).kind == "eager"


def test_a_model_with_state_that_stands_still_is_fused(images):
    assert Predictor(Moody(lambda model: model.calls), images).kind == "fused"


def test_a_model_is_fused_though_another_thread_draws_meanwhile(images):
    calls = []

    def disturbed(model):
        calls.append(len(calls))
        if len(calls) in (2, 3, 6):
            thread = threading.Thread(target=random.random)
            thread.start()
            thread.join()
        return False

    assert Predictor(Moody(disturbed), images).kind == "fused" and len(calls) > 6


def test_a_model_that_fails_prints_nothing(images, capfd):
    Predictor(nn.Sequential(nn.Conv2d(1, 2, 3)), images)
    assert capfd.readouterr().err == ""


def test_a_fused_form_that_disagrees_is_not_used(network, images, monkeypatch):
    monkeypatch.setattr("framebench.models.predictor.fuse",
                        lambda model, example, rows: nn.Sequential(network, nn.Softmax(1)))
    assert Predictor(network, images).kind == "eager"


def test_double_precision_is_not_fused(network, images):
    predictor = Predictor(network.double(), images.double())
    assert predictor.kind == "eager"
    assert predictor(images.double()).dtype == torch.float64


def test_sums_of_other_shapes_and_branches_are_left_alone(images):
    class Odd(nn.Module):
        """A convolution used twice, a sum with a broadcast, a sum of a tensor with itself, dilation and groups."""

        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 6, 3, padding=1)
            self.b = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3)
            self.c = nn.Conv2d(6, 6, 3, padding="same")
            self.d = nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular")
            self.bias = nn.Parameter(torch.randn(1, 6, 1, 1))

        def forward(self, x):
            y = self.a(x)
            z = torch.relu(self.b(y) + self.bias)
            z = z + y
            w = self.b(z)
            return torch.relu(self.d(self.c(w + w) + z)).mean((2, 3))

    torch.manual_seed(0)
    model = Odd().eval()
    predictor = Predictor(model, images)
    assert predictor.kind == "fused"
    with torch.inference_mode():
        torch.testing.assert_close(predictor(images), model(images), rtol=1e-5, atol=1e-5)


def test_no_images_give_no_logits(network, images):
    assert Predictor(network, images)(images[:0]).shape == (0, 10)


@pytest.mark.parametrize("form", [Predictor, Differentiable])
def test_answers_are_no_memory_of_a_model_that_uses_its_own_again(images, form):
    class Thrifty(nn.Module):
        def __init__(self):
            super().__init__()
            self.answers = torch.zeros(64, 3)

        def forward(self, x):
            answers = self.answers[: len(x)]
            answers.copy_(x.flatten(1)[:, :3])
            return answers

    predict = form(Thrifty(), images[:4])
    several = torch.cat([images] * 20)[:70]
    first = predict(several)
    assert torch.equal(first, several.flatten(1)[:, :3]), "whatever its chunks"
    kept = first.clone()
    predict(1 - several)
    assert predict.copies and torch.equal(first, kept)


def test_logits_do_not_depend_on_the_size_of_chunks_that_is_taken():
    model = make_network("speednet")
    x = torch.rand(150, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    whole = Predictor(model, x)(x)
    for size, threads in itertools.product((4, 64), (1, 2)):
        predictor = Predictor(model, x[:32], threads=threads)
        assert predictor.take_chunks(size, x[:32]) and predictor.chunk == size
        for batch in (1, 7, 65, 150):
            assert torch.equal(torch.cat([predictor(part) for part in x.split(batch)]), whole), (size, threads, batch)


def test_a_model_that_needs_whole_chunks_takes_no_smaller_ones():
    x = torch.rand(CHUNK, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    predictor = Predictor(_RoundsBySize().eval(), x, kind="eager")
    assert not predictor.take_chunks(8, x) and predictor.chunk == CHUNK
    assert predictor.take_chunks(32, x) and predictor(x[:7]).equal(predictor(x)[:7])


def test_a_model_that_fails_on_more_images_keeps_its_chunks(images):
    def answer(_, logits):
        if len(logits) > CHUNK:
            raise MemoryError
        return logits

    predictor = Predictor(_Answers(answer).eval(), images)
    assert not predictor.take_chunks(64, images)
    assert predictor(images.repeat(9, 1, 1, 1)).shape == (108, 3)
