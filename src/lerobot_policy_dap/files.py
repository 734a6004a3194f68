"""Files that are either whole or not there: write beside, then rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import UserError

RECORDING_FILE = "recording.json"
"""How frames were recorded: in a dataset's `meta/`, and from there in every checkpoint trained on it."""


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there becomes `path` when the block succeeds.

    Nothing is left behind when it fails, and a reader never sees half a file. A full disk is a `UserError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        with _naming_a_full_disk(path):
            yield part
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            part.chmod(0o644)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing_file`, for a folder that must not exist yet: yields an empty folder that becomes `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        with _naming_a_full_disk(path):
            yield part
            part.chmod(0o755)
            part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _naming_a_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                f"no space left on the disk while writing {path}; what is finished is kept: free some and go on"
            ) from error
        raise


@contextmanager
def sole_run(folder: Path, what: str, file: Path | None = None) -> Iterator[None]:
    """Holds a folder against a second run, which would do the same work twice; a killed one lets go by itself.

    Args:
        folder: need not exist yet.
        what: the run, in a word.
        file: the lock, in a folder that exists; one of this machine alone, in no folder of the user's, if None.

    Raises:
        UserError: another run holds it.
    """
    if file is None:
        digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        file = Path(tempfile.gettempdir()) / f"dap-{getattr(os, 'getuid', int)()}-{digest}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another {what} is writing into {folder}; wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing_file(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file; a missing or broken file is a `UserError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); delete it and run the command again") from error


def read_recording(folder: Path) -> dict[str, Any] | None:
    """How frames were recorded, by a dataset's `meta/` or a checkpoint's folder; None where it does not say."""
    path = folder / RECORDING_FILE
    recording = read_json(path) if path.exists() else None
    return recording if isinstance(recording, dict) else None


def claim_folder(folder: Path, name: str, request: dict[str, Any], what: str) -> None:
    """Makes `folder` the place of one request, written to its file `name`, or goes on with the same request.

    Args:
        request: what was asked, as plain JSON.
        what: what the folder then holds, in words, such as "a demo".

    Raises:
        UserError: the folder holds something else, or another request.
    """
    file = folder / name
    request = json.loads(json.dumps(request))
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} holds something else ({next(folder.iterdir()).name}); choose another --out")
        write_json(file, request)
        return
    found = read_json(file)
    for key, value in request.items():
        if found.get(key) != value:
            raise UserError(
                f"{folder} holds {what} with {key}={found.get(key)}, not {value}; delete it or choose another --out"
            )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(folder: Path, patterns: Iterable[str]) -> str:
    """One SHA-256 of the names and contents of a folder's files that match a pattern; of none it is one, too."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    listing = "\n".join(f"{file.name} {sha256(file)}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, or the user's share of it, is full; some libraries wrap the system's error in their own."""
    full = (errno.ENOSPC, errno.EDQUOT)
    said = re.compile(rf"{os.strerror(errno.ENOSPC)}|\d+ requested and \d+ written")  # the second is NumPy's
    return (isinstance(error, OSError) and error.errno in full) or said.search(str(error)) is not None
