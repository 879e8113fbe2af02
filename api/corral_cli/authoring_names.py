"""What a new plugin is called, and whether that is free."""

import importlib.metadata
import importlib.util
import keyword
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

import corral_kernel.contracts
from corral_cli.errors import CommandError, UsageError
from corral_kernel.contracts import LoadOptions
from corral_kernel.given import SCHEMA_TYPES
from corral_kernel.options import RETIRED, OptionTable
from corral_kernel.plugins import Plugin, Plugins

KINDS: Final = ("backend", "sampler", "constraint")
_STANDARD_FORMATS: Final = frozenset({"json", "schema"})
_SUFFIXES: Final = ("Options", "Type", "Sampler", "Constraint", "Engine")
_LONGEST: Final = 20
_FORM: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class PluginNames(Struct, frozen=True, kw_only=True):
    """The spellings of one name.

    Args:
        kind: Of `KINDS`.
        name: Of the entry point and of what the plugin gives: `my_calm`.
    """

    kind: str
    name: str

    @property
    def distribution(self) -> str:
        """What pip calls it: `corral-my-calm`."""
        return "corral-" + self.name.replace("_", "-")

    @property
    def module(self) -> str:
        """What Python imports: `corral_my_calm`."""
        return f"corral_{self.name}"

    @property
    def classes(self) -> str:
        """How its classes begin: `MyCalm`."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    @classmethod
    def parse(cls, kind: str, text: str) -> "PluginNames":
        """Read what a command line says; `corral-` before the name is left out.

        Raises:
            UsageError: If there is no such kind, or the name cannot be one.
        """
        if kind not in KINDS:
            raise UsageError(f"no kind of plugin is called {kind!r}: there are {', '.join(KINDS)}")
        name = re.sub(r"[-_.]+", "_", text.lower()).removeprefix("corral_")
        if not _FORM.fullmatch(name) or len(name) > _LONGEST:
            raise UsageError(
                f"{text!r} is no name for a plugin: wanted at most {_LONGEST} of the characters "
                "a-z, 0-9, - and _, a letter first, such as my-calm"
            )
        if keyword.iskeyword(name) or keyword.issoftkeyword(name):
            raise UsageError(f"{name!r} is a word of Python, choose another name")
        names = cls(kind=kind, name=name)
        for suffix in _SUFFIXES:
            wanted = names.classes + suffix
            if hasattr(corral_kernel.contracts, wanted):
                raise UsageError(f"{name!r} would need a class {wanted}, which Corral has")
        return names


def check_free(names: PluginNames) -> None:
    """Make sure that nothing installed here has any of the names.

    Raises:
        CommandError: What has one already.
    """
    taken = _taken(names)
    if taken:
        raise CommandError(f"{names.name!r} clashes with {taken}: choose another name")


def _taken(names: PluginNames) -> str:
    # What is wrong with those that are installed, `corral plugins` tells.
    logging.getLogger("corral_kernel").addHandler(logging.NullHandler())
    plugins = Plugins()
    for plugin in plugins.plugins:
        if plugin.name == names.name:
            return f"the plugin {plugin.name} of {plugin.distribution}, which is installed"
    try:
        importlib.metadata.distribution(names.distribution)
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        return f"the distribution {names.distribution}, which is installed"
    if importlib.util.find_spec(names.module) is not None:
        return f"the module {names.module}, which is installed"
    return _given(names, plugins)


def _given(names: PluginNames, plugins: Plugins) -> str:
    """What of the same kind has the name, in words; empty: nothing."""
    name = names.name
    if names.kind == "constraint" and name in SCHEMA_TYPES:
        return "a type of JSON Schema"
    if names.kind == "constraint" and name in _STANDARD_FORMATS:
        return "a format of Corral's own"
    given: dict[str, Mapping[str, tuple[Plugin, Any]]] = {
        "backend": plugins.backends,
        "sampler": plugins.samplers,
        "constraint": plugins.constraints,
    }
    found = given[names.kind]
    if name in found:
        return f"a {names.kind} of {found[name][0].distribution}"
    # A sampler's first field has its name, and fields are options like all others.
    return "an option" if names.kind == "sampler" and name in _options(plugins) else ""


def _options(plugins: Plugins) -> set[str]:
    """Names of all options that a request or a Modelfile may set here, or could once."""
    samplers = {name: kind for name, (_, kind) in plugins.samplers.items()}
    structs = [backend.options for _, backend in plugins.backends.values()]
    table = OptionTable(LoadOptions, samplers)
    loads = {name for struct in structs for name in struct.__struct_fields__}
    return {*table.request, *table.load, *table.flat, *loads, *RETIRED, "samplers", "backend"}
