from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from framebench.identity import fingerprint
from framebench.models.registry import load

THRESHOLD = 0.5


def above(batch):
    return batch > THRESHOLD


def helper(x):
    return 2 * x


def helped(x):
    return helper(x)


def closed(value):
    return lambda x: x * value


def defaulted(value):
    def function(x, factor=value, *, offset=value):
        return factor * x + offset
    return function


def ignoring(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper


class Service:
    scale = 1.0

    def __init__(self, address, tries=0):
        self.address, self.calls, self.tries, self.weights = address, 0, tries, np.arange(3)

    def __call__(self, batch):
        self.calls += 1
        self._note(batch)
        return batch * self.weights

    def _note(self, batch):
        self.last = len(batch)

    def set_tries(self, tries):
        self.tries = tries


class Sibling(Service):
    scale = 2.0


class Told(Service):
    def answers_depend_on(self):
        return self.address


@pytest.mark.parametrize(("one", "other"), [
    (lambda x: x + 1, lambda x: x + 2), (lambda x: x + 1, lambda x: x - 1), (lambda x: x.a, lambda x: x.b),
    (lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x]), (closed(1), closed(2)), (closed([1]), closed([2])),
    (closed(np.zeros(3)), closed(np.ones(3))), (closed(torch.zeros(3)), closed(torch.ones(3))),
    (closed(lambda x: x), closed(lambda x: -x)), (closed(nn.Linear(3, 2)), closed(nn.Linear(3, 2))),
    (defaulted(1), defaulted(2)), (functools.partial(helper, 1), functools.partial(helper, 2)),
    (functools.partial(helper, 1), functools.partial(above, 1)), (np.exp, np.log), (torch.relu, torch.sigmoid),
    (len, max),
    (Service("a"), Service("b")), (Service("a"), Sibling("a")), (Service("a", 1), Service("a", 2)),
    (Service("a").__call__, Service("b").__call__), (ignoring(closed(1)), ignoring(closed(2))),
    (torch.no_grad()(closed(1)), torch.no_grad()(closed(2))), (np.vectorize(closed(1)), np.vectorize(closed(2))),
    (functools.lru_cache(closed(1)), functools.lru_cache(closed(2))), (Told("a"), Told("b"))])
def test_what_answers_differently_is_told_apart(one, other):
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(one)


def test_a_global_counts_and_what_it_refers_to(monkeypatch):
    before = fingerprint(above), fingerprint(helped)
    monkeypatch.setitem(globals(), "THRESHOLD", 0.6)
    monkeypatch.setitem(globals(), "helper", lambda x: 3 * x)
    assert fingerprint(above) != before[0] and fingerprint(helped) != before[1]


def test_a_method_and_a_base_class_count(monkeypatch):
    before = fingerprint(Sibling("a"))
    monkeypatch.setattr(Service, "_note", lambda self, batch: None)
    assert fingerprint(Sibling("a")) != before


def test_what_a_call_assigns_does_not_count():
    service, n = Service("a"), 0

    def counting(batch):
        nonlocal n
        n += 1
        return service(batch)

    for function in (service, counting, service.__call__):
        before = fingerprint(function)
        counting(np.ones((2, 3)))
        assert fingerprint(function) == before, "or paid answers would be asked for again"
    service.set_tries(5)  # no call does
    assert fingerprint(service) != fingerprint(Service("a"))


def test_an_object_can_tell_what_its_answers_depend_on():
    assert fingerprint(Told("a", 1)) == fingerprint(Told("a", 2))


def test_cycles_end():
    service, values = Service("a"), [1]
    service.itself = service
    values.append(values)
    assert fingerprint(closed(service)) != fingerprint(closed(values))

    def recursive(n):
        return recursive(n - 1) if n else 0
    assert fingerprint(recursive) != fingerprint(closed(1))


def test_it_is_the_same_in_every_process():
    code = ("from framebench.identity import fingerprint; from tests.framebench.test_identity import *; "
            "print(fingerprint(helped, above, closed({'a', 'b', 'c'}), Service('a'), ignoring(helper), "
            "torch.no_grad()(helper), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), "
            "np.vectorize(helper), Told('b'), lambda x: x in {'u', 'v', 'w'}))")
    root = Path(__file__).parents[2]
    found = {subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed},
                            capture_output=True, text=True, check=True).stdout for seed in "12"}
    assert len(found) == 1 and found.pop().strip()


class Small(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(12, 3)

    def forward(self, x):
        return self.linear(x.flatten(1))


class WithState(Small):
    def __init__(self, seed):
        super().__init__(0)
        object.__setattr__(self, "hidden", [seed])  # found only by get_extra_state

    def get_extra_state(self):
        return {"seed": (self.hidden[0], "text")}

    def set_extra_state(self, state):
        raise NotImplementedError


class Sparse(Small):
    def __init__(self, seed):
        super().__init__(0)
        torch.manual_seed(seed)
        self.register_buffer("weight", torch.randn(3, 12).to_sparse())


class Quantized(Small):
    def __init__(self, seed):
        super().__init__(0)
        torch.manual_seed(seed)
        self.register_buffer("weight", torch.quantize_per_tensor(torch.randn(3, 12), 0.1, 0, torch.qint8))


def frozen(seed):
    return torch.jit.freeze(torch.jit.script(Small(seed).eval()))


def packed(seed):
    return torch.ao.quantization.quantize_dynamic(Small(seed).eval(), {nn.Linear}, dtype=torch.qint8)


KINDS = [frozen, packed, Sparse, Quantized, WithState]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_plain_tensors_count(kind):
    digests = {fingerprint(kind(seed).eval()) for seed in (0, 0, 1)}
    assert len(digests) == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_factory_whose_weights_are_no_plain_tensors_is_identified_by_them(kind, tmp_path):
    needed = "\n".join(map(inspect.getsource, dict.fromkeys([Small, kind])))
    (tmp_path / "mine.py").write_text("import torch\nfrom pathlib import Path\nfrom torch import nn\n" + needed + f"""
def make():
    return {kind.__name__}(int(Path({str(tmp_path / 'seed')!r}).read_text())).eval()
""")
    digests = []
    for seed in (0, 0, 1):
        (tmp_path / "seed").write_text(str(seed))
        digests.append(load(f"python:{tmp_path / 'mine.py'}:make").digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.filterwarnings("ignore")
def test_frozen_torchscript_is_the_same_model_in_every_process(tmp_path):
    """Names of TorchScript's classes depend on what a process has compiled before."""
    torch.jit.save(frozen(0), tmp_path / "a.pt")
    code = f"""
import torch
from torch import nn
from framebench.identity import fingerprint
from framebench.models.registry import load
for _ in range(%d): torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
print(fingerprint(torch.jit.load({str(tmp_path / 'a.pt')!r})))
"""
    printed = {subprocess.run([sys.executable, "-W", "ignore", "-c", code % n], capture_output=True, text=True,
                              check=True).stdout for n in (0, 3)}
    assert len(printed) == 1
