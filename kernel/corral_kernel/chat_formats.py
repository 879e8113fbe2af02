"""What a model's chat format can do, and which parser reads its answers."""

from functools import lru_cache

import msgspec

from corral_kernel.calls import CompletionCall
from corral_kernel.contracts import ChatParser, Claim, TemplateTraits
from corral_kernel.contracts.chat import name_of
from corral_kernel.errors import CorralError, InvalidRequestError, PluginError
from corral_kernel.frames import PromptSpec, Reading
from corral_kernel.given import ANYTHING
from corral_kernel.models import Model
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import GO, JINJA, choose_template, speaks_harmony

GENERIC = "generic"
HARMONY = "harmony"
THINKING, TOOLS, INSERT = "thinking", "tools", "insert"
_KNOWN_TEMPLATES = 256


def with_format(
    model: Model, claim: Claim, plugins: Plugins, *, go_template: bool | None
) -> tuple[str, ...]:
    """Add to what a backend makes of a model what its template and parser make of it.

    An engine that takes chats has its own of both.

    Args:
        model: In question.
        claim: Of its backend.
        plugins: Whose renderers and parsers there are.
        go_template: As for `choose_template`.
    """
    capabilities = claim.capabilities
    if "completion" not in capabilities or claim.takes == "chat":
        return capabilities
    renderer, template, found = _of_format(model, plugins, go_template=go_template)
    parser = configured_parser(model, plugins)
    if parser is not None:
        found |= parser.capabilities
    elif _thinks(renderer, template, plugins):
        found |= {THINKING}
    if not plugins.parsers:
        found -= {TOOLS, THINKING}
    new = [n for n in (TOOLS, INSERT, THINKING) if n in found and n not in capabilities]
    return (*new, *capabilities) if renderer == JINJA else (*capabilities, *new)


def _of_format(
    model: Model, plugins: Plugins, *, go_template: bool | None
) -> tuple[str, str, frozenset[str]]:
    try:
        renderer, template = choose_template(model, plugins, go_template=go_template)
        known = plugins.renderers.get(renderer)
        traits = TemplateTraits() if known is None else known[1].describe(template)
    except CorralError:  # which a request will tell
        return GO, "", frozenset()
    return renderer, template, traits.capabilities


def _thinks(renderer: str, template: str, plugins: Plugins) -> bool:
    """Whether the family of a Jinja template writes thoughts, by marks of its own."""
    parser = _parser_of(renderer, template, plugins) if renderer == JINJA else None
    try:
        return parser is not None and parser.thinks(template)
    except ANYTHING:  # a stranger's; it does not know this one
        return False


def configured_parser(model: Model, plugins: Plugins) -> ChatParser | None:
    """The parser that a model's config names, or its family always has; None: neither."""
    name = HARMONY if speaks_harmony(model) else model.config.parser
    found = plugins.parsers.get(name)
    return None if found is None else found[1]


def reading_of(
    call: CompletionCall, spec: PromptSpec, plugins: Plugins, *, go_template: bool | None
) -> Reading | None:
    """Which parser reads an answer; None: it is all content.

    Args:
        call: What is asked; `think` is settled.
        spec: Its prompt.
        plugins: Whose parsers there are.
        go_template: As for `choose_template`.
    """
    if call.suffix:
        return None  # what fills a gap is no answer
    renderer, template = spec.renderer, spec.template
    if call.raw:
        try:
            renderer, template = choose_template(call.model, plugins, go_template=go_template)
        except CorralError:
            return None
    may_call = call.tool_choice.mode != "none"
    calls = may_call and bool(call.tools)
    parser = configured_parser(call.model, plugins)
    if parser is not None:
        calls = may_call and TOOLS in parser.capabilities
    elif not calls and not call.think and not _thinks(renderer, template, plugins):
        return None
    else:
        parser = _parser_of(renderer, template, plugins)
    if parser is None:
        return None
    told = {"renderer": renderer, "template": template} if call.raw else {}
    return Reading(parser=parser.name, calls=calls, **told)


def _parser_of(renderer: str, template: str, plugins: Plugins) -> ChatParser | None:
    name = GENERIC
    if renderer == JINJA:
        name = _recognised(template, tuple(parser for _, parser in plugins.parsers.values()))
    found = plugins.parsers.get(name)
    return None if found is None else found[1]


@lru_cache(_KNOWN_TEMPLATES)
def _recognised(template: str, parsers: tuple[ChatParser, ...]) -> str:
    """The name of the surest family; of equally sure ones the first by name."""
    sure = {parser.name: _certainty(parser, template) for parser in parsers}
    best = max(sorted(sure), key=sure.__getitem__, default="")
    return best if best and sure[best] > 0 else ""


def _certainty(parser: ChatParser, template: str) -> float:
    try:
        return float(parser.recognises(template))
    except ANYTHING:  # a stranger's; it does not know this one
        return 0.0


def with_shown_names(spec: PromptSpec, reading: Reading | None, plugins: Plugins) -> PromptSpec:
    """Have tools shown by the names that the family of a model knows.

    Raises:
        PluginError: If its parser fails.
    """
    names = [*filter(None, map(name_of, spec.tools))]
    if reading is None or not names:
        return spec
    plugin, parser = plugins.parsers[reading.parser]
    try:
        shown = parser.shown_names(names)
    except ANYTHING as error:
        plugin.report(f"parser {parser.name}", error)
        raise PluginError(f"plugin {plugin.name!r} failed on these tools: {error}") from error
    return msgspec.structs.replace(spec, shown_names=dict(shown)) if shown else spec


def settled(
    call: CompletionCall, capabilities: tuple[str, ...], plugins: Plugins
) -> CompletionCall:
    """Settle what a call leaves open: a model that can think does; and what it means by a level.

    Of a model on another server that server's own defaults hold.

    Raises:
        InvalidRequestError: If it is to call a tool that it has not.
    """
    choice = call.tool_choice
    names = [*filter(None, map(name_of, call.tools))]
    if choice.mode == "required" and not names:
        raise InvalidRequestError("tool_choice asks for a call, and the request has no tools")
    if choice.name and choice.name not in names:
        raise InvalidRequestError(
            f"tool_choice names {choice.name!r}, which is none of the request's tools"
        )
    think = call.think
    if think is None and THINKING in capabilities and not call.model.is_remote:
        think = True
    parser = configured_parser(call.model, plugins)
    if isinstance(think, str) and parser is not None:
        think = parser.levels.get(think, think)
    return msgspec.structs.replace(call, think=think)
