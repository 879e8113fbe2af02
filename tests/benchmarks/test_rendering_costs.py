import json
from itertools import islice
from pathlib import Path

import pytest
from benchmarks import hostile_templates, rendering

from corral_chat.renderers import GoRenderer
from corral_kernel.contracts import Conversation, Message
from corral_kernel.errors import TemplateBoundsError


def test_a_template_is_rendered_beside_jinja_and_both_take_time() -> None:
    found = list(islice(rendering.costs(0.0), 3))
    assert [cost.conversation for cost in found] == ["answered"] * 3
    assert all(cost.ours_us > 0 < cost.jinja_us and cost.characters > 100 for cost in found)


def test_the_table_has_medians_of_both_languages_and_the_costliest() -> None:
    costs = [
        rendering.Cost(f"t{ours}", name, 20.0, ours, jinja, 100)
        for name in ("answered", "long")
        for ours, jinja in ((100.0, 50.0), (300.0, 60.0), (200.0, 70.0), (40.0, 0.0))
    ]
    lines = list(rendering.summary(costs))
    assert lines[0] == (
        "answered: 3 Jinja templates: ours 200 us, Jinja 60 us, at most 300 us (t300.0); "
        "first time 20 ms"
    )
    assert lines[1] == "answered: 1 Go templates: 40 us, at most 40 us; first time 20.0 ms"
    assert [line.split(":")[0] for line in lines[2:]] == ["long", "long"]


def test_the_record_holds_every_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = rendering.Cost("t", "answered", 1.0, 2.0, 1.0, 3)
    other = rendering.Cost("go t", "answered", 1.0, 2.0, 0.0, 3)
    both = [some, other]
    both += [rendering.Cost(c.template, "long", 1.0, 2.0, c.jinja_us, 3) for c in both]
    monkeypatch.setattr(rendering, "costs", lambda _seconds: iter(both))
    out = tmp_path / "record.json"
    monkeypatch.setattr("sys.argv", ["rendering", "--out", str(out)])
    assert rendering.main() == 0
    assert [cost["template"] for cost in json.loads(out.read_text())["costs"]] == ["t", "go t"] * 2


def test_each_hostile_template_of_the_flood_is_over_the_bounds() -> None:
    conversation = Conversation(messages=(Message(role="user", content="It is"),))
    for number in range(7):
        with pytest.raises(TemplateBoundsError):
            GoRenderer().render(json.loads(hostile_templates.attack(number)), conversation)
