"""Damage: bytes, JSON and lines that are nearly what they should be."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

#: Tries one input, drawn from hypothesis' data, in a folder of its own.
Target = Callable[[Path, Any], object]
#: Numbers at which sizes and offsets overflow.
_NUMBERS = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
#: Values that a field rarely has.
ODD = st.one_of(
    st.none(), st.booleans(), st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**30]), st.integers(),
    st.floats(), st.text(max_size=8), st.sampled_from(["", "x" * 3000, "\0", "\x1b[31m\n", "../..", "\ud800", "nan"]),
    st.lists(st.integers(-2, 300), max_size=4), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))


def damaged(data: Any, content: bytes) -> bytes:
    """Return bytes with up to four faults: flipped bits, cuts, holes, repeats, numbers at the limits."""
    for _ in range(data.draw(st.integers(1, 4))):
        if not content:
            return data.draw(st.binary(max_size=64))
        at = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, min(len(content), 256) - 1)))
        length = data.draw(st.sampled_from([1, 2, 4, 8, 100, 5000]))
        kind = data.draw(st.integers(0, 7))
        if kind <= 1:
            bits = bytes([content[at] ^ 1 << data.draw(st.integers(0, 7))])
            content = content[:at] + bits + content[at + 1 :]
        elif kind == 2:
            content = content[:at]
        elif kind == 3:
            content = content[:at] + content[at + length :]
        elif kind == 4:
            content = content[:at] + bytes(len(content[at : at + length])) + content[at + length :]
        elif kind == 5:
            content = content[: at + length] + content[at:]
        elif kind == 6:
            size, order = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.sampled_from(["little", "big"]))
            number = data.draw(st.sampled_from(_NUMBERS)) % 256**size
            content = content[:at] + number.to_bytes(size, order) + content[at + size :]
        else:
            content = content[:at] + data.draw(st.binary(max_size=16)) + content[at:]
    return content


def changed(data: Any, value: Any) -> Any:
    """Return a JSON value with up to three entries replaced, removed or added."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        value = _changed(data, value)
    return value


def _changed(data: Any, value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or data.draw(st.integers(0, 9)) == 0:
        return data.draw(ODD)
    key = data.draw(st.sampled_from(keys))
    action = data.draw(st.integers(0, 9))
    if action == 0:
        del value[key]
    elif action == 1 and isinstance(value, dict):
        value[data.draw(st.text(max_size=4))] = data.draw(ODD)
    elif action == 1:
        value.insert(key, data.draw(ODD))
    else:
        value[key] = _changed(data, value[key])
    return value


def dumped(value: Any) -> bytes:
    """Return a value as JSON, with whatever text it has."""
    return json.dumps(value).encode()


def tensors_damaged(data: Any, content: bytes) -> bytes:
    """Damage a safetensors file anywhere, or in the fields of its header alone."""
    if data.draw(st.booleans()):
        return damaged(data, content)
    end = 8 + int.from_bytes(content[:8], "little")
    header = dumped(changed(data, json.loads(content[8:end])))
    return len(header).to_bytes(8, "little") + header + content[end:]
