"""Files from public hosts: asked for by name, checked by hash, resumed when a transfer breaks, never half written."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scapp._settings import settings
from scapp._tables import PathLike, existing_file

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

# Where files are kept, and from where they are fetched, unless an argument says so.
DIR_VARIABLE = "SCAPP_DATA_DIR"
URL_VARIABLE = "SCAPP_DATA_URL"
# Seconds without a byte after which a transfer counts as broken; tries after the first; seconds before the first of these.
TIMEOUT = 30.0
RETRIES = 3
PAUSE = 1.0
CHUNK = 1 << 16
# A transfer that comes so many bytes farther has all its tries again: files of gigabytes break off more than a few times.
RETRY_RESET_BYTES = 1 << 24
# A server that is busy or restarting may answer the next time; one that does not know the file will not.
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_HTML_PREFIXES = (b"<!doctype html", b"<html")
# How files of a kind begin, so that something else is noticed even where no hash is published.
_MAGIC_BYTES = {
    ".h5ad": (b"\x89HDF",),
    ".h5mu": (b"MuData", b"\x89HDF"),  # mudata puts its own name in front of the HDF5 file
    ".npz": (b"PK",),
    ".zip": (b"PK",),
    ".gz": (b"\x1f\x8b",),
}


class WrongFileError(ValueError):
    """Return the error for a download that is not the requested file."""


@dataclass(frozen=True)
class RemoteFile:
    """A public file: its name in the local folder and on a mirror, its source, and how it is recognised.

    `known_hash` is for example ``"md5:…"``, None where none is published; `header` is how the text of the file begins, once it is
    unpacked, empty if that is not known.
    """

    name: str
    url: str
    known_hash: str | None = None
    header: str = ""


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of downloaded files: `folder`, else ``$SCAPP_DATA_DIR``, else ``scanpy.settings.datasetdir``."""
    chosen = folder or os.environ.get(DIR_VARIABLE)
    if not chosen:
        import scanpy

        chosen = scanpy.settings.datasetdir
    return Path(chosen).expanduser()


def fetch(
    file: RemoteFile,
    *,
    local: PathLike | None = None,
    folder: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
    timeout: float | None = None,
    retries: int | None = None,
) -> Path:
    """Return the path of a file, which is downloaded if it is not there.

    `local` is a copy of it, taken instead of downloading it. Files are kept in `folder`, also in folders inside; see
    :func:`data_folder`. One that is there is never written over. `base_url` is a mirror that has the file under its name; else that
    of ``$SCAPP_DATA_URL``, else the public host. `timeout` is in seconds without a byte, `retries` counts tries after the first; a
    transfer that has come far since has all of these again.

    Raises
    ------
    ConnectionError
        If the file cannot be fetched. What had arrived is removed.
    ValueError
        If something else was sent, or a file of that name is there whose hash is another.
    OSError
        If the folder is none or cannot be written, or the disk is full. What had arrived is removed.
    """
    if local is not None:
        return existing_file(local)
    import pooch

    path = data_folder(folder) / file.name
    for place in _places(path.parent, file.name):
        if place.is_file():
            if file.known_hash and not pooch.hashes.hash_matches(str(place), file.known_hash):
                raise WrongFileError(
                    f"The file {str(place)!r} is not the published {file.name!r}: its hash is not {file.known_hash}. Move it "
                    "away, so that it is downloaded anew, or name another folder with folder=…."
                )
            return place
    exists = next(folder for folder in path.parents if folder.exists())
    if not exists.is_dir():
        raise NotADirectoryError(
            errno.ENOTDIR,
            f"{str(exists)!r} is a file, and the folder of files was expected. Name its folder with folder=… or ${DIR_VARIABLE}.",
        )
    mirror = base_url or os.environ.get(URL_VARIABLE)
    if mirror and not mirror.lower().startswith(("http://", "https://")):
        raise ValueError(
            f"A mirror must be an address that begins with http:// or https://, found {mirror!r}. A folder that has {file.name!r} "
            f"is named with folder=… or ${DIR_VARIABLE}."
        )
    url = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.url
    seconds, tries = TIMEOUT if timeout is None else timeout, RETRIES if retries is None else retries
    downloader = Downloader(file, progress_bar, seconds, tries)
    logger.info("Downloading %s from %s.", file.name, url)
    of_pooch = pooch.get_logger()  # which names folders, and recommends a hash that nobody has published
    level = of_pooch.level
    of_pooch.setLevel(logging.WARNING)
    try:
        # The file appears under its name only when it is complete and its hash is right; else it is removed.
        pooch.retrieve(url, file.known_hash, fname=path.name, path=path.parent, downloader=downloader)
    except WrongFileError:
        raise
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        raise OSError(
            error.errno,
            f"The disk of {str(path.parent)!r} is full: {file.name!r} does not fit. Nothing was kept. Free some space, or name "
            f"another folder with folder=… or ${DIR_VARIABLE}.",
        ) from error
    except ValueError as error:
        raise WrongFileError(
            f"{url} sent a file that is not {file.name!r}: its hash is not {file.known_hash}. It was removed. The host may "
            f"have changed the file or a proxy stands between. You can {_mend(file)}"
        ) from error
    finally:
        of_pooch.setLevel(level)
    return path


def small_tables(
    names: Sequence[str],
    *,
    instead_of: RemoteFile,
    local: PathLike | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> list[Path] | None:
    """Return small tables that the folder of data holds in the place of a large file, all of them or None.

    They lie in the folder or in one inside it. The large file, `instead_of`, is read where it is, or where the user named a copy of
    it with `local`. Without `folder` only ``$SCAPP_DATA_DIR`` counts, since someone filled that folder.
    """
    chosen = folder or os.environ.get(DIR_VARIABLE)
    if local is not None or not chosen:
        return None
    place = Path(chosen).expanduser()
    found = [next((path for path in _places(place, name) if path.is_file()), None) for name in names]
    if None in found or any(path.is_file() for path in _places(place, instead_of.name)):
        return None
    logger.info("Reading the small table %s in the place of %s.", " and ".join(names), instead_of.name)
    return [path for path in found if path is not None]


def _places(folder: Path, name: str) -> list[Path]:
    """Return the possible paths of a file, because a collection may be sorted into folders such as networks/."""
    return [folder / name, *sorted(folder.glob(f"*/{name}"))]


def _mend(file: RemoteFile) -> str:
    return (
        f"try again, fetch {file.url} by other means and name its folder with folder=… or ${DIR_VARIABLE}, or name a mirror "
        f"with base_url=… or ${URL_VARIABLE}."
    )


@dataclass(frozen=True)
class Downloader:
    """Streams a file to disk for pooch; a transfer that breaks goes on where it stopped, if the server can."""

    file: RemoteFile
    progress_bar: bool
    timeout: float
    retries: int

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`, in the manner that pooch asks for."""
        import requests

        path = Path(output_file)
        tries = failed = farthest = 0
        while True:
            tries += 1
            try:
                self._stream(url, path)
                break
            except requests.exceptions.RequestException as error:
                arrived = path.stat().st_size if path.exists() else 0
                if arrived >= farthest + RETRY_RESET_BYTES:
                    failed, farthest = 0, arrived
                failed += 1
                status = getattr(error.response, "status_code", None)
                if failed > self.retries or (status is not None and status not in _TRY_AGAIN):
                    times = "1 try" if tries == 1 else f"{tries} tries"
                    raise ConnectionError(
                        f"{self.file.name!r} could not be downloaded from {url} in {times}: {_reason(error)} "
                        f"Nothing was kept. You can {_mend(self.file)}"
                    ) from error
                logger.warning("%s: %s Trying again (%d of %d).", url, _reason(error), failed, self.retries)
                time.sleep(PAUSE * 2 ** (failed - 1))
        self._check_content(url, path)

    def _stream(self, url: str, path: Path) -> None:
        import requests

        have = path.stat().st_size if path.exists() else 0
        # Compressed on the way, the length would be that of something else than the file.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, stream=True, timeout=self.timeout, headers=headers) as response:
            resumed = response.status_code == requests.codes.partial_content
            elsewhere = resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if elsewhere or response.status_code == requests.codes.requested_range_not_satisfiable:
                path.unlink()
                raise requests.exceptions.ConnectionError("what had arrived was no beginning of the file.")
            response.raise_for_status()
            if "text/html" in response.headers.get("Content-Type", ""):
                raise WrongFileError(
                    f"{url} answered with a web page instead of {self.file.name!r}: an error page, or one to log in to. "
                    f"You can {_mend(self.file)}"
                )
            self._write(response, path, have if resumed else 0)

    def _write(self, response: requests.Response, path: Path, have: int) -> None:
        """Write what arrives behind the first `have` bytes."""
        import requests
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        length = response.headers.get("Content-Length")
        # A server may compress although it was asked not to; one that calls a .gz file compressed text sends the file.
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        sends_file = encoding == "gzip" and self.file.name.endswith(".gz")
        if sends_file:
            response.raw.headers.pop("Content-Encoding", None)  # so that nothing unpacks it
        unpacked = encoding != "identity" and not sends_file
        total = have + int(length) if length and not unpacked else None
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        silent = not self.progress_bar or settings.is_silent
        progress = Progress(*columns, console=Console(stderr=True), disable=silent)
        with progress as bar, path.open("ab" if have else "wb") as out:
            task = bar.add_task(self.file.name, total=total, completed=have)
            try:
                for chunk in response.iter_content(CHUNK):
                    out.write(chunk)
                    have += len(chunk)
                    bar.update(task, completed=have)
            except requests.exceptions.RequestException:
                if unpacked:  # the server counts packed bytes, so that it cannot go on behind those that arrived
                    out.truncate(0)
                raise
        if total is not None and have < total:
            raise requests.exceptions.ConnectionError(f"the transfer ended after {have:,} of {total:,} bytes.")

    def _check_content(self, url: str, path: Path) -> None:
        """Refuse content of the wrong kind, because not every file has a published hash."""
        with path.open("rb") as file:
            head = file.read(256)
        wanted = self.file.header.encode()
        kind = Path(self.file.name).suffix
        is_page = head.lstrip().lower().startswith(_HTML_PREFIXES)
        fits = bool(head) and not is_page and head.startswith(_MAGIC_BYTES.get(kind, (b"",)))
        if fits and kind == ".gz":
            try:
                with gzip.open(path) as unpacked:
                    head = unpacked.read(256)
                    while unpacked.read(CHUNK):  # to its end, to see that it is whole
                        pass
            except (OSError, EOFError):
                fits = False
        if not fits or not head.startswith(wanted):
            raise WrongFileError(
                f"{url} sent something else than {self.file.name!r}: it begins with {head[:60]!r}"
                f"{f' and not with {self.file.header!r}' if fits else ''}. It was removed. You can {_mend(self.file)}"
            )


def _reason(error: Exception) -> str:
    """Return a sentence on the failure of a transfer."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} ({response.reason})."
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error).lower():
        return "the server stopped sending."
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer ended before the file did."
    # The libraries' messages for these errors are chains of internal names.
    told = str(error)
    if "NameResolutionError" in told or "getaddrinfo failed" in told:
        return "the name of the host cannot be resolved: there may be no network connection, or none that leads there."
    if "NewConnectionError" in told or "ProxyError" in told:
        return "no connection to the host, or to a proxy before it, can be made: there is no network, or it is barred."
    if "RemoteDisconnected" in told or "ConnectionResetError" in told:
        return "the server closed the connection."
    return f"{told.rstrip('.')}."
