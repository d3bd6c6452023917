"""Files appear whole or not at all: they are written beside their place under a hidden name, and renamed in the end.

Whatever ends the writing early (a full disk, Ctrl-C, a bug) takes the unfinished file with it, and what stood there
before still stands.
"""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import InputError

_PART = ".part"


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yields the path of a file or folder yet to be made; when the block ends well, it becomes `target`."""
    part = _hidden(target)
    try:
        yield part
        _open_to_others(part)
        _flush(part)
        _move(part, target)
    except OSError as error:
        _remove(part)
        raise cannot_write(target, error) from error
    except BaseException:
        _remove(part)
        raise


@contextlib.contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """No other process writes into `folder` meanwhile, so that unfinished files that lie there are nobody's, and go."""
    lock = folder / ".lock"
    with _locked(lock):
        for part in folder.glob(f".*{_PART}"):
            _remove(part)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file; an old lock that nobody holds is free
                lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    while True:
        try:
            # Not through a link, which would lead to a file of something else.
            number = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise cannot_write(lock, error) from error
        with os.fdopen(number, "r+") as file:
            try:
                _lock(file)
            except OSError as error:
                raise InputError(
                    f"{lock.parent} is being written by another process; wait for it, or give another folder."
                ) from error
            if _is_still(lock, number):
                yield
                return


def _is_still(lock: Path, number: int) -> bool:
    """Whoever held it before may have removed it between our opening and our locking: then the lock is on nothing."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(number))
    except FileNotFoundError:
        return False


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_writable(target: Path) -> None:
    """That `target` can be made, found out before the work whose result it is to hold. Leaves nothing behind."""
    folder = target.parent
    if not os.path.isdir(folder):
        problem = "is a file, not a folder" if os.path.exists(folder) else "does not exist; make it first"
        raise InputError(f"{target} cannot be written: its folder {folder} {problem}.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: OSError) -> InputError:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return InputError(
        f"{target} cannot be written ({reason}); no partial file is left; give a place with free space and write access."
    )


def _move(part: Path, target: Path) -> None:
    if not (os.path.isdir(part) and os.path.isdir(target)):
        part.replace(target)
        return
    old = _hidden(target)  # a folder cannot be replaced in one step, but this way never a mixture of two
    target.rename(old)
    try:
        part.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _open_to_others(part: Path) -> None:
    """As much as any new file is: safetensors makes its files for their owner alone."""
    if os.path.isfile(part):
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)


def _flush(part: Path) -> None:
    """To the disk itself: some file systems report only now that there is no room."""
    for file in part.iterdir() if os.path.isdir(part) else [part]:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def _remove(part: Path) -> None:
    if os.path.isdir(part):
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _hidden(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PART}")
