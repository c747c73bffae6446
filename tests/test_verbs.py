"""The Python verbs: callable as attributes of the package, before and after their modules are imported."""

import subprocess
import sys

import pytest

import compress


@pytest.mark.parametrize("name", [name for name in compress.__all__ if name != "__version__"])
def test_each_verb_is_callable_and_documented(name):
    verb = getattr(compress, name)
    assert callable(verb)
    assert verb.__doc__


def test_a_verb_works_after_its_package_was_imported(tmp_path):
    import compress.rewrite

    with pytest.raises(compress.errors.ModelFileError, match=r"missing\.onnx does not exist"):
        compress.rewrite(tmp_path / "missing.onnx")


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="polish"):
        _ = compress.polish


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, compress; print(sorted({'numpy', 'onnx', 'torch', 'pydantic', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
