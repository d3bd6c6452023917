"""The one error a user can cause: bad input, told in a sentence that says what to do."""

import unicodedata

_LONGEST = 2000  # characters


class InputError(ValueError):
    """Something given from outside is wrong; the message names it, what is accepted, and the way out."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """Words from outside, without what a terminal would obey or an encoding lacks, and of a length that is read."""
    text = "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text
    )
    return text if len(text) <= _LONGEST else f"{text[:1300]} [...] {text[-600:]}"
