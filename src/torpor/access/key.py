"""The node's root key: who has it can make tokens, so it is a file that only the node's user can read.

It is made once, by one process at a time (`opening.py` sees to that), under another name, made durable, and renamed. So
a file of that name is always a whole key, or somebody else's work, which is refused.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from torpor.base.entropy import Entropy
from torpor.base.errors import AccessDamaged, AccessFailed
from torpor.base.faults import point

KEY_BYTES: Final = 32
"""An Ed25519 seed (RFC 8032 §5.1.5), in hexadecimal in the file."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_key(path: str) -> bytes | None:
    """Return the key in a file; None where there is no file.

    Raises:
        AccessDamaged: it is no key, or not this user's alone.
        AccessFailed: it can't be read.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AccessFailed(path=path, reason=error.strerror or str(error)) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise AccessDamaged(path=path, reason="it is no regular file")
        if found.st_uid != os.geteuid():
            raise AccessDamaged(path=path, reason=f"it belongs to user {found.st_uid}, not to {os.geteuid()}")
        if found.st_mode & _OTHERS:
            raise AccessDamaged(path=path, reason=f"others may use it (mode {stat.S_IMODE(found.st_mode):04o})")
        text = os.read(descriptor, 4 * KEY_BYTES)
    except OSError as error:
        raise AccessFailed(path=path, reason=error.strerror or str(error)) from error
    finally:
        os.close(descriptor)
    try:
        key = bytes.fromhex(text.decode("ascii").removesuffix("\n"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or text != _text(key):
        raise AccessDamaged(path=path, reason="it is no key")  # and what it is stays out of errors
    return key


def make_key(path: str, entropy: Entropy) -> bytes:
    """Return a new key, durable in its file. Nobody else may be making one.

    Raises:
        AccessFailed: it can't be written.

    """
    draft = f"{path}-new"
    key = entropy.token(KEY_BYTES)
    try:
        with suppress(FileNotFoundError):
            os.unlink(draft)  # what an earlier attempt left when it was killed
        _write(draft, _text(key))
        point("access.keying")
        os.rename(draft, path)
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise AccessFailed(path=path, reason=error.strerror or str(error)) from error
    point("access.keyed")
    return key


def sync_folder(path: str) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(key: bytes) -> bytes:
    return f"{key.hex()}\n".encode("ascii")


def _write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
