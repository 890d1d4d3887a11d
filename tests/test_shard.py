from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.shard import Shard


@given(of=st.integers(1, 40), count=st.integers(0, 120))
def test_together_the_shards_have_every_piece_once_and_in_order(of: int, count: int) -> None:
    shares = [Shard(number, of).share(range(count)) for number in range(1, of + 1)]
    assert [piece for share in shares for piece in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for number, share in enumerate(shares, 1):
        assert all(Shard(1, of).of_piece(piece, count) == Shard(number, of) for piece in share)


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.parse("3/100") == Shard(3, 100) and str(Shard(3, 100)) == "3/100"


@pytest.mark.parametrize(
    ("text", "said"), [("3", "as 3/100"), ("0/4", "1/4 to 4/4: where an array counts from 0, add 1"), ("5/4", "1/4")]
)
def test_what_is_no_shard_is_said_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Shard.parse(text)
