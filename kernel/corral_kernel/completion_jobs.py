"""From a completion that is asked for to the job of a worker."""

import asyncio
import time
from collections.abc import Iterator

import msgspec

from corral_kernel.calls import CompletionCall
from corral_kernel.chat_formats import reading_of, with_shown_names
from corral_kernel.errors import UnsupportedError
from corral_kernel.formats import check_format, format_kind
from corral_kernel.forwarding import check_forwarded_format
from corral_kernel.frames import Generate, PromptSpec, Reading
from corral_kernel.planning import Plan
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import forwarded_prompt, prompt_spec, untold

REPEAT_LIMIT = 32
SHORT_FORMAT_BYTES = 4096


async def checked_format(call: CompletionCall, plan: Plan, plugins: Plugins) -> str:
    """Check a format; a long one in a thread, since that may take a tenth of a second.

    Returns:
        The name of its type; empty: there is none.
    """
    given = call.format
    if not given:
        return ""
    if plan.want.claim.takes != "tokens":
        kind = format_kind(given)
        check_forwarded_format(kind, call.model, plan.want.claim)
        if kind not in plugins.constraints:  # the engine's own affair
            return kind
    if len(given) <= SHORT_FORMAT_BYTES:
        return check_format(given, plugins)
    return await asyncio.to_thread(check_format, given, plugins)


class CompletionJobs:
    """Makes jobs.

    Args:
        plugins: Whose renderers and parsers there are.
        go_template: As for `choose_template`.
    """

    def __init__(self, plugins: Plugins, *, go_template: bool | None) -> None:
        self._plugins = plugins
        self._go_template = go_template

    def make(self, call: CompletionCall, plan: Plan, constraint: str) -> Generate:
        """Make a job; `think` of the call is settled.

        Raises:
            CorralError: What is wrong with the request.
        """
        if plan.want.claim.takes != "tokens":
            return self._forward(call, plan, constraint)
        chat = call.messages is not None
        prompt = prompt_spec(call, self._plugins, go_template=self._go_template)
        spelled = plan.options.control_tokens
        prompt = msgspec.structs.replace(prompt, literal=chat if spelled is None else not spelled)
        reading = self._reading(call, prompt)
        shift = call.model.family != "deepseek2" if call.shift is None else call.shift
        return Generate(
            job_id=0,
            prompt=with_shown_names(prompt, reading, self._plugins),
            reading=reading,
            tool_choice=call.tool_choice,
            options=plan.options,
            chain=plan.chain,
            adapters=plan.adapters,
            constraint=constraint,
            format=call.format or b"",
            shift=shift,
            logprobs=call.logprobs,
            repeat_limit=0 if chat else REPEAT_LIMIT,
            render_only=call.render_only,
            want_ids=not chat and not call.raw,
            now=time.time(),
        )

    def _reading(self, call: CompletionCall, prompt: PromptSpec) -> Reading | None:
        return reading_of(call, prompt, self._plugins, go_template=self._go_template)

    def _forward(self, call: CompletionCall, plan: Plan, constraint: str) -> Generate:
        """Make a job for an engine with a loop of its own."""
        claim = plan.want.claim
        prompt = forwarded_prompt(call, self._plugins, claim, go_template=self._go_template)
        reads = claim.takes == "text"
        if reads and call.tool_choice.mode == "required":
            raise UnsupportedError(
                f"the engine of {call.model.name.short} has a loop of its own, in which no call of "
                "a tool can be forced: leave tool_choice out"
            )
        reading = self._reading(call, prompt) if reads else None
        return Generate(
            job_id=0,
            prompt=with_shown_names(prompt, reading, self._plugins),
            reading=reading,
            tool_choice=call.tool_choice,
            options=plan.options,
            constraint=constraint,
            format=call.format or b"",
            logprobs=call.logprobs,
            render_only=call.render_only,
            now=time.time(),
            target=call.model.config.remote_model,
            sampling=plan.sampling,
        )


def with_untold(plan: Plan, call: CompletionCall, job: Generate) -> Plan:
    """Add to the warnings of a plan what of a request changes nothing."""
    claim = plan.want.claim
    told = [*plan.warnings, *untold(call, claim)]
    if claim.takes == "tokens":
        told += _thoughtless(job)
    return msgspec.structs.replace(plan, warnings=tuple(told))


def _thoughtless(job: Generate) -> Iterator[str]:
    if job.options.think_budget is not None and (job.reading is None or not job.prompt.think):
        yield 'option "think_budget" is ignored: the model is not to think'
