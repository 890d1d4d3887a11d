from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from stores import Odd, failing, memory, odd

from cfdiff.errors import UserError
from cfdiff.remote import TRIES, Store, is_url, secretive, shown

__all__ = ["memory", "odd"]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *[(text, True) for text in ("s3://b/x.h5", "file:///x", "az://c@a/x", "zip://x.h5::s3://b/x.zip", "S3://b/x")],
        *[(text, False) for text in ("C:/x", r"C:\x", "C://x", "x", "/x/y", "./s3", "s3:/b", "s3://", "://x", "")],
        *[(text, False) for text in ("malaria-cells", "a::b", "1s://x", "a b://x", "\0://x", "x" * 5000)],
        ("https://h/x.h5?sig=" + "a" * 5000, True),
    ],
)
def test_an_url_is_told_from_a_path(text: str, is_one: bool) -> None:
    assert is_url(text) == is_one


def test_a_path_that_is_here_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_url("s3://b/x.h5")
    Path("s3:/b").mkdir(parents=True)
    Path("s3://b/x.h5").touch()
    assert not is_url("s3://b/x.h5")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:secret@bucket/x.h5", "s3://bucket/x.h5"),
        ("s3://key:se/cr/et@bucket/x@y.h5", "s3://bucket/x@y.h5"),
        ("sftp://user@host:22/x", "sftp://host:22/x"),
        ("sftp://host:22/a@b/x", "sftp://host:22/a@b/x"),
        ("s3://bucket/a@b.h5", "s3://bucket/a@b.h5"),
        ("https://h/x.h5?X-Signature=abc&b=1", "https://h/x.h5"),
        ("zip://x.h5::https://u:p@h/x.zip?s=1", "zip://x.h5::https://h/x.zip"),
        ("file:///a/b@c", "file:///a/b@c"),
        *[
            (f"{kind}://box@account.dfs.core.windows.net/x@y", f"{kind}://box@account.dfs.core.windows.net/x@y")
            for kind in ("az", "abfs", "abfss", "adl", "wasb", "wasbs", "ABFS")
        ],
        ("abfs://key:se/cret@account/x", "abfs://account/x"),
        ("zip://x.h5::az://box@account/x.zip?sig=1", "zip://x.h5::az://box@account/x.zip"),
        ("gaz://user@host/x", "gaz://host/x"),
        ("s3://user:pa/ss@bucket/x", "s3://bucket/x"),
        ("s3://user:pa ss@bucket/x", "s3://bucket/x"),
        ("what is it? no URL: a@b", "what is it? no URL: a@b"),
    ],
)
def test_what_is_shown_of_an_url_has_no_secret(url: str, said: str) -> None:
    assert shown(url) == said
    assert secretive(url) == (url != said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("There is no s3://key:secret@b/x, nor sftp://u@h/y.", "There is no s3://b/x, nor sftp://h/y."),
        ("No s3://user:pa/ss@bucket/x here.", "No s3://bucket/x here."),
        ("No zip://x.h5::https://u:p@h/x.zip here.", "No zip://x.h5::https://h/x.zip here."),
        ("No abfs://box@account.dfs.core.windows.net/x.", "No abfs://box@account.dfs.core.windows.net/x."),
        ("No abfs://key:secret@account/x.", "No abfs://account/x."),
        ("Not sftp://host:22/a@b, nor s3://b: ask me@home.", "Not sftp://host:22/a@b, nor s3://b: ask me@home."),
    ],
)
def test_no_sentence_has_the_login_of_an_url_whoever_says_it(words: str, said: str) -> None:
    assert str(UserError(words)) == said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere://b/x", "Protocol not known: nowhere"),
        ("x", "'x' is no URL"),
        ("/x", r"file:///its/path\.$"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Store(url)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as an import that fails
    with pytest.raises(
        UserError, match=r"s3://b/x needs a package that is not installed \(Install s3fs to access S3\)"
    ):
        Store("s3://b/x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"pip install 'cfdiff\[cloud\]'"):
        Store("s3://b/x")


def test_what_fails_now_and_then_is_tried_again_and_at_last_said_without_secrets(odd: type[Odd]) -> None:
    store = Store("odd://key:s%2Fecret@run")
    odd.on["put"] = failing(TRIES - 1, lambda: OSError("no network"))
    store.write("a", b"1")
    assert store.read("a") == b"1" and store.read("b") is None and store.sizes() == {"a": 1}
    odd.on["put"] = failing(TRIES, lambda: RuntimeError("odd://key:s%2Fecret@run: key refused, s/ecret is wrong"))
    with pytest.raises(UserError) as caught:
        store.write("a", b"2")
    assert str(caught.value).startswith("odd://run cannot be written (odd://run: … refused, … is wrong): check")
    assert caught.value.__suppress_context__  # a traceback has no secret either
    odd.on["put"] = failing(1, PermissionError)  # which a second try would not change
    with pytest.raises(UserError, match="no permission"):
        store.write("a", b"2")
    assert store.read("a") == b"1"


def test_a_folder_is_made_where_it_alone_is_missing(tmp_path: Path) -> None:
    Store(f"file://{tmp_path}/run").write("a", b"1")
    assert (tmp_path / "run" / "a").read_bytes() == b"1"
    with pytest.raises(UserError, match="cannot be written"):
        Store(f"file://{tmp_path}/none/run").write("a", b"1")
    assert not (tmp_path / "none").exists()


def test_no_bucket_is_made(odd: type[Odd], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: str) -> None:
        raise FileNotFoundError(path)

    def mkdir(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Odd, "mkdir", mkdir)
    odd.on["put"] = none
    with pytest.raises(UserError, match="odd://bucket cannot be written"):
        Store("odd://bucket").write("a", b"1")


def test_only_what_is_named_is_removed(memory: Any) -> None:
    store = Store("memory://run/")
    for name in ("a", "b"):
        store.write(name, b"1")
    store.remove(["a", "never"])
    assert store.sizes() == {"b": 1}
