"""An answer's way through its plan, token by token."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral_kernel.contracts import (
    Constrained,
    Constraint,
    Free,
    Literal,
    Plan,
    Step,
    Tokenizer,
    Trigger,
)
from corral_kernel.sampling import Chooser
from corral_kernel.sampling.chooser import Row, Shortlist
from corral_kernel.worker.marks import Marks, ids_of

Compile = Callable[[Constrained], Constraint]


@dataclass(slots=True)
class _Place:
    """Where a list of steps is; at `Free` also how far that came."""

    steps: tuple[Step, ...]
    index: int = 0
    tokens: int = 0

    @property
    def step(self) -> Step:
        return self.steps[self.index]

    @property
    def is_last(self) -> bool:
        return self.index == len(self.steps) - 1


class Course:
    """Decides what rules the next token: nothing, a text that is forced, or a constraint.

    Args:
        plan: Of the answer.
        chooser: Of the job; what it is held to is set here.
        tokenizer: The model's.
        compile_step: Makes the constraint of a step anew. Called for each constrained step once
            here, so that a spec that does not compile is known, and when a step begins again.

    Attributes:
        ended: All steps are done.
        changes: How often the step changed.
    """

    def __init__(
        self, plan: Plan, chooser: Chooser, tokenizer: Tokenizer, compile_step: Compile
    ) -> None:
        self.ended = False
        self.changes = 0
        self._chooser = chooser
        self._tokenizer = tokenizer
        self._compile = compile_step
        self._ready = {id(step): compile_step(step) for step in _constrained(plan.steps)}
        self._stack = [_Place(plan.steps)]
        self._pending: deque[int] = deque()  # forced by the plan itself
        self._marks: Marks | None = None  # of the free text that is under way
        self._enter()

    # ---------------------------------------------------------------------- what comes next

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, each still to be taken."""
        return tuple(self._pending) or self._chooser.forced()

    def take(self, token_id: int) -> None:
        """Take the first of what is forced; it joins the answer next."""
        if self._pending:
            self._pending.popleft()
            self._chooser.tell(token_id)
        else:
            self._chooser.accept(token_id)

    def pick(
        self,
        row: Row,
        companions: Sequence[Row] = (),
        shortlist: Shortlist | None = None,
        again: int = 0,
    ) -> Sequence[int]:
        """Draw what comes next; the arguments are those of `Chooser.draw`.

        Returns:
            One token; several, where one was cut at a mark; none, where the plan forces some now.
        """
        if self._pending:  # there was no room for all of them before
            return ()
        spare = row.copy() if self._may_draw_again else row
        token_id = self._chooser.draw(row, companions, shortlist, again)
        if self._marks is not None:
            return self._up_to_mark(token_id, self._marks)
        if spare is row or token_id not in self._tokenizer.end_ids:
            return self._told(token_id)
        self._next()  # the constraint may end here, and something else follows
        return () if self.forced() else self.pick(spare, companions, again=again + 1)

    @property
    def _may_draw_again(self) -> bool:
        """Whether an end token would end the step alone."""
        return self._marks is None and not (len(self._stack) == 1 and self._stack[0].is_last)

    def _up_to_mark(self, token_id: int, marks: Marks) -> Sequence[int]:
        if token_id in self._tokenizer.end_ids:
            if not marks.until:
                return self._told(token_id)
            self._close()
            return ()
        piece = self._tokenizer.pieces[token_id]
        over = marks.over(piece)
        return self._told(*ids_of(self._tokenizer, piece[:-over])) if over else self._told(token_id)

    def joined(self, token_id: int) -> None:
        """A token joined the answer."""
        if self._marks is None:
            if not self._pending and (self._chooser.held is None or self._chooser.finished()):
                self._next()
            return
        place = self._stack[-1]
        place.tokens += 1
        met = self._marks.feed(self._tokenizer.pieces[token_id])
        if isinstance(met, Trigger) and not self._pending:
            self._stack.append(_Place(met.steps))
            self._enter()
        elif met is not None and not self._pending:
            self._next()
        elif self._marks.is_spent(place.tokens) and not self._pending:
            self._close()

    def _told(self, *token_ids: int) -> Sequence[int]:
        for token_id in token_ids:
            self._chooser.tell(token_id)
        return token_ids

    # ------------------------------------------------------------------- from step to step

    def _next(self) -> None:
        self._stack[-1].index += 1
        self._enter()

    def _enter(self) -> None:
        """Begin the step that the stack shows, or what follows where a list of steps is over."""
        self.changes += 1
        self._marks = None
        self._chooser.hold(None)
        while self._stack and self._stack[-1].index == len(self._stack[-1].steps):
            self._stack.pop()  # what triggered it goes on
        if not self._stack:
            self.ended = True
            return
        place = self._stack[-1]
        step = place.step
        if isinstance(step, Free):
            self._marks = Marks(step)
            if self._marks.is_spent(place.tokens):
                self._close()
        elif isinstance(step, Literal):
            self._pending.extend(self._tokenizer.encode(step.text, special=True))
            if not self._pending:
                self._next()
        else:
            assert isinstance(step, Constrained)
            ready = self._ready.pop(id(step), None)
            self._chooser.hold(self._compile(step) if ready is None else ready, step.kind)

    def _close(self) -> None:
        """Force what is missing of the mark that ends the free text."""
        assert self._marks is not None
        missing, begun = self._marks.missing()
        self._marks.closing = True
        self._pending.extend(self._tokenizer.encode(missing, special=not begun))
        if not self._pending:
            self._next()


def _constrained(steps: Sequence[Step]) -> list[Constrained]:
    found: list[Constrained] = []
    for step in steps:
        if isinstance(step, Constrained):
            found.append(step)
        elif isinstance(step, Free):
            for trigger in step.triggers:
                found += _constrained(trigger.steps)
    return found
