import re
import sys

import pytest

from compress.errors import CompressError
from compress.user_code import is_reference, load_reference, reference_path


def test_what_is_a_reference(tmp_path):
    assert is_reference("net.py:build")
    assert not is_reference("resnet20")
    assert not is_reference("net.py")
    assert reference_path("a/net.py:build", tmp_path) == tmp_path / "a/net.py"
    assert reference_path("/x/net.py:build", tmp_path).as_posix() == "/x/net.py"


def test_a_file_may_import_its_neighbours_and_leaves_the_path_alone(tmp_path):
    (tmp_path / "neighbour_of_net.py").write_text("value = 3\n")
    (tmp_path / "net.py").write_text("from neighbour_of_net import value\ndef build(): return value\n")
    before = list(sys.path)
    assert load_reference("net.py:build", tmp_path)() == 3
    assert sys.path == before


def test_two_files_of_one_name_are_two_modules(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(f"name = {name!r}\n")
    assert [load_reference("net.py:name", tmp_path / name) for name in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\ny = 1 / 0\n", "net.py:2: ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('a\\nb')\n\nf()\n", "net.py:2: ValueError: a b"),
        ("x = 1\n\ndef f(:\n", "net.py:3: SyntaxError: "),
        ("import sys\n\nsys.exit(4)\n", "net.py:3: SystemExit: 4"),
        ("import no_such_module\n", "net.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("import json\njson.loads('{')\n", "net.py:2: JSONDecodeError: "),
        ("def built(): pass\n", "net.py has no 'build'; next: did you mean 'built'? known: built"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(tmp_path, content, message):
    (tmp_path / "net.py").write_text(content)
    before = list(sys.path)
    with pytest.raises(CompressError, match=re.escape(f"{tmp_path}/{message}")) as error:
        load_reference("net.py:build", tmp_path)
    assert "\n" not in str(error.value)
    assert sys.path == before


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CompressError, match=r"net\.py does not exist; next: give a path from the recipe's folder"):
        load_reference("net.py:build", tmp_path)
