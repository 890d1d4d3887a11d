"""Print the lower bounds of pyproject.toml as exact versions: `make test-lowest` installs those and runs the tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def main() -> None:
    """`name==version` for each of the project's dependencies, whose form is `name>=version`."""
    for line in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
        print(line.replace(">=", "=="))


if __name__ == "__main__":
    main()
