"""A folder of finished and unfinished trainings.

A file is written whole or not at all, never changed, and read only if its sum is right. It is one of NumPy's .npz
archives: named arrays, of which `rnnlab` holds words about them as JSON, and the SHA-256 sum of all that as the
archive's comment. Nothing in it is ever executed.
"""

import hashlib
import io
import json
import os
import re
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import uuid4

import numpy as np

from rnnlab.training.records import OUTCOMES, SERIES
from rnnlab.values import checked

VERSION = 2  # of what a file holds
RUN, CHECKPOINT, SUMMARY = "run", "checkpoint", "summary"
ASIDE, PART = "aside", "part"
_NAME = re.compile(r"[0-9a-f]{20}-[0-9]{12}\.(run|checkpoint)")
_WORDS = {"spec", "update", "start", "own", "provenance"}
_ARRAYS = {"seeds", "members", "theta", "updates", *SERIES, *OUTCOMES}
_SUM = 64  # hexadecimal digits
_STALE = 3_600  # seconds after which nobody writes to a temporary file any more


class DamagedError(ValueError):
    """A file that is not what was once written; the message says in what."""


@dataclass(frozen=True)
class File:
    """What a file holds: its name, words and numbers about it, and arrays; none of these is called `rnnlab`."""

    name: str
    header: dict[str, Any]
    arrays: dict[str, np.ndarray]


def encode(file: File, *, save: Callable[..., None] = np.savez) -> bytes:
    """The file as bytes, with its sum; `save` is `numpy.savez`, or writes such an archive otherwise."""
    words = json.dumps({"version": VERSION, "name": file.name, "header": file.header})
    archive = io.BytesIO()
    save(archive, rnnlab=np.frombuffer(words.encode(), dtype=np.uint8), **file.arrays)
    body = archive.getvalue()[:-2] + _SUM.to_bytes(2, "little")  # the last two bytes say how long the comment is
    return body + hashlib.sha256(body).hexdigest().encode()


@checked
def decode(data: bytes, *, name: str = "data") -> File:
    """What `encode` was given.

    Args:
        data: that.
        name: what to call it in a refusal.

    Raises:
        DamagedError: `data` is something else, of another version, or does not have its sum.
    """
    if data[:4] != b"PK\3\4" or data[30:40] != b"rnnlab.npy":  # where an archive says what is first in it
        old = data.startswith(b"rnnlab store ")
        raise DamagedError(f"{name} is " + ("of another version of the store" if old else "no file of rnnlab's store"))
    if hashlib.sha256(memoryview(data)[:-_SUM]).hexdigest().encode() != data[-_SUM:]:
        raise DamagedError(f"{name} is truncated or changed: its sum is another")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = dict(archive)
        words = json.loads(arrays.pop("rnnlab").tobytes())
        version, file = words["version"], File(str(words["name"]), dict(words["header"]), arrays)
    except Exception as error:  # whatever reading it may raise
        raise DamagedError(f"{name} is not as rnnlab writes it: {error}") from error
    if version != VERSION:
        raise DamagedError(f"{name} is of another version of the store")
    return file


def _named(name: str, data: bytes) -> File:
    """What `decode` makes of it, if it is what was written under this name."""
    file = decode(data, name=name)
    if file.name != name:
        raise DamagedError(f"{name} is {file.name} under another name")
    if lacking := _WORDS.difference(file.header) | _ARRAYS.difference(file.arrays):
        raise DamagedError(f"{name} is not a training: it lacks {sorted(lacking)}")
    return file


def _opened(path: Path) -> File | Exception:
    """What a file holds, or why it cannot be had."""
    try:
        return _named(path.name, path.read_bytes())
    except (DamagedError, OSError) as reason:
        return reason


def _sound(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """What an archive holds under this name, if it is a file of a store."""
    stream = tar.extractfile(member) if member.isfile() and _NAME.fullmatch(member.name) else None
    if stream is None:
        raise DamagedError(f"{member.name!r} is no file of a store")
    _named(member.name, data := stream.read())
    return data


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Where to write a file whole or not at all; in the end it has reached the disk."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.{PART}")
    try:
        with part.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def default_folder() -> Path:
    """Where a store lies unless told otherwise: `RNNLAB_STORE`, else the user's folder for data.

    Raises:
        ValueError: the user has no home folder.
    """
    if chosen := os.environ.get("RNNLAB_STORE"):
        return expanded(chosen)
    data = expanded(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # the standard of this variable has it ignored then
        data = expanded("~/Library/Application Support" if sys.platform == "darwin" else "~/.local/share")
    return data / "rnnlab"


def expanded(path: str | Path) -> Path:
    """A path with the home folder in place of ~.

    Raises:
        ValueError: there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"folder must be a whole path where ~ is nobody's home folder, got {str(path)!r}; "
            f"RNNLAB_STORE names a store's folder, and HOME the home folder"
        ) from None


@dataclass(frozen=True, init=False)
class Store:
    """A folder of trainings; made when something is first written to it.

    Processes share a store without harm: what two of them compute at once is the same, and the last one's file stays.

    Args:
        folder: `default_folder()` unless told otherwise.

    Raises:
        ValueError: `folder` is no path, a file or inside of one, or the user has no home folder.
    """

    folder: Path

    def __init__(self, folder: str | Path | None = None) -> None:
        """Refuse what cannot be a folder."""
        chosen = default_folder() if folder is None else folder
        wanted = "folder must be the path of a folder, or None for the default one"
        if not isinstance(chosen, str | Path) or "\0" in str(chosen):
            raise ValueError(f"{wanted}, got {chosen!r}")
        path = expanded(chosen).absolute()
        if file := next((part for part in (path, *path.parents) if part.is_file()), None):
            raise ValueError(f"{wanted}, got {str(chosen)!r}: {file} is a file")
        object.__setattr__(self, "folder", path)

    def files(self, *kinds: str) -> list[Path]:
        """Its finished and unfinished trainings, or only those of some kinds, by name."""
        kinds = kinds or (RUN, CHECKPOINT)
        return [path for path in self._all() if _NAME.fullmatch(path.name) and path.suffix[1:] in kinds]

    def _all(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def family(self, name: str) -> list[File]:
        """The readable files of one ensemble at every budget, the furthest first."""
        kept = (self.read(path.name) for path in self.folder.glob(f"{name}-*") if _NAME.fullmatch(path.name))
        return sorted((file for file in kept if file), key=lambda file: -int(file.header.get("update", 0)))

    def begun(self) -> list[tuple[str, dict[str, Any], list[int]]]:
        """Name, header and seeds of each of its trainings, the furthest first; sums are not looked at."""
        found = []
        for path in self.files():
            with suppress(Exception), np.load(path, allow_pickle=False) as archive:  # whatever reading it may raise
                words, seeds = json.loads(archive["rnnlab"].tobytes()), archive["seeds"].tolist()
                found.append((path.name, dict(words["header"]), seeds))
        return sorted(found, key=lambda one: -int(one[1].get("update", 0)))

    def read(self, name: str) -> File | None:
        """A file of the store, or None where there is none; a damaged one is named in a warning and set aside."""
        path = self.folder / name
        found = _opened(path)
        if isinstance(found, File):
            return found
        if not isinstance(found, FileNotFoundError):
            warnings.warn(f"set aside in {self.folder}, and computed anew where it is needed: {found}", stacklevel=2)
            with suppress(OSError):
                path.replace(path.with_name(f"{name}.{ASIDE}"))
        return None

    def prepare(self) -> None:
        """Make the folder, if it is not there yet.

        Raises:
            OSError: it cannot be made, or not be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            said = f"the store cannot be written to: {error.strerror} (RNNLAB_STORE names another folder)"
            raise OSError(error.errno, said, str(self.folder)) from error

    def write(self, file: File) -> None:
        """Put a file in.

        Raises:
            OSError: the folder cannot be written to, or is full; what stood there stands.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with written(self.folder / file.name) as stream:
            stream.write(encode(file))

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether no other process of this machine is within the same, by a name; until then others are told so."""
        import fcntl

        self.prepare()
        with (self.folder / f".{name}.{PART}").open("w") as hold:
            try:
                fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def remove(self, name: str) -> None:
        """Take a file out, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def verify(self) -> dict[Path, str]:
        """What is wrong with each file that is not as it was written; nothing is changed."""
        return {path: str(found) for path in self.files() if not isinstance(found := _opened(path), File)}

    def pack(self, archive: Path) -> int:
        """Put all its trainings into one tar file, and return how many; damaged ones stay out.

        Raises:
            OSError: `archive` cannot be written.
        """
        names = [path.name for path in self.files() if self.read(path.name)]
        with written(archive) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            for name in names:
                tar.add(self.folder / name, name, recursive=False)
        return len(names)

    def unpack(self, archive: Path) -> int:
        """Take in what `pack` put into a tar file, and return how many were new; what is there already stays.

        Raises:
            DamagedError: something in it is no training as it was written; then nothing is taken in.
            OSError: `archive` cannot be read, or the store not be written to.
        """
        try:
            with tarfile.open(archive, "r:") as tar:
                for member in tar:
                    _sound(tar, member)
                self.prepare()
                new = [member for member in tar if not (self.folder / member.name).exists()]
                for member in new:
                    with written(self.folder / member.name) as stream:
                        stream.write(_sound(tar, member))
        except (tarfile.TarError, DamagedError) as error:
            raise DamagedError(f"{archive} is refused, and nothing taken in: {error}") from error
        return len(new)

    def litter(self) -> list[Path]:
        """What nobody needs: files set aside, checkpoints of what has been finished, parts of files an hour old."""
        finished, now = {path.stem for path in self.files(RUN)}, time.time()
        ends = {kind: [path for path in self._all() if path.suffix == f".{kind}"] for kind in (PART, ASIDE)}
        found = [path for path in self.files(CHECKPOINT) if path.stem in finished] + ends[ASIDE]
        return found + [path for path in ends[PART] if now - path.stat().st_mtime > _STALE]


def _as_store(name: str, given: object) -> Store | None:
    return given if given is None or isinstance(given, Store) else Store(given)  # type: ignore[arg-type]


Kept = Annotated[Store | None, _as_store]  # a store, or its folder's path; None keeps nothing
