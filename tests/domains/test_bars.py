from __future__ import annotations

import pytest

from framebench.domains.bars import counted
from framebench.progress import quiet


@pytest.mark.parametrize(("least", "silent", "shown"), [(10, False, True), (11, False, False), (10, True, False)])
def test_a_bar_is_shown_for_long_work_unless_quiet(capsys, least, silent, shown):
    with quiet(silent), counted(10, desc="decoding", unit="image", least=least) as done:
        done(10)
    assert ("decoding" in capsys.readouterr().err) == shown
