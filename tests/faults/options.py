"""Protocols, and KEY=VALUE options."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bench.options.attack import AttackOptions
from bench.options.common import options_of
from bench.options.protocol import FOLDER
from bench.options.shift import ShiftOptions
from bench.options.train import TrainOptions
from framebench.attacks.registry import make
from framebench.models.architectures import build
from framebench.models.checkpoint import save
from framebench.models.registry import load
from framebench.models.regularizers import REGULARIZERS
from framebench.models.regularizers import build as build_regularizer
from tests.faults.models import CARD
from tests.faults.mutate import Target, damaged, dumped


def protocols(prepared: Path) -> Target:
    """TOML files: any values for the keys that there are, and damaged text."""
    kinds = {"attack": AttackOptions, "shift": ShiftOptions}
    texts = [path.read_bytes() for path in sorted(FOLDER.glob("*.toml"))]
    keys = {name: [how.key for how in options_of(kind).values()] for name, kind in kinds.items()}

    def run(own: Path, data: Any) -> None:
        command = data.draw(st.sampled_from(sorted(kinds)))
        if data.draw(st.booleans()):
            text = damaged(data, data.draw(st.sampled_from(texts)))
        else:
            chosen = data.draw(st.lists(st.sampled_from([*keys[command], "x"]), max_size=4))
            lines = [f"{key} = {data.draw(_toml())}" for key in chosen]
            text = "\n".join([f"[{command}]", *lines]).encode(errors="replace")
        path = own / "p.toml"
        path.write_bytes(text)
        options = kinds[command](protocol=str(path))
        options.command_line()
    return run


def _toml() -> Any:
    simple = st.one_of(st.booleans().map(lambda value: str(value).lower()), st.integers().map(str),
                       st.sampled_from(["inf", "nan", "-0.0", "1e400", "1979-05-27", "07:32:00", "{a = 1}", "[]",
                                        "[[1]]", '"pixel"', '"8/255"', '"1/0"', "0x10", "8", "[1, 2]", '["a", "b"]',
                                        '"dct"', '""', "0.5"]),
                       st.text(max_size=6).map(lambda text: json.dumps(text)), st.floats().map(str))
    return st.one_of(simple, st.lists(simple, max_size=3).map(lambda values: f"[{', '.join(values)}]"))


_WORDS = st.one_of(
    st.text(max_size=8), st.integers().map(str), st.floats().map(str),
    st.sampled_from(["true", "none", "1/0", "8/255", "1,2", "nan", "inf", "-1", "0", "1", "1e308", "0.5", ",", "1,,2",
                     "", "Linf", "L2", "=", "a=b", "x" * 5000, "9" * 5000, "1_0", "٣", "l1", "ce", "min", "1e-320"]))


def pairs(prepared: Path) -> Target:
    """KEY=VALUE options of attacks and of regularizers, and the options in ``state:`` names."""
    prepared.mkdir()
    weights = save(build("speednet", width=4), CARD, prepared)
    attacks = ["square", "apgd", "autoattack", "simba", "noise", "foolbox:LinfPGD", "foolbox:HopSkipJumpAttack",
               "foolbox:BoundaryAttack", "foolbox:DDNAttack", "foolbox:EADAttack", "foolbox:L2CarliniWagnerAttack"]
    keys = ["norm", "version", "iterations", "queries", "targets", "restarts", "loss", "eot", "p_init", "minimise",
            "rho", "steps", "stepsize", "rel_stepsize", "abs_stepsize", "random_start", "budget", "basis", "epsilon",
            "self", "decision_rule", "regularization", "confidence", "stepsizes", "init_attack", "lr", "target"]
    options = sorted({key for kind in REGULARIZERS.values() for key in inspect.signature(kind).parameters} | {"x"})

    def run(own: Path, data: Any) -> None:
        def given(names: list[str]) -> list[str]:
            key = st.one_of(st.sampled_from(names), st.text(max_size=5))
            return [f"{data.draw(key)}={data.draw(_WORDS)}" for _ in range(data.draw(st.integers(0, 3)))]
        which = data.draw(st.integers(0, 2))
        if which == 0:
            name = data.draw(st.sampled_from(attacks))
            chosen = AttackOptions(attack=name, attack_options=given(keys), budgets=[3], epsilon=[0.1])
            attack = make(name, budget=chosen.budgets[-1], epsilon=0.1, options=dict(chosen.attack_options))
            attack.check((3, 32, 32))
            dumped(attack.settings)
        elif which == 1:
            name = data.draw(st.sampled_from(sorted(REGULARIZERS)))
            recipe = TrainOptions(regularizer=name, regularizer_options=given(options), arch="speednet",
                                  width=4).recipe(0)
            build_regularizer(name, **recipe.regularizer_options)(build("speednet", width=4))
        else:
            words = ",".join(["speednet", *given(["width", "classes", "mean", "std", "size", "interpolation"])])
            load(f"state:{words}:{weights}")
    return run
