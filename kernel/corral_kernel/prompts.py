"""Which prompt a completion has: the messages of model and request, and who renders them."""

from typing import Any

import msgspec

from corral_kernel.calls import CompletionCall
from corral_kernel.contracts import Message
from corral_kernel.errors import InvalidModelError, TemplateError, UnsupportedError
from corral_kernel.frames import PromptSpec
from corral_kernel.models import DEFAULT_TEMPLATE, Model
from corral_kernel.plugins import Plugins

JINJA = "jinja"
PLAIN = "prompt"


def prompt_spec(call: CompletionCall, plugins: Plugins) -> PromptSpec:
    """Put together what the worker renders.

    Raises:
        TemplateError: If nothing installed renders this model's template.
    """
    if call.raw:
        return PromptSpec(text=call.prompt, cut_middle=call.truncate)
    renderer, template = choose_template(call.model)
    if renderer not in plugins.renderers:
        raise UnsupportedError(f"no installed plugin renders {renderer!r} templates")
    chat = call.messages is not None
    return PromptSpec(
        renderer=renderer,
        template=template,
        messages=_messages(call),
        context_ids=call.context_ids,
        drop_messages=call.truncate,
        cut_middle=call.truncate and not chat,
    )


def choose_template(model: Model) -> tuple[str, str]:
    """Name of the renderer, and the template.

    Raises:
        TemplateError: For a model that has a Go template alone.
    """
    if model.jinja_template:
        return JINJA, model.jinja_template
    if model.template.strip() in ("", DEFAULT_TEMPLATE):
        return PLAIN, DEFAULT_TEMPLATE
    raise TemplateError(
        f"{model.name.short} has a Go template and no Jinja one inside its weights; this release "
        "renders Jinja templates only: send a rendered prompt to /api/generate with raw true"
    )


def _messages(call: CompletionCall) -> tuple[Message, ...]:
    own = () if call.context_ids else tuple(_message(call.model, m) for m in call.model.messages)
    if call.messages is not None:
        messages = (*own, *call.messages)
        given = bool(call.messages) and call.messages[0].role == "system"
        system = "" if given else call.model.system
    else:
        messages = (*own, Message(role="user", content=call.prompt))
        system = call.model.system if call.system is None else call.system
    return (Message(role="system", content=system), *messages) if system else messages


def _message(model: Model, stored: dict[str, Any]) -> Message:
    if stored.get("images"):
        raise UnsupportedError(
            f"a message of {model.name.short} holds images; this release takes text alone"
        )
    try:
        return msgspec.convert(stored, Message)
    except msgspec.ValidationError as error:
        raise InvalidModelError(
            f"the messages of {model.name.short} are damaged: {error}; make the model anew"
        ) from None
