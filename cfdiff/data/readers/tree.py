"""What lies in a folder of images: which are read, which are not and why, and what each level of folders stands for."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from cfdiff.data.classes import KNOWN_PAIRS
from cfdiff.data.names import fold
from cfdiff.data.splitting import SHARES, SPELLINGS
from cfdiff.errors import UserError

LAYOUTS = {
    "class": ("class",),
    "split/class": ("split", "class"),
    "class/group": ("class", "group"),
    "group/class": ("group", "class"),
    "class/split": ("class", "split"),
    "split/class/group": ("split", "class", "group"),
    "split/group/class": ("split", "group", "class"),
}
"""What `--layout` may say: what the folders stand for, from the outermost to that of the images."""
SPLIT_WORDS = frozenset(word for role in SHARES for word in SPELLINGS.get(role, (role,)))
"""What splits are called, folded."""
SYSTEM = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin", "ehthumbs.db", "picasa.ini"}
    | {"system volume information", "#recycle", "#snapshot"}
)
"""Files and folders that systems leave behind, folded; so are all that begin with a dot."""
MASK_WORDS = frozenset(
    {"mask", "masks", "annotation", "annotations", "ground_truth", "ground-truth", "ground truth", "groundtruth", "gt"}
    | {"label", "labels", "seg", "segs", "segmentation", "segmentations"}
)
"""What folders of masks beside the images are called, folded."""
WRAPPERS = frozenset(
    {"image", "images", "img", "imgs", "picture", "pictures", "photos", "data", "dataset", "raw"}
    | {"png", "jpg", "jpeg", "tif", "tiff", "bmp", "dcm", "dicom", "nii", "nifti"}
)
"""What a folder is called, folded, that stands for nothing where all images lie in one so called."""
DEEPEST = 6
"""Levels of folders that are looked into."""
ELSEWHERE = "images in other folders"


@dataclass(frozen=True)
class Tree:
    """The images of a folder, in order.

    Attributes:
        files: the folders between the root and an image, outermost first, and the image.
        others: what is not read -> how many: a suffix, "dead links", ...
    """

    files: list[tuple[tuple[str, ...], Path]]
    others: Counter[str]

    def at(self, depth: int) -> list[tuple[tuple[str, ...], Path]]:
        """The images under so many folders."""
        return [(folders, path) for folders, path in self.files if len(folders) == depth]


def walk(root: Path, suffixes: Sequence[str], shown: str, also: Callable[[Path], bool] = lambda path: False) -> Tree:
    """Look through a folder, for files with these suffixes and those that are images by their content (`also`).

    Raises UserError for a folder in it that may not be read.
    """
    tree = Tree([], Counter())
    for folders, entry in _entries(root, (), (os.path.realpath(root),), shown, tree.others):
        suffix = os.path.splitext(entry.name)[1].lower()
        is_file = os.path.isfile(entry.path)  # False for a link to itself, too
        if suffix not in suffixes and not (is_file and also(Path(entry.path))):
            tree.others[suffix or "without a suffix"] += 1
        elif not is_file:
            tree.others["dead links" if entry.is_symlink() else "pipes or alike"] += 1
        else:
            tree.files.append((folders, Path(entry.path)))
    tree.files.sort(key=lambda found: found[1])
    return tree


def _entries(
    folder: Path, above: tuple[str, ...], places: tuple[str, ...], shown: str, others: Counter[str]
) -> Iterator[tuple[tuple[str, ...], os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        where = shown if not above else f"The folder {readable('/'.join(above))!r} of {shown}"
        raise UserError(
            f"{where} cannot be read ({error.strerror}): change its permissions or move it away."
        ) from error
    for entry in found:
        if entry.name.startswith(".") or fold(entry.name) in SYSTEM:
            continue
        if not os.path.isdir(entry.path):
            yield above, entry
            continue
        place = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(places[-1], entry.name)
        if place in places:
            others["links in a circle"] += 1
        elif len(above) < DEEPEST:
            yield from _entries(Path(entry.path), (*above, entry.name), (*places, place), shown, others)
        else:
            others["folders too deep"] += 1


def unwrapped(tree: Tree) -> tuple[Tree, list[str]]:
    """The tree without levels of folders that stand for nothing, and how those are called, outermost first.

    Such a level is one name for all images where they lie most: one of WRAPPERS (`normal/images/1.png`), or whatever
    lies around folders called as splits are (`chest_xray/train/normal/1.png`). Images that lie elsewhere are counted
    and left out, so that none comes into the place of another.
    """
    depth = _depth(tree)
    at, left = tree.at(depth), list[int]()
    for level in range(depth) if depth > 1 else ():
        names = {fold(folders[level]) for folders, _ in at}
        around = level == 0 and depth > 2 and bool(splits_of({fold(folders[1]) for folders, _ in at}))
        if len(names) == 1 and (names <= WRAPPERS or around) and depth - len(left) > 1:
            left.append(level)
    if not left:
        return tree, []
    files = [(tuple(f for i, f in enumerate(folders) if i not in left), path) for folders, path in at]
    others = Counter(tree.others)
    if len(at) < len(tree.files):
        others[ELSEWHERE] += len(tree.files) - len(at)
    return Tree(files, others), [readable(at[0][0][level]) for level in left]


def _depth(tree: Tree) -> int:
    """The levels of folders in which most images lie; 0 where none lies in a folder."""
    depths = Counter(len(folders) for folders, _ in tree.files if folders)
    return max(depths, key=lambda d: (depths[d], -d), default=0)


def layout_of(tree: Tree, shown: str, asked: str | None) -> tuple[str, str]:
    """The name in `LAYOUTS`, and why: as it was asked for, or by where most images lie and how the folders are called.

    Raises:
        UserError: there is no such layout, no image lies as it says, or the folders can be read in several ways.
    """
    if asked is not None:
        if asked not in LAYOUTS:
            raise UserError(f"There is no --layout {asked!r}: choose of {', '.join(LAYOUTS)}.")
        if not tree.at(len(LAYOUTS[asked])):
            raise UserError(
                f"{shown} has no image in {len(LAYOUTS[asked])} levels of folders, which --layout {asked} says: look "
                "at how its folders lie."
            )
        return asked, "as --layout says"
    depth = _depth(tree)
    most = f"most images lie in {depth} level{'s' if depth > 1 else ''} of folders"
    levels = [{fold(folders[i]) for folders, _ in tree.at(depth)} for i in range(depth)]
    if masks := sorted(set().union(*levels) & MASK_WORDS):
        raise UserError(
            f"{shown} has folders called {masks[0]!r}, as those of masks are: list images and masks in a .csv with "
            "path,label,mask, or move the masks away, or say --layout."
        )
    if depth == 1:
        return "class", most
    outer, inner_splits = (splits_of(level) for level in (levels[0], levels[-1]))
    if depth <= 3 and outer:
        if depth == 2:
            return "split/class", f"{most}, and the outer ones are called as splits are"
        inner = _class_and_group(levels[1], levels[2])
        if inner is not None:
            return f"split/{inner[0]}", f"{most}, the outer ones are called as splits are, and {inner[1]}"
    elif depth == 2 and inner_splits:
        return "class/split", f"{most}, and the inner ones are called as splits are"
    elif depth == 2 and None not in (outer, inner_splits) and (inner := _class_and_group(*levels)) is not None:
        return inner[0], f"{most}, and {inner[1]}"
    possible = [name for name, parts in LAYOUTS.items() if len(parts) == depth]
    if not possible:
        raise UserError(
            f"{shown} has its images in {depth} levels of folders, and 3 are the most: list them in a .csv with path, "
            "label and group."
        )
    lone = next(iter({folders[0] for folders, _ in tree.at(depth)})) if len(levels[0]) == 1 else None
    instead = "" if lone is None else f"give {shown}/{readable(lone)} itself, or "
    raise UserError(
        f"{shown} has its images in {depth} levels of folders, {_some(levels[0])} and in them {_some(levels[1])}: "
        f"{instead}say what they stand for with --layout {' or '.join(possible)}."
    )


def splits_of(names: Set[str]) -> dict[str, str] | None:
    """Name -> the split that it stands for, of folders that are called as splits are; empty where some are not.

    `Train_set` and `Test_set` stand for train and test. None where all begin with such words and could stand for them
    or for patients: `test-01` and `test-02`, or one `Test 1` alone.
    """
    words = {name: split_word(name) for name in names}
    found = {name: word for name, word in words.items() if word is not None}
    if len(found) < len(names):
        return {}
    if all(fold(name) in SPLIT_WORDS for name in names):
        return {name: name for name in names}
    return found if len(found) > 1 and len(set(found.values())) == len(found) else None


def split_word(name: str) -> str | None:
    """The longest of SPLIT_WORDS that is a name, or that it begins with and no letter follows; None where none is."""
    folded = fold(name)
    words = [word for word in SPLIT_WORDS if folded.startswith(word) and not folded[len(word) :][:1].isalpha()]
    return max(words, key=len, default=None)


def _class_and_group(outer: set[str], inner: set[str]) -> tuple[str, str] | None:
    """Which of two levels are the classes, and why: the one whose names are a known pair of classes."""
    pairs = [set(pair) for pair in KNOWN_PAIRS]
    outer_fits, inner_fits = (any(names <= pair for pair in pairs) for names in (outer, inner))
    if inner_fits and not outer_fits:
        return "group/class", "the inner ones are called as classes are"
    if outer_fits and not inner_fits:
        return "class/group", "the outer ones are called as classes are"
    return None


def _some(names: set[str]) -> str:
    listed = [readable(name) for name in sorted(names)]
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")


def readable(name: str) -> str:
    """A name that is no UTF-8 with its bytes as \\xff, so that it can be shown and stored."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def counted(others: Counter[str]) -> str:
    """What was not read, in words: "3 .txt, 1 dead link"."""
    listed = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {what if n > 1 else _one_of(what)}" for what, n in listed)


def _one_of(what: str) -> str:
    """The singular of what is counted; endings of names (`.files`) stay."""
    return re.sub(r"^([\w ]*?\w)s\b", r"\1", what, count=1)
