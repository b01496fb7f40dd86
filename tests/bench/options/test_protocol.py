from __future__ import annotations

import html
import json
import subprocess
import sys

import pandas as pd
import pytest

import bench
from bench.options.protocol import FOLDER, NAMES, parse, tomllib
from bench.rows.store import Store
from bench.run import main, parser
from framebench.errors import InputError

FILE = """\
# Mine.
[attack]
n = 4
budgets = [1, 3]
max-queries = 50
attack_option = []
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
    path.write_text(FILE.replace("attack_option = []\n", ""))
    return path


def _parsed(*argv):
    return parse(parser(), argv)


def test_values_are_defaults_with_the_types_of_flags(protocol):
    given = vars(_parsed("attack", "--protocol", str(protocol)))
    flags = vars(_parsed("attack", "-n", "4", "--budgets", "1", "3", "--max-queries", "50", "--epsilon", "8/255",
                         "--targeted"))
    assert given.pop("protocol").options == {name: flags[name] for name in ("n", "budgets", "max_queries", "epsilon",
                                                                            "targeted")}
    assert flags.pop("protocol") is None and given == flags
    assert vars(_parsed("attack", "-n", "5"))["budgets"] is None, "one parse leaves nothing to the next"


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_flags_override_wherever_they_stand(protocol, first):
    flags, named = ["--budgets", "2", "-n", "5"], ["--protocol", str(protocol)]
    arguments = _parsed("attack", *(flags + named if first else named + flags))
    assert (arguments.budgets, arguments.n, arguments.max_queries) == ([2], 5, 50)


def test_a_list_of_one_may_be_its_value(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[attack]\nbudgets = 10\nmodels = "baseline"\nattack-option = "norm=L2"\n')
    given = _parsed("attack", "--protocol", str(path))
    assert (given.budgets, given.models, given.attack_option) == ([10], ["baseline"], ["norm=L2"])


def test_attack_options_are_replaced_not_added_to(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[attack]\nattack = "square"\nattack-option = ["norm=L2", "p_init=0.5"]\n')
    assert _parsed("attack", "--protocol", str(path)).attack_option == ["norm=L2", "p_init=0.5"]
    given = ["--attack-option", "norm=L1", "--attack-option", "p_init=0.3"]
    assert _parsed("attack", *given, "--protocol", str(path)).attack_option == ["norm=L1", "p_init=0.3"]


def test_an_epsilon_is_one_number_or_a_list(tmp_path, model_file):
    path = tmp_path / "p.toml"
    for text, expected in (("0.5", [0.5]), ("[1, '8/255']", [1.0, 8 / 255])):
        path.write_text(f"[attack]\nn = 4\nbudgets = [2]\nepsilon = {text}\n")
        arguments = _parsed("attack", "--protocol", str(path))
        assert arguments.epsilon == expected and _parsed("attack", "--protocol", str(path), "--epsilon",
                                                         "3").epsilon == [3.0]
    options = {"out": tmp_path / "out", "threads": 1, "protocol": path}
    results = bench.attack(f"python:{model_file}:linear", **options)
    assert sorted(results.attack["epsilon"].unique()) == pytest.approx([8 / 255, 1])
    path.write_text("[attack]\nn = 4\nbudgets = [2]\nepsilon = 1\n")
    bench.attack(f"python:{model_file}:linear", epsilon=1, **options)
    assert not any("overridden" in rows.facts["protocol"] for rows in Store(tmp_path / "out").all())


def test_rows_and_report_say_the_protocol_and_what_overrode_it(tmp_path, protocol, model_file):
    out = tmp_path / "out"
    command = ["attack", "--protocol", str(protocol), "--models", f"python:{model_file}:linear", "--threads", "1",
               "--out", str(out)]
    assert main(command) == 0
    (rows,) = Store(out).all()
    assert rows.facts["protocol"] == {"name": "mine.toml", "text": protocol.read_text()}
    assert len(rows.frame()) == 4 and pd.read_csv(out / "attack.csv")["budget"].max() > 1
    assert main([*command, "-n", "6"]) == 0
    (rows,) = Store(out).all()
    assert rows.facts["protocol"] == {"name": "mine.toml", "text": protocol.read_text(), "overridden": ["n"]}
    assert html.escape(json.dumps(protocol.read_text())) in (out / "report" / "index.html").read_text()


def test_shift_notes_it_with_new_rows_and_with_those_that_were_there(tmp_path, protocol, model_file):
    out = tmp_path / "out"
    command = ["shift", "--models", f"python:{model_file}:linear", "--threads", "1", "--out", str(out)]
    assert main([*command, "--domains", "samples", "samples-c", "--corruptions", "fog", "--severities", "2"]) == 0
    assert not any("protocol" in rows.facts for rows in Store(out).all())
    assert main([*command, "--protocol", str(protocol)]) == 0
    stored = Store(out).all()
    assert {rows.evaluation.corruption for rows in stored} == {"", "fog", "contrast"}
    assert all(rows.facts["protocol"] == {"name": "mine.toml", "text": protocol.read_text()} for rows in stored)


def test_from_python(tmp_path, protocol, model_file):
    model = f"python:{model_file}:linear"
    results = bench.attack(model, protocol=protocol, budgets=[2], threads=1)
    assert results.attack["n"].unique().tolist() == [4] and 3 not in results.attack["budget"].tolist()
    shifted = bench.shift(model, protocol=str(protocol), corruptions=["fog"], match_clean="baseline", threads=1)
    assert sorted(shifted.shift["corruption"].fillna("")) == ["", "fog"]
    protocol.write_text(f'[attack]\nn = 2\nbudgets = [1]\nmodels = ["{model}"]\nout = "{tmp_path / "kept"}"\n')
    assert bench.attack(protocol=protocol, threads=1).attack["model"].unique().tolist() == ["factories:linear"]
    assert (tmp_path / "kept" / "attack.csv").is_file()
    with pytest.raises(InputError, match="unknown protocol 'papr'; did you mean paper"):
        bench.attack(model, protocol="papr")


def test_modules_pass_by_the_matching_of_runs(network):
    results = bench.shift(("mine", network), "baseline", match_clean="baseline", domains=["samples"], threads=1)
    assert set(results.shift["model"]) == {"mine", "baseline"}


@pytest.mark.parametrize(("text", "message"), [
    ("[attack]\nbugdets = [1]", "unknown option in the protocol mine.toml, [attack] 'bugdets'; did you mean budgets"),
    ("[attack]\ntransfer-from = ['x']", "unknown option in the protocol mine.toml, [attack] 'transfer-from'"),
    ("[atack]\nn = 1", "unknown table in the protocol mine.toml 'atack'; did you mean attack"),
    ("n = 1", "unknown table in the protocol mine.toml 'n'"),
    ("attack = 1", "must be a table; write [attack]"),
    ("[shift]\nn = 1", "has no table [attack]; add one"),
    ("[attack]\nn = '4'", "n in the protocol mine.toml, [attack] must be an integer, not '4'"),
    ("[attack]\nn = 4.0", "must be an integer, not 4.0"),
    ("[attack]\nn = true", "must be an integer, not True"),
    ("[attack]\nn = [4]", "must be an integer, not [4]"),
    ("[attack]\nbudgets = []", "must be a list of one or more"),
    ("[attack]\nbudgets = [1, '2']", "must be an integer, not '2'"),
    ("[attack]\nbudgets = [5, 1]", "each larger than the last"),
    ("[attack]\nbudgets = [[1]]", "budgets in the protocol mine.toml, [attack] must be an integer, not [1]"),
    ("[attack]\nmodels = [1]", "must be a string, not 1"),
    ("[attack]\nout = 3", "out in the protocol mine.toml, [attack] must be a string, not 3"),
    ("[attack]\ndomain = 1979-05-27", "must be a string"),
    ("[attack]\nlinf = '0.1'", "must be a number, not '0.1'"),
    ("[attack]\nepsilon = '8/x'", "can't be '8/x'"),
    ("[attack]\nepsilon = []", "epsilon in the protocol mine.toml, [attack] must be a list of one or more"),
    ("[attack]\nepsilon = [0.1, '2']", "must be a number, not '2'"),
    ("[attack]\nepsilon = true", "must be a number, not True"),
    ("[attack]\nepsilon = [0.1, 0.1]", "give each epsilon once"),
    ("[attack]\nepsilon = '8/0'", "divides by zero"),
    ("[attack]\nseed = -1", "must lie between 0 and"),
    ("[attack]\ntargeted = 1", "must be true or false, not 1"),
    ("[attack]\nbasis = 'dtc'", "unknown value of basis in the protocol mine.toml, [attack] 'dtc'; did you mean dct"),
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
    ("dmeo", "unknown protocol 'dmeo'; did you mean demo"),
    ("xyz", "known: FILE.toml, demo, paper, published"),
    ("a/b", "unknown protocol 'a/b'"),
    ("no.toml", "can't read the protocol no.toml (No such file or directory); give a TOML file, or one of demo, paper, "
     "published"),
])
def test_bad_names(capsys, name, message):
    assert main(["shift", "--protocol", name]) == 2
    assert message in capsys.readouterr().err


def test_the_paper_is_the_studys():
    attack = _parsed("attack", "--protocol", "paper")
    assert (attack.attack, attack.domain, attack.n) == ("simba", "cifar10", 1000)
    assert attack.budgets == [1, 10, 50, 100, 1000]
    # what the study does not give is left at the benchmark's own defaults
    bare = vars(_parsed("attack"))
    assert {name for name, value in vars(attack).items() if value != bare[name]} - {"epsilon"} == {
        "protocol", "n", "domain", "budgets"} and attack.epsilon == [0.2]

    from framebench.domains.corruptions import BENCHMARK
    shift = _parsed("shift", "--protocol", "paper")
    assert len(shift.corruptions) * len(shift.severities) == 75 and tuple(shift.corruptions) == BENCHMARK
    assert {"cifar10", "cifar10-c", "cinic10"} == set(shift.domains) and shift.match_clean == "baseline"


def test_published_differs_from_the_paper_in_what_explains_its_row():
    published, paper = (_parsed("attack", "--protocol", name) for name in ("published", "paper"))
    assert {name: value for name, value in vars(published).items() if value != getattr(paper, name)
            and name != "protocol"} == {"n": 100, "basis": "dct", "step": "best-of-two", "objective": "probability",
                                        "convention": "normalised-clip", "epsilon": [2.0]}


def test_the_paper_runs_on_what_there_is(tmp_path, data_root, model_file):
    common = ["--protocol", "paper", "--models", f"python:{model_file}:linear", "--data-root", str(data_root), "-n",
              "5", "--threads", "1", "--out", str(tmp_path / "out")]
    assert main(["attack", *common]) == 0
    assert main(["shift", *common, "--domains", "cifar10", "cifar10-c", "--severities", "2"]) == 0
    assert set(pd.read_csv(tmp_path / "out" / "shift_summary.csv")["cells"]) == {1, 15}


def test_the_demo_needs_no_data():
    demo = _parsed("attack", "--protocol", "demo")
    assert demo.domain == "samples" and demo.budgets[-1] <= 100
    assert all(name.startswith("samples") for name in _parsed("shift", "--protocol", "demo").domains)


def test_shipped_protocols_say_the_same_in_toml():
    assert set(NAMES) == {"demo", "paper", "published"}
    for name in NAMES:
        table = tomllib.loads((FOLDER / f"{name}.toml").read_text())
        for command, options in table.items():
            assert len(_parsed(command, "--protocol", name).protocol.options) == len(options)


def test_help_stays_instant():
    code = ("import sys\nfrom bench.run import main\ntry: main(['attack', '--protocol', 'paper', '--help'])\n"
            "except SystemExit: pass\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and "--protocol P" in run.stdout, run.stderr
