"""The table of a family: which marks stand around thoughts and calls, and how calls are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from corral_chat.parsing.forms import CallForm
from corral_kernel.contracts import AnswerSpec, ChatParser, OutputParser, Plan

Where = Literal["off", "inside", "before"]


@dataclass(frozen=True, slots=True)
class Thinking:
    """Marks around a thought, which stands before the answer.

    Attributes:
        open: Mark before it.
        close: Mark behind it.
        starts_inside: The answer begins within the thought, even if the prompt does not end with
            its opening mark. (If the prompt does, it always begins there.)
        after_results: The answer to a tool's result begins within the thought.
        gap: What a plan puts between the closing mark and an answer that it forces.
        trims: White space before the closing mark is dropped.
        ends_at_call: The mark of a call ends the thought as well.
        advertised: The family's models are said to think.
        off: What becomes of a thought that was not asked for: `text` of the answer, a `thought`
            all the same, or nothing (`hidden`).
        written: How its Jinja templates have the opening mark; empty: as it is.
    """

    open: str = "<think>"
    close: str = "</think>"
    starts_inside: bool = False
    after_results: bool = False
    gap: str = "\n\n"
    trims: bool = True
    ends_at_call: bool = True
    advertised: bool = True
    off: Literal["text", "thought", "hidden"] = "text"
    written: str = ""

    def where(self, spec: AnswerSpec) -> Where:
        """Tell where an answer begins: inside the thought, before one, or where none can be."""
        last = spec.last
        if last is not None and last.role == "assistant" and last.content:
            return "off"  # that message goes on
        if spec.prompt_end.rstrip().endswith(self.open):
            return "inside"
        if not spec.think:
            return "off" if self.off == "text" else "before"
        after_results = self.after_results and last is not None and last.role == "tool"
        return "inside" if self.starts_inside or after_results else "before"


@dataclass(frozen=True, slots=True)
class Calls:
    """Marks around calls, and how these are written.

    Attributes:
        form: How.
        begin: Mark before a call; empty: none, calls stand at the very beginning of the answer.
        end: Mark behind it; empty: none.
        before: What stands between the first mark and the call, when a plan writes it.
        after: What stands between the call and the last mark, when a plan writes it.
    """

    form: CallForm
    begin: str = ""
    end: str = ""
    before: str = ""
    after: str = ""


@dataclass(eq=False, slots=True)
class Family(ChatParser):
    """A family of models, by its table.

    Attributes:
        name: As configs have it as `parser`.
        thinking: Marks of thoughts; None: it has none.
        calls: One for each way to write calls, that which a plan forces first; none: it has none.
        template_has: Texts that tell its Jinja templates, all of them; none: it is not looked for.
        template_lacks: Texts that such a template has not.
        certainty: That such a template is of this family, over 0 and at most 1.
        trims: White space around calls is dropped, and that at the end of the answer too.
        dropped: Marks in the answer that are not shown, such as `<|START_TEXT|>`.
        ends: Marks that end the answer and are not shown.
        malformed: What becomes of calls that cannot be read: text of the answer, or an error.
        levels: As `ChatParser` has it.
    """

    name: str
    thinking: Thinking | None = None
    calls: tuple[Calls, ...] = ()
    template_has: tuple[str, ...] = ()
    template_lacks: tuple[str, ...] = ()
    certainty: float = 0.5
    trims: bool = True
    dropped: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    malformed: Literal["text", "error"] = "text"
    levels: dict[str, str] = field(default_factory=dict)
    capabilities: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        thinks = self.thinking is not None and self.thinking.advertised
        has = {"tools": bool(self.calls), "thinking": thinks}
        self.capabilities = frozenset(name for name, there in has.items() if there)

    @property
    def kept(self) -> frozenset[str]:
        """All marks: control tokens among them have to be seen."""
        marks = [*self.dropped, *self.ends]
        if self.thinking is not None:
            marks += [self.thinking.open, self.thinking.close]
        for calls in self.calls:
            marks += [calls.begin, calls.end, *calls.form.marks]
        return frozenset(mark.strip() for mark in marks if mark.strip())

    def begun(self, spec: AnswerSpec) -> Calls | None:
        """Give the row whose mark the prompt ends with, so that an answer lacks it."""
        last = spec.last
        if last is not None and last.role == "assistant" and last.content:
            return None  # that message goes on
        ends = spec.prompt_end
        return next((row for row in self.calls if row.begin and ends.endswith(row.begin)), None)

    def recognises(self, template: str) -> float:
        """Tell by the texts in a template whether it is of this family."""
        if not self.template_has or not all(text in template for text in self.template_has):
            return 0.0
        return 0.0 if any(text in template for text in self.template_lacks) else self.certainty

    def thinks(self, template: str) -> bool:
        """Tell by the opening mark, if it is one of its own, which no other family's texts hold."""
        if self.thinking is None or not self.thinking.advertised:
            return False
        mark = self.thinking.written or self.thinking.open.strip()
        return mark != "<think>" and mark in template

    def start(self, spec: AnswerSpec) -> OutputParser:
        """Make what reads one answer."""
        from corral_chat.parsing.reading import TableParser

        return TableParser(self, spec)

    def plan(self, spec: AnswerSpec) -> Plan | None:
        """Tell the loop what the answer consists of.

        Raises:
            UnsupportedError: If a call is to be forced and this family's cannot be.
        """
        from corral_chat.parsing.plans import plan_of

        return plan_of(self, spec)
