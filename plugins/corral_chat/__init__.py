"""Chat formats: templates in Jinja and in Go, and how families of models write their answers."""

from collections.abc import Sequence

from corral_chat.parsing.families import families
from corral_chat.parsing.generic import GenericParser
from corral_chat.renderers import GoRenderer, JinjaRenderer
from corral_kernel.contracts import ChatParser, ChatRenderer
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_chat_formats() -> Sequence[ChatRenderer | ChatParser]:
    return [JinjaRenderer(), GoRenderer(), GenericParser(), *families()]
