"""What a trial does to the world: files written, processes started, the network asked for, all of it by Python's audit events.

An event that is against the rules is noted, and prevented: a trial may hand a file to code that would delete things. It is noted because
the code under trial may catch what is raised.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

_STARTS = (
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "os.startfile",
)
_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_CHANGES = {  # event -> which of its arguments are paths that change
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.mkdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
}
_OPENS = ("writes", "makes")  # a file that is there, or none yet
_FOLLOWS_NONE = getattr(os, "O_NOFOLLOW", 0)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """Watches from `begin` to `end`; there is one in a process, for audit hooks cannot be taken off."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.notes: list[str] = []
        sys.addaudithook(self._hear)

    def begin(self, allowed: Path) -> None:
        """From now on files may be written in `allowed` alone."""
        self.notes = []
        self.allowed = Path(os.path.realpath(allowed))

    def end(self) -> list[str]:
        self.allowed = None
        return list(dict.fromkeys(self.notes))

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event in _STARTS:
            self._refuse(f"starts a process ({event} {given[0]!r})")
        elif event in _NETWORK:
            self._refuse(f"asks for the network ({event} {given[-1]!r})")
        elif event == "open" and isinstance(given[2], int) and given[2] & _WRITES:
            self._check_path(given[0], "makes" if given[2] & _FOLLOWS_NONE else "writes")
        elif event in _CHANGES:
            for place in _CHANGES[event]:
                self._check_path(given[place], event)

    def _check_path(self, path: Any, how: str) -> None:
        if path is None or isinstance(path, int):  # an open file, which had its own event
            return
        if how in _OPENS and os.path.isdir(path):  # a probe whether a file could be made there, which leaves none
            return
        # What is removed, renamed or made is the name itself; what is opened is what a link leads to.
        name = os.fsdecode(path)
        folder, base = os.path.split(os.path.abspath(name))
        if how == "os.mkdir" and not os.path.isdir(folder):  # which the system refuses
            return
        real = os.path.realpath(name) if how == "writes" else os.path.join(os.path.realpath(folder), base)
        if (
            real != os.devnull
            and not real.startswith("/proc/")
            and self.allowed not in Path(real).parents
            and Path(real) != self.allowed
        ):
            self._refuse(f"changes a file outside the output folder ({how} {name!r})")

    def _refuse(self, what: str) -> None:
        self.notes.append(what)
        raise PermissionError(what)


def state_of(folder: Path) -> dict[str, str]:
    """Every name under `folder`, with a digest of what it holds: native code makes no audit events."""
    state = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            state[str(path)] = f"link to {os.readlink(path)}"
        elif path.is_file():
            state[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            state[str(path)] = "folder"
    return state
