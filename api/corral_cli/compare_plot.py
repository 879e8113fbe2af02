"""The plot of a comparison: the divergence at each token, as SVG text."""

import html
import math
from collections.abc import Iterator, Sequence
from typing import Final

from corral_cli import wire

_WIDTH: Final = 960
_LEFT: Final = 70
_TOP: Final = 56
_PLOT_WIDTH: Final = 620
_PLOT_HEIGHT: Final = 320
_LEGEND_X: Final = _LEFT + _PLOT_WIDTH + 24
_LINE: Final = 18
_LEAST: Final = 1e-6  # nats; what is less is drawn there
_LABEL_CHARACTERS: Final = 32
_TICKS: Final = 8
_HUES: Final = 137.5  # degrees from one prompt to the next: neighbours never look alike


def draw(result: wire.Comparison) -> str:
    """Draw the divergence over the positions of the first model's answers, on a log scale.

    A line for each prompt; a ring stands where the two models' own answers part. Without a
    divergence the rings alone are drawn, and why.
    """
    prompts = result.prompts
    last = max((_length(each) for each in prompts), default=1)
    top = max((value for each in prompts for value in each.kl), default=1.0)
    scale = _Scale(max(1, last - 1), _LEAST, max(10 * _LEAST, top))
    height = max(_TOP + _PLOT_HEIGHT + 60, _TOP + _LINE * (len(prompts) + 3))
    size = f'width="{_WIDTH}" height="{height}"'
    view = f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view}>',
        f'<rect {size} fill="white"/>',
        _text(_LEFT, 24, f"{_name(result.a)}  (A)  and  {_name(result.b)}  (B)", size=15),
        *_axes(scale, result),
    ]
    for number, each in enumerate(prompts):
        parts += _prompt(scale, number, each)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """From positions and nats to points of the picture."""

    def __init__(self, last: int, least: float, most: float) -> None:
        self.last = last
        self.low = math.floor(math.log10(least))
        self.high = max(self.low + 1, math.ceil(math.log10(most)))

    def x(self, position: float) -> float:
        return _LEFT + _PLOT_WIDTH * min(position, self.last) / self.last

    def y(self, nats: float) -> float:
        share = (math.log10(max(nats, _LEAST)) - self.low) / (self.high - self.low)
        return _TOP + _PLOT_HEIGHT * (1 - min(1.0, max(0.0, share)))


def _axes(scale: _Scale, result: wire.Comparison) -> Iterator[str]:
    bottom, right = _TOP + _PLOT_HEIGHT, _LEFT + _PLOT_WIDTH
    for power in range(scale.low, scale.high + 1):
        y = scale.y(10.0**power)
        yield f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
        label = f"≤ 1e{power}" if power == scale.low else f"{10.0**power:g}"
        yield _text(_LEFT - 8, y + 4, label, anchor="end")
    step = max(1, math.ceil(scale.last / _TICKS))
    for position in range(0, scale.last + 1, step):
        x = scale.x(position)
        yield f'<path d="M{x:.1f} {bottom}v5" stroke="#333"/>'
        yield _text(x, bottom + 20, str(position), anchor="middle")
    yield f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#333"/>'
    words = "token of A's answer; a ring: from here on B's own answer is another"
    yield _text(_LEFT + _PLOT_WIDTH / 2, bottom + 42, words, anchor="middle")
    yield _text(_LEFT, _TOP - 10, "KL divergence of B from A, nats")
    if result.kl_reason:
        middle = _TOP + _PLOT_HEIGHT / 2
        yield _text(_LEFT + _PLOT_WIDTH / 2, middle, result.kl_reason, anchor="middle")


def _prompt(scale: _Scale, number: int, each: wire.ComparedPrompt) -> Iterator[str]:
    colour = f"hsl({number * _HUES % 360:.0f},65%,42%)"
    y = _TOP + 8 + number * _LINE
    label = " ".join(each.prompt.split())
    shown = label if len(label) <= _LABEL_CHARACTERS else label[: _LABEL_CHARACTERS - 1] + "…"
    yield f'<path d="M{_LEGEND_X} {y}h18" stroke="{colour}" stroke-width="3"/>'
    yield _text(_LEGEND_X + 26, y + 4, shown)
    if each.kl:
        line = f'fill="none" stroke="{colour}" stroke-width="1.6" stroke-linecap="round"'
        yield f'<polyline points="{_points(scale, each.kl)}" {line}/>'
    found = each.first_difference
    if found is not None and found.token is not None:
        nats = each.kl[found.token] if found.token < len(each.kl) else 0.0
        x, y_at = scale.x(found.token), scale.y(nats)
        yield (
            f'<circle class="difference" cx="{x:.1f}" cy="{y_at:.1f}" r="5" fill="white" '
            f'stroke="{colour}" stroke-width="2"/>'
        )


def _points(scale: _Scale, values: Sequence[float]) -> str:
    points = [f"{scale.x(i):.1f},{scale.y(value):.1f}" for i, value in enumerate(values)]
    return " ".join(points if len(points) > 1 else 2 * points)  # of one point a line has no length


def _length(each: wire.ComparedPrompt) -> int:
    found = each.first_difference
    return max(len(each.kl), each.tokens, 1 + (found.token or 0) if found else 1)


def _name(side: wire.ComparedSide) -> str:
    return f"{side.model}, {side.backend}, {side.quantization}"


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    safe = html.escape("".join(c for c in words if c.isprintable()))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{safe}</text>'
