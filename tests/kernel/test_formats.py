"""Which constraint type a format goes to, and what is said of one that has none."""

from typing import Any

import pytest

from corral_kernel.errors import InvalidFormatError, PluginError
from corral_kernel.formats import FORMAT_BYTES, check_format
from corral_kernel.plugins import Plugins


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (b'"json"', "json"),
        (b'{"type": "object"}', "schema"),
        (b'{"properties": {}}', "schema"),
        (b'{"type": ["object", "null"]}', "schema"),
    ],
)
def test_a_format_goes_to_its_type(plugins: Plugins, given: bytes, name: str) -> None:
    assert check_format(given, plugins) == name


@pytest.mark.parametrize("given", [b'"xml"', b"3", b"[]", b"true"])
def test_what_is_no_format_is_refused_in_the_apis_words(plugins: Plugins, given: bytes) -> None:
    with pytest.raises(InvalidFormatError, match="invalid format"):
        check_format(given, plugins)


def test_a_type_that_nobody_gives_is_named(plugins: Plugins) -> None:
    with pytest.raises(InvalidFormatError, match="'regex'; there are: json, schema"):
        check_format(b'{"type": "regex", "pattern": "a+"}', plugins)


def test_without_its_plugin_a_format_says_what_to_install() -> None:
    with pytest.raises(InvalidFormatError, match=r"pip install 'corral\[llamacpp\]'"):
        check_format(b'"json"', Plugins(only=["echo"]))


def test_a_long_format_is_refused_before_it_is_decoded(plugins: Plugins) -> None:
    with pytest.raises(InvalidFormatError, match="bytes"):
        check_format(b"[" * (FORMAT_BYTES + 1), plugins)


def test_a_type_that_fails_is_reported_on_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins()
    plugin, kind = plugins.constraints["schema"]

    def broken(_spec: Any) -> None:
        raise KeyError("pattern")

    monkeypatch.setattr(kind, "check", broken)
    with pytest.raises(PluginError, match="'guidance' failed"):
        check_format(b"{}", plugins)
    assert "check raised KeyError" in plugin.error
