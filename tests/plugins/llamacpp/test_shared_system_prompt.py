"""What chats have in common is decoded once, however many they are: counted in what is fed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real
Loop = Callable[..., Any]

SYSTEM = " ".join(f"Rule {number}: answer rule {number} in a friendly way." for number in range(12))
ASKED = ["Hello!", "Why?", "Name a color.", "What is rain?", "Tell me a joke.", "Who are you?"]
SMOLLM = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PLAIN = "{}\n\nQuestion: {}\nAnswer:"


def check(loop: Any, form: str, chats: int) -> None:
    """Run so many chats, which is more than there are slots."""
    jobs = [
        loop.job(form.format(SYSTEM, f"{ASKED[n % len(ASKED)]} ({n})"), 4) for n in range(chats)
    ]
    common = len(loop.engine.tokenizer.encode(form.partition("{}")[0] + SYSTEM, special=True))
    assert common > 120
    assert loop.engine.info.slots < chats
    loop.run(*jobs)
    prompts = [loop.fed[job.id] - (len(loop.texts[job.id]) - 1) for job in jobs]
    own = [job.prompt.length - common for job in jobs]
    assert sum(prompts) <= common + sum(own)
    assert sorted(prompts)[-2] <= max(own)  # one alone was fed the common part


@pytest.mark.parametrize("slots", [1, 4])
def test_a_system_prompt_of_more_chats_than_slots_is_decoded_once(
    greedy: Loop, smollm2: Path, slots: int
) -> None:
    check(greedy(smollm2, slots=slots, num_ctx=512), SMOLLM, 3 * slots)


def test_so_it_is_by_a_model_with_a_sliding_window(greedy: Loop, gemma3: Path) -> None:
    check(greedy(gemma3, slots=2, num_ctx=512), PLAIN, 4)


def test_chats_that_come_later_find_it_still_there(greedy: Loop, smollm2: Path) -> None:
    loop = greedy(smollm2, slots=2, num_ctx=512)
    check(loop, SMOLLM, 3)
    later = [loop.job(SMOLLM.format(SYSTEM, f"And {n}?"), 2) for n in range(6)]
    loop.run(*later)
    assert all(loop.cached[job.id] > 120 for job in later)
    assert all(loop.fed[job.id] < 40 for job in later)
