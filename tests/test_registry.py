import sys

import pytest

from compress.errors import CompressError
from compress.registry import Registry


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry over a package of two modules, not imported yet."""
    package = tmp_path / "colours"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from compress.registry import Registry\nregistry = Registry('colour', 'colours')\n"
    )
    (package / "warm.py").write_text("from colours import registry\nregistry.register('red', 'crimson')(1)\n")
    (package / "cold.py").write_text("from colours import registry\nregistry.register('blue')(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    from colours import registry

    yield registry
    for name in [name for name in sys.modules if name.partition(".")[0] == "colours"]:
        del sys.modules[name]


def test_modules_register_themselves_when_first_asked(registry):
    assert "colours.warm" not in sys.modules
    assert registry.names() == list(registry) == ["blue", "crimson", "red"]
    assert registry.get("crimson") == 1
    assert "red" in registry
    assert registry.find("green") is None


def test_a_miss_names_the_nearest_and_all(registry):
    with pytest.raises(
        CompressError, match=r"unknown colour 'rad'; next: did you mean 'red'\? known: blue, crimson, red"
    ):
        registry.get("rad")


def test_a_name_is_given_once(registry):
    assert "blue" in registry
    with pytest.raises(ValueError, match="'blue' is registered twice"):
        registry.register("blue")(3)


def test_a_module_that_fails_fails_each_time(registry, tmp_path):
    (tmp_path / "colours/zz.py").write_text("raise RuntimeError('broken')\n")
    for _ in range(2):
        registry._entries.clear()
        for name in ("warm", "cold"):
            sys.modules.pop(f"colours.{name}", None)
        with pytest.raises(RuntimeError, match="broken"):
            registry.names()


def test_an_entry_comes_back_as_it_was_given():
    registry = Registry("thing", "compress")

    @registry.register("one")
    def one():
        return 1

    assert one() == 1
