"""Print the exact versions of what cfdiff[dev] needs, as installed here, in the layout of constraints.txt.

Only names and versions: no registry address and not cfdiff itself. The CUDA packages and triton are left
out because torch requires exact versions of them, which differ from one platform to the next.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINNED_BY_TORCH = re.compile(r"nvidia-|cuda-|triton$")


def main() -> None:
    """Walk the requirements from cfdiff[dev] down and print `name==version` for each that is installed."""
    todo = [Requirement("cfdiff[dev]")]
    done: set[tuple[str, str]] = set()
    versions: dict[str, str] = {}
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        extras = {"", *wanted.extras}
        new = {extra for extra in extras if (name, extra) not in done}
        if not new or PINNED_BY_TORCH.match(name):
            continue
        done |= {(name, extra) for extra in new}
        try:
            package = distribution(name)
        except PackageNotFoundError:  # asked for on another platform only
            continue
        versions[name] = package.version.partition("+")[0]
        for line in package.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in new):
                todo.append(needed)
    del versions["cfdiff"]
    print("# The versions that the tests passed with; `make lock` rewrites this file.")
    for name in sorted(versions):
        print(f"{name}=={versions[name]}")


if __name__ == "__main__":
    main()
