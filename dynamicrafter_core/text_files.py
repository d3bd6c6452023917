"""Text that a user wrote, from a file; what cannot be read is told in a sentence."""

from pathlib import Path

from .errors import InputError


def read_text(path: Path) -> str:
    """UTF-8, with or without the mark that some editors put before it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions and its disk.") from error
