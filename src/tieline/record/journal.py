"""A record survives the process from the moment it is appended: memory-mapped segments in a folder of the process's own.

A copy into a shared mapping belongs to the kernel, so ``kill -9`` loses nothing; a power cut may lose what was not synced
yet (``sync``). Why not ``write(2)``: docs/decisions/0002.

A segment is made ahead by the thread that has the time (``make_spare``): its blocks wait for the disk, its pages for the kernel.

A frame is ``length, crc32, payload``. A last one that does not check out was cut by a kill; one with others after it is damage.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout
from typing import Final
from weakref import finalize

from tieline.types.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows has no flock; there a slot is simply never shared
    fcntl = None  # type: ignore[assignment]

SEGMENT_BYTES = 2 * 1024 * 1024
MAX_FRAME_BYTES = 4 * 1024 * 1024
"""A longer payload in a file is damage, not a record."""
_MAX_SLOTS = 1_024
_MAGIC = b"TLJ1\0\0\0\0"
_HEAD: Final = Layout("<II")
_HEAD_BYTES: Final = 8
_pack: Final = _HEAD.pack
_crc32: Final = zlib.crc32
_BLOCK = bytes(65_536)
_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE, since Linux 5.14."""


class Segment:
    """One file. ``frames`` were appended, ``done`` of them need no replay any more."""

    __slots__ = ("_fd", "_map", "_size", "_used", "closed", "done", "frames", "path", "spooled")

    def __init__(self, path: Path, size: int, *, ahead: bool = False) -> None:
        """``ahead``: nobody waits for it, so that its pages are made now instead of by the first to write to each."""
        self.path = path
        self._size = size
        self._used = len(_MAGIC)
        self.frames = self.done = 0
        self.closed = False
        self.spooled = False
        """Holds records that are nowhere else in this process."""
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            _reserve(self._fd, size)
            self._map = mmap.mmap(self._fd, size)
            if ahead:
                _populate(self._fd, self._map, size)
        except BaseException:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise
        self._map[: self._used] = _MAGIC

    def append(self, payload: bytes) -> bool:
        """False when it does not fit."""
        start, length = self._used, len(payload)
        end = start + _HEAD_BYTES + length
        if end > self._size:
            return False
        # A kill in the middle of the copy leaves a frame whose sum does not fit.
        self._map[start:end] = _pack(length, _crc32(payload)) + payload
        self._used = end
        self.frames += 1
        return True

    @property
    def finished(self) -> bool:
        return self.done >= self.frames and not self.spooled

    def sync(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        self.closed = True
        if self._fd >= 0:
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


class Journal:
    """The segments of one process in a slot of the spool folder. Not for several threads at once: the recorder locks."""

    def __init__(self, spool: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.slot = Slot.claim(spool)
        self._segment_bytes = segment_bytes
        self._number = self.inherited = max((int(path.stem) for path in self.slot.segments()), default=0)
        """The last segment that is not ours but a dead process's."""
        self._current: Segment | None = None
        self._spare: Segment | None = None
        self.segments: list[Segment] = []

    def append(self, payload: bytes) -> Segment:
        """Raises OSError when the disk is full."""
        current = self._current
        if current is None or not current.append(payload):
            current = self._next(len(payload))
            current.append(payload)
        return current

    def rotate(self) -> None:
        """The next append starts a new segment."""
        if self._current:
            self._current.closed = True
            self._current = None

    def sweep(self) -> list[Segment]:
        """Gives up the segments whose records are all safe elsewhere: who asks removes them, which waits for the disk."""
        done = [segment for segment in self.segments if segment.closed and segment.finished]
        for segment in done:
            self.segments.remove(segment)
        return done

    def wants_spare(self) -> Path | None:
        """Where ``make_spare`` is to make the next segment; None when there is one."""
        return None if self._spare else self._next_path()

    def make_spare(self, path: Path) -> Segment:
        """The one part that needs no lock. Raises OSError when the disk is full."""
        return Segment(path, self._segment_bytes, ahead=True)

    def keep_spare(self, spare: Segment) -> None:
        if not self.segments or self.segments[-1].path < spare.path:
            self._spare = spare
        else:  # it comes too late: segments are read in the order of their numbers
            spare.remove()

    def close(self) -> None:
        """Removes what is finished, leaves the rest to the next start, gives the slot up."""
        self.rotate()
        for segment in self.sweep():
            segment.remove()
        self._drop_spare()
        for segment in self.segments:
            segment.sync()
            segment.close()
        self.slot.release()

    def _next(self, payload_bytes: int) -> Segment:
        self.rotate()
        size = payload_bytes + len(_MAGIC) + _HEAD_BYTES
        segment, self._spare = self._spare, None
        if segment is None or size > self._segment_bytes:
            if segment is not None:
                segment.remove()
            segment = Segment(self._next_path(), max(size, self._segment_bytes))
        self.segments.append(segment)
        self._current = segment
        return segment

    def _next_path(self) -> Path:
        self._number += 1
        return self.slot.folder / f"{self._number:012d}.seg"

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.remove()


class Slot:
    """A numbered folder in the spool that one living process has locked."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._held = {lock}
        """A set, because of a compiled class nobody can be told that it is gone."""
        self.release = finalize(self._held, os.close, lock)
        """Idempotent; by itself when nobody has the slot any more."""
        self.release.atexit = False

    @classmethod
    def claim(cls, spool: Path) -> Slot:
        """The first that is free. Raises ConfigError when the folder cannot be written."""
        try:
            for number in range(_MAX_SLOTS):
                folder = spool / str(number)
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if slot := cls._try(folder):
                    return slot
        except OSError as error:
            raise ConfigError(
                f"cannot write the folder {spool}: {error.strerror}.",
                place="store.spool",
                hint="Name a folder that can be written: records wait there while the database is away.",
            ) from error
        raise ConfigError(f"all {_MAX_SLOTS} slots of {spool} are in use", place="store.spool")

    @classmethod
    def orphans(cls, spool: Path) -> Iterator[Slot]:
        """Slots with segments whose process is gone; locked while the caller looks at each."""
        for folder in sorted(spool.glob("[0-9]*")):
            if any(folder.glob("*.seg")) and (slot := cls._try(folder)):
                try:
                    yield slot
                finally:
                    slot.release()

    @classmethod
    def _try(cls, folder: Path) -> Slot | None:
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return None
        return cls(folder, lock)

    def segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.seg"))

    @staticmethod
    def set_aside(path: Path) -> Path:
        """Where a segment is kept that could not be read whole. It is not looked at again."""
        aside = path.with_name(f"{path.stem}-{time.time_ns() // 1_000_000}.damaged")
        path.rename(aside)
        return aside


def read_segment(path: Path, damage: list[str] | None = None) -> Iterator[bytes]:
    """Payloads up to the end. What is not of a kill, and may have cost records, is said in ``damage``."""
    damage = [] if damage is None else damage
    data = path.read_bytes()
    position = len(_MAGIC)
    if data[:position] != _MAGIC:
        if any(data[:position]):  # nothing yet: killed while it was made
            damage.append("not a journal, or of another version")
        return
    cut = False
    while position + _HEAD_BYTES <= len(data):
        length, crc = _HEAD.unpack_from(data, position)
        if length == 0:
            return
        if cut:
            damage.append("a record is damaged")
            cut = False
        position += _HEAD_BYTES
        payload = data[position : position + length]
        if length > MAX_FRAME_BYTES or len(payload) < length:
            damage.append("the rest cannot be read")
            return
        if zlib.crc32(payload) == crc:
            yield payload
        else:
            cut = True
        position += length


def _reserve(fd: int, size: int) -> None:
    """Real blocks, not a hole: writing to a mapped hole on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with contextlib.suppress(OSError):
            os.posix_fallocate(fd, 0, size)
            return
    _write_zeros(fd, size)


def _write_zeros(fd: int, size: int) -> None:
    written = 0
    while written < size:
        written += os.pwrite(fd, _BLOCK[: size - written], written)


def _populate(fd: int, mapped: mmap.mmap, size: int) -> None:
    """Written to before, a page of the file needs no new block, for which the first touch of it might wait."""
    _write_zeros(fd, size)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            for start in range(0, size, len(_BLOCK)):
                mapped.madvise(_POPULATE_WRITE, start, min(len(_BLOCK), size - start))
