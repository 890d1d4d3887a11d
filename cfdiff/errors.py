"""The one exception for a user's mistake."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong, where, and what to do: one sentence, shown without a traceback, exit code 2."""
