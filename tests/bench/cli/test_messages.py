"""The library logs; the command line prints, all of it or only what matters."""

from __future__ import annotations

import logging

from bench.cli.messages import printed
from bench.run import main


def _say():
    logging.getLogger("bench.somewhere").info("data: %d images", 3)
    logging.getLogger("framebench.models.some").warning("it is odd")


def test_what_the_library_says_is_printed_inside_alone(capsys):
    with printed(quiet=False):
        _say()
        _say()
    assert capsys.readouterr().out == "data: 3 images\nwarning: it is odd\ndata: 3 images\n", "a warning once"
    with printed(quiet=True):
        _say()
    assert capsys.readouterr().out == "warning: it is odd\n"
    logging.getLogger("bench.somewhere").info("nobody listens")
    assert capsys.readouterr().out == ""
    assert not logging.getLogger("bench").handlers and not logging.getLogger("framebench").handlers


def test_quiet_leaves_results_and_no_bar(tmp_path, model_file, capsys):
    command = ["attack", "--models", f"python:{model_file}:linear", "--budgets", "5", "-n", "4", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path / "loud")]) == 0
    loud = capsys.readouterr()
    assert loud.out.startswith("data: ") and "ASR" in loud.out and loud.err
    assert main([*command, "--out", str(tmp_path / "quiet"), "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert "data: " not in quiet.out and "ASR" in quiet.out and quiet.err == ""


def test_quiet_still_says_what_is_wrong(tmp_path, model_file, capsys):
    command = ["attack", "--models", f"python:{model_file}:probabilities", "--budgets", "5", "--threads", "1",
               "--quiet", "--out", str(tmp_path)]
    assert main(command) == 0
    assert "warning: factories:probabilities" in capsys.readouterr().out
    assert main([*command, "-n", "500"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
