"""Texts: the same each time, whole characters, within their limits, ended where they should be."""

from __future__ import annotations

from typing import Any, ClassVar

from corral_kernel.errors import CorralError
from corral_kernel.testing.backends.asking import Answer, chat, code_of
from corral_kernel.testing.backends.suite import KernelSuite
from corral_kernel.testing.suites import ContractBrokenError, demand

LETTERS = "Grüße, 🦙, ნახვამდის!"
LONG = " ".join(str(number) for number in range(60))
WINDOW = 64
_FAR = 10**9


class AnswerTests(KernelSuite):
    """Tests of what an answer says.

    Attributes:
        letters: A text of letters of several bytes, which the model's tokens can write.
    """

    letters: ClassVar[str] = LETTERS

    def test_equal_requests_get_equal_answers(self) -> None:
        """At temperature 0 the likeliest token is chosen, whatever was asked before."""
        for prompt in self.prompts:
            first, second = self.ask(prompt), self.ask(prompt)
            demand(first.text, f"the answer to {prompt!r} is empty: give other `prompts`")
            demand(
                first.text == second.text,
                f"{prompt!r} is answered by {first.text!r}, then by {second.text!r}",
            )

    def test_many_at_once_are_answered_as_each_is_alone(self) -> None:
        """Whatever is computed together, more of them than there are slots."""
        prompts = [*self.prompts, *(f"{prompt} again" for prompt in self.prompts)]
        alone = [self.ask(prompt).text for prompt in prompts]
        together = self.kernel.ask_together(self.model, [self.given(p) for p in prompts * 2])
        said = [answer.text for answer in together]
        for prompt, text, wanted in zip(prompts * 2, said, alone * 2, strict=True):
            demand(text == wanted, f"{prompt!r}: {wanted!r} alone, {text!r} among others")

    def test_a_prompt_is_continued_as_it_stands(self) -> None:
        """By who asks for `raw`."""
        asked = {**self.given(""), "prompt": self.prompts[0], "raw": True, "messages": None}
        if "raw" in self.can:
            answer = self.kernel.ask(self.model, **asked)
            told = answer.done.prompt_tokens
            demand(bool(told) == ("counts" in self.can), f"it tells of {told} tokens of the prompt")
        else:
            self.demand_refused("raw", "raw", lambda: self.kernel.ask(self.model, **asked))

    def test_a_conversation_is_put_by_the_models_template(self) -> None:
        """All its turns; where there is no template, who sends one turn gets it continued."""
        first, second, *_ = self.prompts
        asked = {"temperature": 0, "num_predict": 24}
        if "chat" in self.can:
            whole = self.kernel.ask(self.model, messages=chat(first, "Yes.", second), **asked)
            told, alone = whole.done.prompt_tokens, self.ask(second).done.prompt_tokens
            demand(told > alone or "counts" not in self.can, "earlier turns are not in the prompt")
            return
        plain = self.ask(first)
        try:
            answer = self.kernel.ask(self.model, messages=chat(first), **asked)
        except CorralError as error:
            demand("chat" in str(error), f"a chat is refused by other words: {error}")
        else:
            same = answer.done.prompt_tokens == plain.done.prompt_tokens
            demand(
                same and answer.text == plain.text,
                f"chat is not in `can`, yet {first!r} is answered by {answer.text!r} as a chat, "
                f"and by {plain.text!r} as it stands: something was put around it",
            )

    # --------------------------------------------------------------------- letters and ends

    def test_pieces_are_whole_letters(self) -> None:
        """Tokens may be bytes: what is not whole yet waits for the rest."""
        answer = self.ask(self.prompts[0], num_predict=-2, **self.writing(self.letters))
        if "sampler" in self.can:
            demand(answer.text == self.letters, f"{self.letters!r} came as {answer.text!r}")
            demand(len(answer.pieces) > 1, "it came in one piece, though it has many tokens")
        torn = [piece.content for piece in answer.pieces if "\ufffd" in piece.content]
        demand(not torn, f"pieces with half a letter: {torn}")

    def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(self) -> None:
        """Also where it begins in one token and ends in another."""
        whole = self.speech()
        for stop in self._stops(whole):
            wanted = whole.text.partition(stop)[0]
            answer = self.speech(stop=[stop])
            demand(
                answer.text == wanted,
                f"stop {stop!r}: the answer is {answer.text!r}, wanted {wanted!r}",
            )
            reason = answer.done.reason
            demand(reason == "stop", f"stopped by {stop!r} it ended by {reason!r}")

    def test_a_stop_text_that_only_begins_is_shown(self) -> None:
        """What was held back comes when it turns out to be something else."""
        whole = self.speech()
        middle = len(whole.text) // 2
        for stop in (whole.text[middle : middle + 2] + "\0", whole.text[-1] + "\0"):
            text = self.speech(stop=[stop]).text
            demand(text == whole.text, f"stop {stop!r}: {text!r} came of {whole.text!r}")

    def _stops(self, whole: Answer) -> list[str]:
        """Texts from the answer: within it, over the seam of two pieces, at its beginning."""
        text, pieces = whole.text, [piece.content for piece in whole.pieces if piece.content]
        middle = len(text) // 2
        stops = [text[middle : middle + 3], text[0]]
        if len(pieces) > 2:  # noqa: PLR2004 - a seam that is not at an end
            stops.append(pieces[1][-1] + pieces[2][:2])
        return stops

    # ------------------------------------------------------------------------------- limits

    def test_an_answer_has_no_more_tokens_than_asked_for(self) -> None:
        """And says that this is why it ended."""
        for count in (1, 5):
            answer = self.speech(num_predict=count)
            done = answer.done
            told = count if "counts" in self.can else 0
            demand(done.output_tokens == told, f"{done.output_tokens} tokens of {count}")
            demand(done.reason == "length", f"cut after {count} tokens it ended by {done.reason!r}")
            whole = self.speech().text
            demand(whole.startswith(answer.text), f"{answer.text!r} does not begin {whole!r}")

    def test_a_long_prompt_is_cut_to_the_window(self) -> None:
        """Or refused, by who allows no cut."""
        if "window" not in self.can:
            self.demand_refused(
                "window", "num_ctx", lambda: self.ask(self.prompts[0], num_ctx=WINDOW)
            )
            return
        answer = self._long(truncate=True)
        accepted = answer.accepted
        demand(0 < accepted.prompt_tokens <= WINDOW, f"{accepted.prompt_tokens} tokens of {WINDOW}")
        demand(accepted.dropped_tokens, "it tells of no dropped tokens")
        try:
            self._long(truncate=False)
        except CorralError as error:
            demand(
                code_of(error) == "prompt_too_long", f"it is refused by {code_of(error)}: {error}"
            )
        else:
            raise ContractBrokenError("a prompt over the window was answered, with truncate off")

    def test_a_full_window_ends_the_answer_or_is_moved_on(self) -> None:
        """As the request's `shift` says."""
        if not {"window", "sampler"} <= self.can:
            return  # how long answers are refused is asked above and elsewhere
        asked = self.given(self.prompts[0], **self.writing(LONG), num_ctx=WINDOW)
        most = WINDOW * 2
        ended = self.kernel.ask(self.model, **{**asked, "num_predict": most, "shift": False})
        used = ended.done.prompt_tokens + ended.done.output_tokens
        demand(ended.done.reason == "length", f"a full window ended by {ended.done.reason!r}")
        demand(WINDOW - 1 <= used <= WINDOW + 1, f"{used} positions of {WINDOW} were used")
        for answer in (ended, self.kernel.ask(self.model, **{**asked, "num_predict": most})):
            demand(LONG.startswith(answer.text), f"{answer.text!r} does not begin {LONG!r}")
        demand(len(answer.text) > len(ended.text), "a window that moves on brought no more text")

    def test_ids_that_are_no_tokens_harm_nobody(self) -> None:
        """The context of an earlier answer comes from a client."""
        process_id = self.worker_id()
        for ids in ((_FAR,), (-5,), (1, -(2**31))):
            try:
                self.kernel.ask(
                    self.model, prompt="Hello", context_ids=ids, num_predict=2, temperature=0
                )
            except CorralError as error:
                demand(str(error), f"context {ids} is refused without a word")
        demand(self.worker_id() == process_id, "ids that are no tokens cost a worker its life")

    def _long(self, *, truncate: bool) -> Answer:
        prompt = " ".join([self.prompts[0]] * WINDOW)
        return self.kernel.ask(
            self.model,
            prompt=prompt,
            raw=True,
            truncate=truncate,
            num_ctx=WINDOW,
            num_predict=3,
            temperature=0,
        )

    # ------------------------------------------------------------------------------- prefix

    def test_a_second_turn_computes_only_what_is_new(self) -> None:
        """And says the same as if nothing had been kept."""
        first = self.given(self.prompts[0], num_predict=-1, **self.writing("It says this."))
        answer = self.kernel.ask(self.model, **first)
        turns = self._turns(self.prompts[0], answer.text, self.prompts[1])
        self.kernel.unload(self.model)
        wanted = self.kernel.ask(self.model, **turns)
        self.kernel.unload(self.model)
        self.kernel.ask(self.model, **first)
        found = self.kernel.ask(self.model, **turns)
        demand(
            found.text == wanted.text,
            f"on a kept prefix it says {found.text!r}, else {wanted.text!r}",
        )
        cached = found.done.cached_tokens
        if "prefix" in self.can:
            demand(cached > 0, "nothing of the first turn was kept for the second")
        else:
            demand(cached == 0, f"prefix is not in `can`, yet {cached} tokens were kept")
        told = found.done.prompt_tokens
        demand(cached < told or not told, f"all {told} tokens of the prompt were kept")

    def _turns(self, first: str, answer: str, second: str) -> dict[str, Any]:
        if "chat" in self.can:
            return {**self.given(""), "messages": chat(first, answer, second)}
        return self.given(f"{first}{answer} {second}")
