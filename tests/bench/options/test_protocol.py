from __future__ import annotations

import html
import json

import pandas as pd
import pytest

import framebench
from bench.cli.flags import read_flags
from bench.cli.main import COMMANDS, parser
from bench.options.attack import AttackOptions
from bench.options.protocol import NAMES, protocol_facts
from bench.options.shift import ShiftOptions
from bench.rows.store import Store
from bench.run import main
from framebench.domains.corruptions import BENCHMARK
from framebench.errors import InputError

FILE = """\
# Mine.
[attack]
n = 4
budgets = [1, 3]
max-queries = 50
epsilon = "8/255"
targeted = true

[shift]
domains = ["samples", "samples-c"]
corruptions = ["fog", "contrast"]
severities = [2]
"""


@pytest.fixture
def protocol(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    return path


def attack(*words):
    return read_flags(COMMANDS["attack"].OPTIONS, parser().parse_args(["attack", *map(str, words)]))


def differing(one, other):
    return {name for name in vars(one) if getattr(one, name) != getattr(other, name)} - {"protocol", "given"}


def test_values_are_those_of_flags(protocol):
    given = attack("--protocol", protocol)
    flags = attack("-n", "4", "--budgets", "1", "3", "--max-queries", "50", "--epsilon", "8/255", "--targeted")
    assert differing(given, flags) == set() and flags.protocol is None
    assert set(given.protocol.options) == {"n", "budgets", "max_queries", "epsilon", "targeted"}
    assert AttackOptions(protocol=protocol) == given


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_flags_and_keywords_override_wherever_they_stand(protocol, first):
    flags, named = ["--budgets", "2", "-n", "5"], ["--protocol", protocol]
    options = attack(*(flags + named if first else named + flags))
    assert (options.budgets, options.n, options.max_queries) == ((2,), 5, 50)
    assert options == AttackOptions(budgets=2, n=5, protocol=protocol)
    assert protocol_facts(options) == {"name": "mine.toml", "text": FILE, "overridden": ["n", "budgets"]}
    assert protocol_facts(attack()) is None


def test_a_list_of_one_may_be_its_value(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[attack]\nbudgets = 10\nmodels = "baseline"\nattack-option = "norm=L2"\n')
    given = attack("--protocol", path)
    assert (given.budgets, given.models, given.attack_options) == ((10,), ("baseline",), {"norm": "L2"})


@pytest.mark.parametrize("text", ['["norm=L2", "p_init=0.5", "on=false"]', '{norm = "L2", p-init = 0.5, on = false}'])
def test_attack_options_are_replaced_not_added_to(tmp_path, text):
    path = tmp_path / "p.toml"
    path.write_text(f'[attack]\nattack = "square"\nattack-option = {text}\n')
    assert attack("--protocol", path).attack_options == {"norm": "L2", "p_init": 0.5, "on": False}
    given = ["--attack-option", "norm=L1", "--attack-option", "p_init=0.3"]
    assert attack(*given, "--protocol", path).attack_options == {"norm": "L1", "p_init": 0.3}


@pytest.mark.parametrize(("text", "expected"), [("0.5", (0.5,)), ("[1, '8/255']", (1.0, 8 / 255))])
def test_an_epsilon_is_one_number_or_a_list(tmp_path, text, expected):
    path = tmp_path / "p.toml"
    path.write_text(f"[attack]\nepsilon = {text}\n")
    assert attack("--protocol", path).epsilon == expected
    assert attack("--protocol", path, "--epsilon", "3").epsilon == (3.0,)


def test_what_says_the_same_overrides_nothing(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("[attack]\nbudgets = [2]\nepsilon = 1\n")
    assert protocol_facts(AttackOptions(protocol=path, budgets=2, epsilon=1.0))["overridden"] == []


def test_the_command_that_a_report_shows_names_it_and_what_overrides_it(protocol):
    line = AttackOptions(protocol="demo", budgets=[1, 10], n=20).command_line()
    assert line == "bench attack --protocol demo --budgets 1 10"


def test_rows_and_report_say_the_protocol_and_what_overrode_it(tmp_path, protocol, model_file):
    out = tmp_path / "out"
    command = ["attack", "--protocol", str(protocol), "--models", f"python:{model_file}:linear", "--threads", "1",
               "--out", str(out)]
    assert main(command) == 0
    (rows,) = Store(out).all()
    assert rows.facts.protocol == {"name": "mine.toml", "text": FILE, "overridden": []}
    assert len(rows.frame()) == 4 and pd.read_csv(out / "attack.csv")["budget"].max() > 1
    assert main([*command, "-n", "6"]) == 0
    (rows,) = Store(out).all()
    assert rows.facts.protocol == {"name": "mine.toml", "text": FILE, "overridden": ["n"]}
    assert html.escape(json.dumps(FILE)) in (out / "report" / "index.html").read_text()


def test_shift_notes_it_with_new_rows_and_with_those_that_were_there(tmp_path, protocol, model_file):
    out = tmp_path / "out"
    command = ["shift", "--models", f"python:{model_file}:linear", "--threads", "1", "--out", str(out)]
    assert main([*command, "--domains", "samples", "samples-c", "--corruptions", "fog", "--severities", "2"]) == 0
    assert not any(rows.facts.protocol for rows in Store(out).all())
    assert main([*command, "--protocol", str(protocol)]) == 0
    stored = Store(out).all()
    assert {rows.evaluation.corruption for rows in stored} == {"", "fog", "contrast"}
    assert all(rows.facts.protocol == {"name": "mine.toml", "text": FILE, "overridden": []} for rows in stored)


def test_from_python(tmp_path, protocol, model_file):
    model = f"python:{model_file}:linear"
    results = framebench.attack(model, protocol=protocol, budgets=[2], threads=1)
    assert results.attack["n"].unique().tolist() == [4] and 3 not in results.attack["budget"].tolist()
    shifted = framebench.shift(model, protocol=str(protocol), corruptions=["fog"], match_clean="baseline", threads=1)
    assert sorted(shifted.shift["corruption"].fillna("")) == ["", "fog"]
    protocol.write_text(f'[attack]\nn = 2\nbudgets = [1]\nmodels = ["{model}"]\nout = "{tmp_path / "kept"}"\n')
    results = framebench.attack(protocol=protocol, threads=1)
    assert results.attack["model"].unique().tolist() == ["factories:linear"]
    assert (tmp_path / "kept" / "attack.csv").is_file()


def test_modules_pass_by_the_matching_of_runs(network):
    results = framebench.shift(("mine", network), "baseline", match_clean="baseline", domains=["samples"], threads=1)
    assert set(results.shift["model"]) == {"mine", "baseline"}


@pytest.mark.parametrize(("text", "message"), [
    ("[attack]\nbugdets = [1]", "option in the protocol mine.toml, [attack] 'bugdets'; did you mean budgets"),
    ("[attack]\ntransfer-from = ['x']", "option in the protocol mine.toml, [attack] 'transfer-from'"),
    ("[attack]\nprotocol = 'demo'", "option in the protocol mine.toml, [attack] 'protocol'"),
    ("[atack]\nn = 1", "table in the protocol mine.toml 'atack'; did you mean attack"),
    ("n = 1", "table in the protocol mine.toml 'n'"),
    ("attack = 1", "must be a table; write [attack]"),
    ("[shift]\nn = 1", "has no table [attack]; add one"),
    ("[attack]\nn = '4'", "n in the protocol mine.toml, [attack] must be an integer, not '4'"),
    ("[attack]\nn = 4.0", "must be an integer, not 4.0"),
    ("[attack]\nn = true", "must be an integer, not True"),
    ("[attack]\nn = [4]", "must be an integer, not [4]"),
    ("[attack]\nbudgets = []", "budgets in the protocol mine.toml, [attack] needs one or more"),
    ("[attack]\nbudgets = [1, '2']", "must be an integer, not '2'"),
    ("[attack]\nbudgets = [5, 1]", "each must be larger"),
    ("[attack]\nbudgets = [[1]]", "budgets in the protocol mine.toml, [attack] must be an integer, not [1]"),
    ("[attack]\nmodels = [1]", "must be a name"),
    ("[attack]\nout = 3", "out in the protocol mine.toml, [attack] must be a path, not 3"),
    ("[attack]\ndomain = 1979-05-27", "must be a name"),
    ("[attack]\nlinf = '0.1'", "must be a number"),
    ("[attack]\nepsilon = '8/x'", "must be a number"),
    ("[attack]\nepsilon = [0.1, '2']", "must be a number"),
    ("[attack]\nepsilon = true", "must be a number"),
    ("[attack]\nepsilon = [0.1, 0.1]", "give each value once"),
    ("[attack]\nepsilon = '8/0'", "must be a number"),
    ("[attack]\nseed = -1", "must lie between 0 and"),
    ("[attack]\ntargeted = 1", "must be true or false, not 1"),
    ("[attack]\nbasis = 'dtc'", "basis in the protocol mine.toml, [attack] 'dtc'; did you mean dct"),
    ("[attack]\nattack = 'simab'", "did you mean simba"),
    ("[attack]\nmax-queries = 1\nmax_queries = 2", "has max_queries twice"),
    ("[attack]\nn = ", "is not a TOML file"),
    ("[attack]\nn = 1\nn = 2", "is not a TOML file"),
    (b"[attack]\n# \xff", "is not a TOML file"),
])
def test_bad_files_are_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    out = [] if "out" in str(text) else ["--out", str(tmp_path / "o")]
    assert main(["attack", "--protocol", str(path), *out]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: ") and message in captured.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("name", "message"), [
    ("dmeo", "did you mean demo"),
    ("xyz", "known: FILE.toml, demo, paper, published"),
    ("a/b", "unknown protocol 'a/b'"),
    ("no.toml", "can't read the protocol no.toml"),
])
def test_bad_names(name, message):
    with pytest.raises(InputError, match=message):
        ShiftOptions(protocol=name)


def test_the_paper_is_the_studys():
    paper = attack("--protocol", "paper")
    assert (paper.attack, paper.domain, paper.n) == ("simba", "cifar10", 1000)
    assert paper.budgets == (1, 10, 50, 100, 1000)
    # what the study does not give is left at the benchmark's own defaults
    assert differing(paper, attack()) == {"n", "domain", "epsilon"} and paper.epsilon == (0.2,)
    shift = ShiftOptions(protocol="paper")
    assert len(shift.corruptions) * len(shift.severities) == 75 and shift.corruptions == BENCHMARK
    assert {"cifar10", "cifar10-c", "cinic10"} == set(shift.domains) and shift.match_clean == "baseline"


def test_published_differs_from_the_paper_in_what_explains_its_row():
    published, paper = (attack("--protocol", name) for name in ("published", "paper"))
    assert {name: getattr(published, name) for name in differing(published, paper)} == {
        "n": 100, "basis": "dct", "step": "best-of-two", "objective": "probability", "convention": "normalised-clip",
        "epsilon": (2.0,)}


def test_the_paper_runs_on_what_there_is(tmp_path, data_root, model_file):
    common = ["--protocol", "paper", "--models", f"python:{model_file}:linear", "--data-root", str(data_root), "-n",
              "5", "--threads", "1", "--out", str(tmp_path / "out")]
    assert main(["attack", *common]) == 0
    assert main(["shift", *common, "--domains", "cifar10", "cifar10-c", "--severities", "2"]) == 0
    assert set(pd.read_csv(tmp_path / "out" / "shift_summary.csv")["cells"]) == {1, 15}


def test_the_demo_needs_no_data():
    demo = attack("--protocol", "demo")
    assert demo.domain == "samples" and demo.budgets[-1] <= 100
    assert all(name.startswith("samples") for name in ShiftOptions(protocol="demo").domains)
    assert set(NAMES) == {"demo", "paper", "published"}
