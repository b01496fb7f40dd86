"""The grammar of KEY=VALUE options, the same for attacks, trainings and ``state:`` names."""

from __future__ import annotations

import pytest

from framebench.errors import InputError
from framebench.keyvalue import parse_number, parse_pairs


@pytest.mark.parametrize(("text", "pair"), [
    ("lower=0.5", ("lower", 0.5)), ("power=2", ("power", 2)), ("relative=true", ("relative", True)),
    ("random_start=false", ("random_start", False)), ("random-start=False", ("random_start", False)),
    ("layers=stem,body", ("layers", ("stem", "body"))), ("layers=body", ("layers", "body")), ("x=None", ("x", None)),
    ("eps=8/255", ("eps", 8 / 255)), ("mean=0.4/0.5/0.6", ("mean", "0.4/0.5/0.6")),
    ("gammas=1e-3,2", ("gammas", (1e-3, 2))),
    ("steps=", ("steps", "")), ("path=a=b", ("path", "a=b")), ("x=1/0", ("x", "1/0")),
])
def test_values_are_read_as_what_they_look_like(text, pair):
    (key, value), = parse_pairs([text], "--option").items()
    assert (key, value) == pair and type(value) is type(pair[1])


@pytest.mark.parametrize("texts", [["steps"], ["=3"], ["a b=3"], ["x=1", "x=2"], ["a-b=1", "a_b=2"]])
def test_what_is_no_option_is_refused_with_its_flag(texts):
    with pytest.raises(InputError, match="--option"):
        parse_pairs(texts, "--option")


@pytest.mark.parametrize("text", ["1/0", "a/2", "1/2/3", "x", ""])
def test_what_is_no_number(text):
    with pytest.raises(ValueError):
        parse_number(text)
