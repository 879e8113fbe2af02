"""JSON Schema's `format` of texts.

llguidance has patterns for some formats; those of dates allow the 29th of February in every year,
those of names more than a name may have. Ours are stricter than the standards where that is
simpler: what they allow is always of the format.
"""

from __future__ import annotations

_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_BY_FOUR = "(?:0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = f"(?:[0-9]{{2}}{_BY_FOUR}|{_BY_FOUR}00)"
_DAY_OF_MONTH = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = f"(?:{_YEAR}-{_DAY_OF_MONTH}|{_LEAP_YEAR}-02-29)"
_HOUR_AND_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_HOUR_AND_MINUTE}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{_HOUR_AND_MINUTE})"
_LABEL = "[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,30}"
_HOSTNAME = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]"
_EMAIL = rf"{_ATOM}{{1,24}}(?:\.{_ATOM}{{1,12}}){{0,3}}@{_HOSTNAME}"
_SEGMENT = "(?:[a-zA-Z0-9._~!$&()*+,;=@-]|%[0-9a-fA-F]{2})+"
_REFERENCE = (
    rf"(?:[a-z][a-z0-9+.-]{{0,12}}:)?(?://{_HOSTNAME}(?::[0-9]{{1,4}})?)?"
    rf"(?:{_SEGMENT})?(?:/{_SEGMENT})*/?(?:\?{_SEGMENT})?(?:\x23{_SEGMENT})?"
)
_POINTER = r"(?:/(?:[^~/\n]|~[01])*)*"

PATTERNS = {
    "date": _DATE,
    "date-time": f"{_DATE}T{_TIME}",
    "email": _EMAIL,
    "hostname": _HOSTNAME,
    "idn-email": _EMAIL,
    "idn-hostname": _HOSTNAME,
    "iri-reference": _REFERENCE,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]{{0,3}})(?:\\x23|{_POINTER})",
    "time": _TIME,
    "uri-reference": _REFERENCE,
    "uri-template": _REFERENCE,
}
"""In Rust's words, for the whole text."""

ANCHORED = {name: f"^(?:{pattern})$" for name, pattern in PATTERNS.items()}

STRICTER = {"iri": "uri"}
"""Every text of the second is one of the first."""

NATIVE = frozenset({"duration", "ipv4", "ipv6", "uri", "uuid"})
"""Those of llguidance that are right."""

NOT_ENFORCED = frozenset({"regex"})
"""The other formats of JSON Schema; what it does not define is a remark for people."""
