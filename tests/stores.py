"""Stores in memory for tests: one that is as it should be, and one that fails or lies when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem


class Odd(MemoryFileSystem):
    """`odd://`, a file system whose every call of `method` may be met: `on[method](path)` may raise or return bytes."""

    protocol = "odd"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    on: ClassVar[dict[str, Callable[[str], bytes | None]]] = {}

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("odd://"))

    def _met(self, method: str, path: str) -> bytes | None:
        return self.on[method](path) if method in self.on else None

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self._met("put", path)
        super().pipe_file(path, value, **kwargs)

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> bytes:
        found = self._met("cat", path)
        return super().cat_file(path, *args, **kwargs) if found is None else found

    def get_file(self, path: str, *args: Any, **kwargs: Any) -> None:
        self._met("get", path)
        super().get_file(path, *args, **kwargs)

    def rm_file(self, path: str) -> None:
        self._met("rm", path)
        super().rm_file(path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._met("ls", path)
        return super().ls(path, detail, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._met("info", path)
        return super().info(path, **kwargs)


def failing(times: int, error: Callable[[], Exception]) -> Callable[[str], None]:
    """What fails so many times, and never again."""
    left = [times]

    def meet(path: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error()

    return meet


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of `memory://`, empty; what failed is tried again at once."""
    monkeypatch.setattr("cfdiff.remote.PAUSE", 0.0)
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Odd]]:
    """`odd://`, empty and as it should be until its `on` says otherwise."""
    monkeypatch.setattr("cfdiff.remote.PAUSE", 0.0)
    fsspec.register_implementation("odd", Odd, clobber=True)
    Odd.store.clear()
    Odd.pseudo_dirs[:] = [""]
    monkeypatch.setattr(Odd, "on", {})
    yield Odd
    Odd.store.clear()
