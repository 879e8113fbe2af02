"""Which samplers a request's answer goes through, in which order, with which fields."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from corral_kernel.contracts import SamplerOptions, SamplerSpec, SamplerType
from corral_kernel.errors import CorralError, InvalidOptionError, PluginError
from corral_kernel.fields import build, fields_of
from corral_kernel.gotext import quote
from corral_kernel.options import SAMPLERS, Given, OptionTable

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_SAMPLERS = 64
MOST_TOLD = 32
NAME_CHARACTERS = 100
DEFAULT_TEMPERATURE = 0.8


class Chain(Struct, frozen=True, kw_only=True):
    """The samplers of one job, in order.

    Args:
        samplers: Those that change something.
        greedy: Whether the best token is taken in the end, in place of a draw.
    """

    samplers: tuple[SamplerSpec, ...] = ()
    greedy: bool = False


def resolve(table: OptionTable, given: Given, *, lenient: bool) -> tuple[Chain, list[str]]:
    """Make the chain of a request.

    A sampler whose own checks raise is left out, unless the request asks for it.

    Args:
        table: Who knows what.
        given: The request's and the model's options.
        lenient: Whether unknown samplers and fields are only told of, and left out.

    Returns:
        The chain, and what is to be told the client: `MOST_TOLD` texts at most.

    Raises:
        InvalidOptionError: For an unknown sampler or field, or a value that does not fit.
        PluginError: If a sampler that was asked for fails where it checks its options.
    """
    return _Resolver(table, given, lenient=lenient).chain()


class _Use:
    """A sampler that may be in the chain."""

    def __init__(self, kind: SamplerType, options: SamplerOptions) -> None:
        self.kind = kind
        self.options = options
        self.reads = fields_of(kind.options).keys()


class _Resolver:
    def __init__(self, table: OptionTable, given: Given, *, lenient: bool) -> None:
        self._table = table
        self._given = given
        self._lenient = lenient
        self._told: list[str] = []

    def chain(self) -> tuple[Chain, list[str]]:
        whole = self._default() if self._given.samplers is None else self._asked()
        used = [use for use in whole if self._is_on(use)]
        greedy = self._temperature(use.options for use in whole) <= 0
        self._tell_off([use for use in whole if use not in used], used, greedy=greedy)
        if self._given.samplers is None:
            replaced = {name: use for use in used for name in use.kind.replaces}
            left = [use for use in used if use.kind.name in replaced]
            used = [use for use in used if use not in left]
            self._tell_replaced(left, used, replaced)
        chain = Chain(
            samplers=tuple(
                SamplerSpec(name=use.kind.name, options=msgspec.to_builtins(use.options))
                for use in used
            ),
            greedy=greedy,
        )
        return chain, self._told

    # --- which samplers --------------------------------------------------------------------------

    def _default(self) -> list[_Use]:
        placed = [kind for kind in self._table.samplers.values() if kind.default_place is not None]
        placed.sort(key=lambda kind: (kind.default_place or 0.0, kind.name))
        uses = [use for kind in placed if (use := self._use(kind, {})) is not None]
        read = {name for kind in placed for name in fields_of(kind.options)}
        idle = [name for name in self._given.flat if name not in read]
        idle += [n for n in self._given.nested if self._table.samplers[n].default_place is None]
        for name in idle:
            self._tell(f'option "{name}" is ignored: its sampler serves where "samplers" names it')
        return uses

    def _asked(self) -> list[_Use]:
        entries = self._entries()
        uses = [use for kind, own in entries if (use := self._use(kind, own)) is not None]
        names = {kind.name for kind, _ in entries}
        read = {name for kind, _ in entries for name in fields_of(kind.options)}
        if self._given.flat.get("temperature", 1) <= 0:
            read.add("temperature")  # there is no sampler of it then, but the best token is taken
        idle = [name for name in self._given.flat if name not in read]
        idle += [name for name in self._given.nested if name not in names]
        for name in idle:
            self._tell(f'option "{name}" is ignored: its sampler is not among "samplers"')
        return uses

    def _entries(self) -> list[tuple[SamplerType, Mapping[str, Any]]]:
        """The chain that was asked for: types, and the fields inside each entry."""
        asked = self._given.samplers or ()
        if len(asked) > MOST_SAMPLERS:
            raise InvalidOptionError(
                f'option "{SAMPLERS.name}" has {len(asked)} entries; at most {MOST_SAMPLERS}'
            )
        entries: list[tuple[SamplerType, Mapping[str, Any]]] = []
        for entry in asked:
            own = dict(entry) if isinstance(entry, dict) else {"name": entry}
            name = own.pop("name", None)
            if not isinstance(name, str):
                raise InvalidOptionError(
                    f'option "{SAMPLERS.name}": each entry is a name, or an object with a "name"'
                )
            kind = self._table.samplers.get(name)
            if kind is None:
                have = ", ".join(sorted(self._table.samplers))
                no = f"no sampler {quote(name[:NAME_CHARACTERS])}"
                self._wrong(f'option "{SAMPLERS.name}": {no}; there are: {have}')
            else:
                entries.append((kind, own))
        return entries

    # --- with which fields -----------------------------------------------------------------------

    def _use(self, kind: SamplerType, own: Mapping[str, Any]) -> _Use | None:
        """A sampler with its fields: flat ones, then those under its name, then its entry's own."""
        known = fields_of(kind.options)
        values = {
            name: value
            for name, value in self._given.flat.items()
            if name in known and self._table.owns(kind, name)
        }
        for more in (self._given.nested.get(kind.name, {}), own):
            for name, value in more.items():
                if value is None:
                    continue
                if name in known:
                    values[name] = _converted(kind, known[name].convert, value)
                else:
                    have = ", ".join(known) or "none"
                    no = f"sampler {quote(kind.name)} has no field {quote(name[:NAME_CHARACTERS])}"
                    self._wrong(f"{no}; it has: {have}")
        options = build(kind.options, values)
        _check_size(kind, options)
        use = _Use(kind, options)
        return use if self._ask(use, "check", kind.check, fallback=False) is not False else None

    def _is_on(self, use: _Use) -> bool:
        return bool(self._ask(use, "enabled", use.kind.enabled, fallback=False))

    def _ask(
        self, use: _Use, what: str, question: Callable[[SamplerOptions], T], *, fallback: T | bool
    ) -> T | bool:
        """Ask a sampler type about its options, which is a stranger's code."""
        try:
            return question(use.options)
        except CorralError:
            raise
        except (Exception, SystemExit) as error:
            words = f"{type(error).__name__}: {error}"
            if self._given.samplers is not None or self._gives(use):
                raise PluginError(
                    f"sampler {quote(use.kind.name)} cannot be used: its {what} raised {words}"
                ) from error
            logger.exception("sampler %s is left out: its %s raised", use.kind.name, what)
            return fallback

    def _gives(self, use: _Use) -> bool:
        """Whether the request or the model has a field that is this sampler's alone."""
        others = {
            name
            for kind in self._table.samplers.values()
            if kind is not use.kind
            for name in fields_of(kind.options)
        }
        flat = self._given.flat.keys() & use.reads
        return use.kind.name in self._given.nested or bool(flat - others)

    def _temperature(self, chain: Iterable[SamplerOptions]) -> float:
        """The chain's last one; without any, the option alone."""
        found = [options.temperature for options in chain if hasattr(options, "temperature")]
        asked = self._given.flat.get("temperature", DEFAULT_TEMPERATURE)
        return float(found[-1] if found else asked)

    # --- what is told ----------------------------------------------------------------------------

    def _tell_off(self, off: list[_Use], used: list[_Use], *, greedy: bool) -> None:
        """Name samplers that were asked for and do nothing, and what was set for them in vain.

        What switches a sampler off is obeyed, whatever else is set for it.
        """
        obeyed = {name for use in used for name in use.reads}
        if greedy:
            obeyed.add("temperature")
            off = [use for use in off if use.reads != {"temperature"}]
        in_vain: list[_Use] = []
        for use in off:
            switches = {name for name in self._given_to(use) if self._turns_off(use, name)}
            obeyed |= switches
            if not switches:
                in_vain.append(use)
        if in_vain and self._given.samplers is not None:
            names = ", ".join(quote(use.kind.name) for use in in_vain)
            self._tell(f'option "{SAMPLERS.name}": {names} do nothing with these options')
        for name in (name for use in in_vain for name in self._given_to(use)):
            if name not in obeyed:
                self._tell(f'option "{name}" is ignored: its sampler is off with these options')

    def _given_to(self, use: _Use) -> list[str]:
        """Names of the fields that the request or the model sets for a sampler."""
        nested = self._given.nested.get(use.kind.name, {})
        names = [name for name in self._given.flat if name in use.reads]
        return names + [name for name, value in nested.items() if value is not None]

    def _turns_off(self, use: _Use, name: str) -> bool:
        """Whether a field of a sampler that is off says no more than its default, or just that."""
        field = fields_of(use.kind.options).get(name)
        if field is None:
            return False
        as_it_was = msgspec.structs.replace(use.options, **{name: field.default})
        return as_it_was == use.options or self._is_on(_Use(use.kind, as_it_was))

    def _tell_replaced(self, left: list[_Use], used: list[_Use], by: Mapping[str, _Use]) -> None:
        """Name what was set for samplers that another one takes the place of."""
        read = {name for use in used for name in use.reads}
        for use in left:
            names = [n for n in self._given.flat if n in use.reads and n not in read]
            if use.kind.name in self._given.nested:
                names.append(use.kind.name)
            winner = quote(by[use.kind.name].kind.name)
            for name in names:
                self._tell(f'option "{name}" is ignored: {winner} takes its sampler\'s place')

    def _wrong(self, words: str) -> None:
        if not self._lenient:
            raise InvalidOptionError(words)
        self._tell(f"{words}: ignored")

    def _tell(self, words: str) -> None:
        if len(self._told) < MOST_TOLD and words not in self._told:
            self._told.append(words)


def _converted(kind: SamplerType, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except InvalidOptionError as error:
        raise InvalidOptionError(f"sampler {quote(kind.name)}: {error}") from None


def _check_size(kind: SamplerType, options: SamplerOptions) -> None:
    """Refuse what has no place in a message to a worker: such as integers over 64 bits."""
    try:
        msgspec.msgpack.encode(options)
    except (OverflowError, RecursionError) as error:
        raise InvalidOptionError(f"sampler {quote(kind.name)}: {error}") from None
