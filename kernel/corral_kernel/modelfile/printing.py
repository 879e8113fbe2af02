"""How the values of a Modelfile are printed."""


def quote(value: str) -> str:
    """Quote a value as far as the grammar needs it: for newlines and for blanks at its ends."""
    if "\n" not in value and not value.startswith(" ") and not value.endswith(" "):
        return value
    quotes = '"""' if '"' in value else '"'
    return f"{quotes}{value}{quotes}"
