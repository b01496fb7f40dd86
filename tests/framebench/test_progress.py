from __future__ import annotations

import sys

from framebench.progress import progress, quiet


def _lines(monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress(10_000, desc="counting", unit="step", initial=5) as bar:
        for _ in range(9_995):
            bar.update()
    assert bar.disable or bar.n == 10_000
    return capsys.readouterr().err.replace("\r", "\n").strip().splitlines()


def test_a_log_file_is_not_flooded(monkeypatch, capsys):
    lines = _lines(monkeypatch, capsys, terminal=False)
    assert 1 <= len(lines) <= 3 and "counting: 100%" in lines[-1] and "10000/10000" in lines[-1]


def test_quiet_holds_inside_alone(monkeypatch, capsys):
    with quiet():
        assert _lines(monkeypatch, capsys, terminal=True) == []
        with quiet(False):
            assert _lines(monkeypatch, capsys, terminal=True)
        assert _lines(monkeypatch, capsys, terminal=True) == []
    assert _lines(monkeypatch, capsys, terminal=True)
