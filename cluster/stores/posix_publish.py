"""Publishing on a local or network disk: a whole file appears under its name, or nothing does."""

import errno
import hashlib
import os
import socket
import time
import uuid
from pathlib import Path

BLOCK = 1 << 16
TMP = "_run/tmp"
OLD_SECONDS = 24 * 3600.0
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


class PosixPublisher:
    """Temporary file in `<root>/_run/tmp`, fsync, hard link; rename where the disk has no hard links.

    The link fails where the name is taken, at once and for every machine that shares the disk. "Look, then open"
    does neither: a killed writer leaves a stump under the final name that blocks the retry.
    """

    def __init__(self, root: str):
        self.root = Path(root)

    def publish(self, name: str, data: bytes | Path) -> tuple[int, str, str]:
        """(size, sha256, outcome). Raises OSError; nothing is visible then."""
        temporary, size, digest = self._stage(data)
        final = self.root / name
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            outcome = self._place(temporary, final, digest)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return size, digest, outcome

    def create(self, name: str, data: bytes) -> bool:
        """Publishes `data` unless the name is taken; whether it did."""
        temporary, _, _ = self._stage(data)
        final = self.root / name
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            linked = _link(temporary, final)
            if linked is None:
                if final.exists():
                    return False
                os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return linked is not False

    def can_link(self) -> bool:
        """Whether the disk has hard links that refuse a name that is taken."""
        first, other = self._stage(b"1")[0], self._stage(b"2")[0]
        target = first.with_name(first.name + "-link")
        try:
            return _link(first, target) is True and _link(other, target) is False
        finally:
            for path in (first, other, target):
                path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Removes what writers that were killed more than a day ago left behind; the number of files."""
        count = 0
        try:
            entries = list(os.scandir(self.root / TMP))
        except OSError:
            return 0
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > OLD_SECONDS:
                    os.unlink(entry.path)
                    count += 1
            except OSError:
                continue  # another driver was faster
        return count

    def _stage(self, data: bytes | Path) -> tuple[Path, int, str]:
        """Complete, synced copy of `data` under a name of its own: (path, size, sha256)."""
        folder = self.root / TMP
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex}"
        digest, size = hashlib.sha256(), 0
        try:
            with open(path, "xb") as file:
                for block in blocks(data):
                    file.write(block)
                    digest.update(block)
                    size += len(block)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path, size, digest.hexdigest()

    def _place(self, temporary: Path, final: Path, digest: str) -> str:
        linked = _link(temporary, final)
        if linked:
            return "created"
        earlier = file_digest(final)
        if earlier == digest:
            return "same"
        os.replace(temporary, final)
        return "created" if earlier is None else "replaced"


def blocks(data: bytes | Path):
    """The bytes in blocks, so that a large file is never in memory as a whole."""
    if isinstance(data, Path):
        with open(data, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    else:
        view = memoryview(data)
        for start in range(0, len(view), BLOCK):
            yield view[start : start + BLOCK]


def file_digest(path: Path) -> str | None:
    """Hex SHA-256 of a file, None where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _link(source: Path, target: Path) -> bool | None:
    """True: linked; False: the name is taken; None: no hard links here."""
    try:
        os.link(source, target)
    except FileExistsError:
        # NFS may lose the answer to a link that succeeded, and be asked again.
        return os.stat(source).st_nlink > 1 and os.path.samefile(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return None
        if error.errno == errno.EXDEV:
            raise OSError(errno.EXDEV, f"{target.parent} lies on another disk than {TMP}", str(target)) from error
        raise
    return True


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself durable; some disks cannot, and do not need to be asked twice."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
