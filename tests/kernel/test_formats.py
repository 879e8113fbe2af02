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
        (b'{"type": "regex", "pattern": "a+"}', "regex"),
        (b'{"type": "choice", "choices": ["a"]}', "choice"),
        (b'{"type": "lark", "grammar": "start: /a/"}', "lark"),
        (b'{"type": "gbnf", "grammar": "root ::= [a]"}', "gbnf"),
    ],
)
def test_a_format_goes_to_its_type(plugins: Plugins, given: bytes, name: str) -> None:
    assert check_format(given, plugins) == name


@pytest.mark.parametrize("given", [b'"xml"', b"3", b"[]", b"true"])
def test_what_is_no_format_is_refused_in_the_apis_words(plugins: Plugins, given: bytes) -> None:
    with pytest.raises(InvalidFormatError, match="invalid format"):
        check_format(given, plugins)


def test_a_type_that_nobody_gives_is_named(plugins: Plugins) -> None:
    with pytest.raises(InvalidFormatError, match=r"'potato'; there are: .*json, .*schema"):
        check_format(b'{"type": "potato", "pattern": "a+"}', plugins)


@pytest.mark.parametrize("name", ["object", "string", "null", "integer"])
def test_a_type_of_json_schema_is_a_schema_and_no_plugins(plugins: Plugins, name: str) -> None:
    assert check_format(b'{"type": "%s"}' % name.encode(), plugins) == "schema"


@pytest.mark.parametrize(
    "given", [b"[" * 500_000, b'{"type": "\\xff"}', b"\xff\xfe", b'{"type"', b"", b"NaN"]
)
def test_what_is_no_json_is_an_invalid_format(plugins: Plugins, given: bytes) -> None:
    with pytest.raises(InvalidFormatError, match="no JSON that can be read"):
        check_format(given, plugins)


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
