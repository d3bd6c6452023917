"""The one error a user can cause: bad input, told in a sentence that says what to do."""


class InputError(ValueError):
    """Something given from outside is wrong; the message names it, what is accepted, and the way out."""
