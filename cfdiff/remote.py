"""What lies at an URL (s3://, gs://, az://, file:// ...), through fsspec, which is imported when one is first opened.

An URL may hold a secret. `shown` is what results, records and messages may have of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

from cfdiff.errors import LOGIN, UserError
from cfdiff.files import is_there

T = TypeVar("T")

TRIES = 4
PAUSE = 1.0
"""Seconds before the second try of what failed; twice as many before each further one."""
_LONGEST = 400  # characters of a foreign error: some hold a page
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://.", re.DOTALL)
_BLANK = re.compile(r"\s")
_QUERY = re.compile(r"\?.*", re.DOTALL)


def is_url(text: str) -> bool:
    """Whether `text` is an URL and no path of something that is here; `C:/x` is none."""
    return _URL.match(text) is not None and not is_there(Path(text))


def shown(text: str) -> str:
    """An URL without the user, the password and the query, which may be a signature; anything else as it is."""
    if not _URL.match(text):
        return text
    return "::".join(_QUERY.sub("", _without_login(part)) for part in text.split("::"))


def _without_login(part: str) -> str:
    for login in _logins(part):
        part = part.replace(f"://{login}", "://", 1)
    return part


def _logins(part: str) -> list[str]:
    """Those of an URL; in a sentence a blank ends it, and here it may be of a password."""
    return [part[slice(*found.span())] for found in LOGIN.finditer(_BLANK.sub("_", part))]


def secretive(text: str) -> bool:
    """Whether a text is an URL that may hold a secret."""
    return shown(text) != text


class Store:
    """A folder or a file at an URL.

    Attributes:
        name: what messages and results call it.
        fs: fsspec's file system.
        root: the path in it.

    Raises:
        UserError: it is no URL, fsspec or what it needs for this kind of URL is not installed, or none is known.
    """

    def __init__(self, url: str) -> None:
        self._url, self.name = url, shown(url)
        if not is_url(url):
            raise UserError(
                f"{url!r} is no URL, as s3://bucket/folder is: give a folder of this machine as file:///its/path."
            )
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise UserError(
                f"{self.name} needs fsspec, which is not installed: pip install 'cfdiff[cloud]'."
            ) from error
        try:
            self.fs, root = url_to_fs(url)
        except ImportError as error:
            raise UserError(
                f"{self.name} needs a package that is not installed ({self._clean(error)}): pip install it."
            ) from None
        except Exception as error:
            raise self._refused("opened", error) from None
        self.root = str(root).rstrip("/")

    def path(self, name: str) -> str:
        """The path of a file of the folder."""
        return f"{self.root}/{name}"

    def tried(self, doing: str, action: Callable[[], T]) -> T:
        """What `action` returns, which is tried again where a network may have failed; `doing` is "read", "written".

        Raises:
            FileNotFoundError: there is nothing.
            UserError: it failed, in one sentence without secrets.
        """
        pause = PAUSE
        for attempt in range(1, TRIES + 1):
            try:
                return action()
            except (UserError, FileNotFoundError, MemoryError):
                raise
            except Exception as error:  # whatever the many file systems raise
                if attempt == TRIES or isinstance(error, PermissionError | NotImplementedError):
                    # Not `from error`: a traceback would show the foreign words, and perhaps a secret in them.
                    raise self._refused(doing, error) from None
            time.sleep(pause)
            pause *= 2
        raise AssertionError

    def nothing(self) -> UserError:
        """That there is nothing at the URL."""
        return UserError(f"There is nothing at {self.name}: correct the URL, or look at who may read it.")

    def _refused(self, doing: str, error: Exception) -> UserError:
        why = "no permission" if isinstance(error, PermissionError) else self._clean(error)
        return UserError(f"{self.name} cannot be {doing} ({why}): check the URL, its permissions and the network.")

    def _clean(self, error: Exception) -> str:
        """The words of an error, without the secrets of the URL."""
        words = " ".join(str(error).split()).rstrip(".: ") or type(error).__name__
        words = words.replace(self._url, self.name)
        for secret in _secrets(self._url):
            words = words.replace(secret, "…")
        return words[:_LONGEST]

    # A folder of small files.

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of the files that lie in the folder; {} where there is none."""

        def look() -> dict[str, int]:
            self.fs.invalidate_cache()
            found = [entry for entry in self.fs.ls(self.root, detail=True) if entry["type"] == "file"]
            return {entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"] or 0) for entry in found}

        try:
            return self.tried("listed", look)
        except FileNotFoundError:
            return {}

    def read(self, name: str) -> bytes | None:
        """The bytes of a file of the folder; None where it is not there, whatever a list said."""
        try:
            return bytes(self.tried("read", lambda: self.fs.cat_file(self.path(name))))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Have a file in the folder, which is made where only itself is missing."""

        def put() -> None:
            try:
                self.fs.pipe_file(self.path(name), data)
            except FileNotFoundError:
                if "/" not in self.root.strip("/"):  # a bucket, which nobody asked to be made
                    raise
                self.fs.mkdir(self.root, create_parents=False)
                self.fs.pipe_file(self.path(name), data)

        try:
            self.tried("written", put)
        except FileNotFoundError as error:
            raise self._refused("written", error) from None

    def remove(self, names: Sequence[str]) -> None:
        """Remove files of the folder, those that are there."""

        def gone(path: str) -> None:
            try:
                self.fs.rm_file(path)
            except FileNotFoundError:
                return

        for name in names:
            self.tried("removed", partial(gone, self.path(name)))

    # Files to be fetched.

    def infos(self) -> tuple[bool, dict[str, Mapping[str, Any]]]:
        """Whether it is a file, and path -> what the file system says of it, or of every file in the folder.

        Raises:
            UserError: there is nothing.
        """

        def look() -> tuple[bool, dict[str, Mapping[str, Any]]]:
            self.fs.invalidate_cache()
            info = self.fs.info(self.root)
            if info["type"] != "directory":
                return True, {self.root: info}
            return False, self.fs.find(self.root, detail=True)

        try:
            return self.tried("read", look)
        except FileNotFoundError:
            raise self.nothing() from None

    def fetch(self, paths: Sequence[str], files: Sequence[Path], done: Callable[[int], None]) -> None:
        """Copy files of the store to files here, at once where it can; `done` is told the bytes of one alone."""
        from fsspec.callbacks import Callback

        def get() -> None:
            if len(paths) == 1:
                told = Callback(hooks={"bytes": lambda size, value, **_: done(value)})
                self.fs.get_file(paths[0], str(files[0]), callback=told)
            else:
                self.fs.get(list(paths), [str(file) for file in files])

        try:
            self.tried("fetched", get)
        except FileNotFoundError as error:
            raise self._refused("fetched", error) from None


def _secrets(url: str) -> list[str]:
    """What of an URL no message may have, the longest first."""
    user = [found.removesuffix("@") for part in url.split("::") for found in _logins(part)]
    query = [found[1:] for part in url.split("::") for found in _QUERY.findall(part)]
    values = [value for part in query for _, value in parse_qsl(part)]
    parts = [part for found in user for part in (found, *found.split(":", 1))]
    every = {form for part in (*parts, *query, *values) for form in (part, unquote(part))}
    return sorted((part for part in every if len(part) > 2), key=len, reverse=True)
