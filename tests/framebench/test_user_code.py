from __future__ import annotations

from framebench.user_code import load_function


def test_what_else_is_loaded_is_no_part_of_a_functions_source(tmp_path):
    for name in "ab":
        (tmp_path / f"only_{name}.py").write_text("value = 1\n")
        (tmp_path / f"{name}.py").write_text(f"from only_{name} import value\ndef f(): return value\n")
    alone = load_function("python", f"{tmp_path / 'a.py'}:f").source
    load_function("python", f"{tmp_path / 'b.py'}:f")
    assert load_function("python", f"{tmp_path / 'a.py'}:f").source == alone


def test_imports_of_imports_count_and_those_inside_functions(tmp_path):
    package = tmp_path / "zoo_of_mine"
    package.mkdir()
    files = {package / "__init__.py": "", package / "net.py": "from . import layer\nfrom .sub import other",
             package / "layer.py": "", package / "sub.py": "other = 1", tmp_path / "late.py": "import broken_one",
             tmp_path / "broken_one.py": "(",
             tmp_path / "mine.py": "import zoo_of_mine.net\ndef f():\n    import late\n"}
    for path, text in files.items():
        path.write_text(text)
    sources = [load_function("python", f"{tmp_path / 'mine.py'}:f").source]
    for path in files:
        with open(path, "a") as file:
            file.write("# edited\n")
        sources.append(load_function("python", f"{tmp_path / 'mine.py'}:f").source)
    assert len(set(sources)) == len(files) + 1
    (tmp_path / "unrelated.py").write_text("")
    assert load_function("python", f"{tmp_path / 'mine.py'}:f").source == sources[-1]
