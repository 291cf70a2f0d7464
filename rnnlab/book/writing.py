"""Numbers as a person writes them."""

import re

_NUMBER = re.compile(r"(-?)((?:\d[\d,]*)?\.?\d+)(?:e([+-]?\d+))?(\u00a0%)?")
_PERCENT = re.compile(r"(?<=\d) ?%(?!\w)")
_ABOVE = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def written(shown: str) -> str:
    """Return a number that Python shows as a person writes it, 5 × 10⁻¹⁰ with a real minus; any other text as it is.

    In either, a percent sign stands apart from its number, by a space at which no line breaks.
    """
    shown = _PERCENT.sub("\u00a0%", shown)
    if not (found := _NUMBER.fullmatch(shown)):
        return shown
    sign, digits, power, percent = found.groups()
    minus = "−" if sign and digits.strip("0.,") else ""
    if power and int(power):
        ten = "10" + str(int(power)).translate(_ABOVE)
        digits = ten if digits == "1" else f"{digits}\u00a0×\u00a0{ten}"
    return minus + digits + (percent or "")
