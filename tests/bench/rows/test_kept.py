from __future__ import annotations

import pandas as pd
import pytest

from bench.rows.kept import KeptTable
from framebench.errors import InputError
from framebench.files import seal

TABLE = KeptTable("things", keys=["name"], columns=["name", "value"], texts=["name"])


def test_a_table_grows_and_its_copy_follows(tmp_path):
    assert TABLE.read(tmp_path).empty
    TABLE.write(tmp_path, pd.DataFrame({"name": ["a"], "value": [1]}))
    TABLE.write(tmp_path, pd.DataFrame({"name": ["a", "b"], "value": [2, 3]}), TABLE.read(tmp_path))
    assert TABLE.read(tmp_path).values.tolist() == [["a", 2], ["b", 3]]
    assert pd.read_csv(tmp_path / "things.csv").values.tolist() == [["a", 2], ["b", 3]]
    assert len(list((tmp_path / "kept").glob("things-*"))) == 1


def test_what_is_written_replaces_what_was_there(tmp_path):
    TABLE.write(tmp_path, pd.DataFrame({"name": ["a"], "value": [1]}))
    TABLE.write(tmp_path, pd.DataFrame(columns=["name", "value"]))
    assert TABLE.read(tmp_path).empty and (tmp_path / "things.csv").read_text().strip() == "name,value"


def test_a_changed_file_is_refused_and_its_copy_is_not_read(tmp_path):
    TABLE.write(tmp_path, pd.DataFrame({"name": ["a"], "value": [1]}))
    (tmp_path / "things.csv").write_text("nonsense")
    assert TABLE.read(tmp_path).values.tolist() == [["a", 1]]
    (path,) = (tmp_path / "kept").glob("things-*")
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    with pytest.raises(InputError, match=path.name):
        TABLE.read(tmp_path)


def test_names_stay_as_they_are(tmp_path):
    for value in (1, 2):  # the second time in the place of the first
        new = pd.DataFrame({"name": ["007", "NA", "1e3"], "value": [value, None, value]})
        TABLE.write(tmp_path, new, TABLE.read(tmp_path))
    found = TABLE.read(tmp_path)
    assert found["name"].tolist() == ["007", "NA", "1e3"]
    assert found["value"].tolist()[::2] == [2, 2] and found["value"].isna().tolist() == [False, True, False]


def test_a_text_in_the_place_of_a_number_is_refused_though_the_checksum_fits(tmp_path):
    path = seal(tmp_path / "kept", "things", ".csv", b"name,value\na,1\nb,two\n")
    with pytest.raises(InputError, match=path.name):
        TABLE.read(tmp_path)
