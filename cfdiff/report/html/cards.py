"""The data of the gallery: one card an image, the pictures stored once each, as JSON for the page's script."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cfdiff.data.values import unit
from cfdiff.figures.colour import chroma_range, chroma_view, colour_change, is_colour
from cfdiff.figures.panel import change_map, colour_range, shown, window
from cfdiff.figures.rows import Rows, Selection
from cfdiff.report.html.pictures import grey_or_rgb, outline, overlay, reduced, scale_bar
from cfdiff.store import Result

_WINDOW_IMAGES = 64  # enough to see the range of 16-bit and float images


@dataclass
class Gallery:
    """What the script gets.

    Attributes:
        size: (height, width) of the images.
        side: pictures are reduced until no side is longer than this.
        limit: |difference| of full colour, in [0, 1] units.
        pictures: base64 PNGs, by number.
        cards: an entry an image; see `card`.
        bags: an entry a bag and mix, in a report of bags.
    """

    size: tuple[int, int]
    side: int
    limit: float
    pictures: list[str] = field(default_factory=list)
    cards: list[dict[str, Any]] = field(default_factory=list)
    bags: list[dict[str, Any]] = field(default_factory=list)

    def picture(self, encoded: str) -> int:
        """Store a picture; its number."""
        self.pictures.append(encoded)
        return len(self.pictures) - 1

    def data(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "size": self.size,
            "limit": self.limit,
            "scale": scale_bar(),
            "pictures": self.pictures,
            "cards": self.cards,
            "bags": self.bags,
        }

    @property
    def reduction(self) -> int:
        """The factor by which pictures are smaller than the images."""
        return -(-max(self.size) // self.side)


def value_window(images: Any) -> tuple[float, float]:
    """Black and white of stored images (N, H, W, C), read lazily; 8-bit ones span their full range."""
    rows = np.unique(np.linspace(0, len(images) - 1, _WINDOW_IMAGES).round().astype(int))
    return window(np.stack([images[i] for i in rows.tolist()]))


def common_range(changes: Iterable[np.ndarray], side: int) -> float:
    """The |difference| of full colour for all pictures together, from differences (H, W, C)."""
    return colour_range(np.stack([reduced(change_map(change), side) for change in changes]))


def numbers(prob: dict[str, np.ndarray], i: int) -> dict[str, list[float]]:
    """p(target) before and after of image i, by model."""
    return {who: [round(float(p), 4) for p in values[i]] for who, values in prob.items()}


def gallery(result: Result, rows: Rows, selection: Selection, masks: dict[int, np.ndarray], side: int) -> Gallery:
    """The cards of the selected images; `masks` (H, W) bool by row outline what was to be found.

    Keys of a card: n row, id, group, p by model, change, gain, ok (flipped), retries, random; s, c, d the pictures of
    source, counterfactual and difference; of colour images d is the change of lightness, a the |difference| and h
    where the colour went; m the outline, inside the share of the change in it, area its share.
    """
    low, high = value_window(result.source)
    rows_shown = selection.shown.tolist()
    in_colour = is_colour(result.source.shape)
    seen = [_seen(result, i, side) for i in rows_shown]
    limit = colour_range(np.stack([one.signed for one in seen]))
    most = colour_range(np.stack([one.absolute for one in seen])) if in_colour else 0.0
    full = chroma_range(np.stack([one.chroma for one in seen])) if in_colour else 0.0
    made = Gallery(result.source.shape[1:3], side, limit)
    random = set(selection.random.tolist())
    for i, one in zip(rows_shown, seen, strict=True):
        source, after = result.source[i], result.counterfactual[i]
        change = unit(after) - unit(source)
        card: dict[str, Any] = {
            "n": i,
            "id": str(rows.ids[i]),
            "p": numbers(rows.prob, i),
            "change": round(float(rows.change[i]), 5),
            "random": i in random,
            "s": made.picture(grey_or_rgb(reduced(shown(source, low, high), side))),
            "c": made.picture(grey_or_rgb(reduced(shown(after, low, high), side))),
            "d": made.picture(overlay(one.signed, limit)),
        }
        if in_colour:
            card |= {
                "a": made.picture(grey_or_rgb(np.clip(one.absolute / most, 0, 1))),
                "h": made.picture(grey_or_rgb(chroma_view(one.chroma, full))),
            }
        if rows.groups is not None:
            card["group"] = str(rows.groups[i])
        if rows.retries is not None:
            card["retries"] = int(rows.retries[i])
        if rows.gain is not None and rows.flipped is not None:
            card |= {"gain": round(float(rows.gain[i]), 4), "ok": bool(rows.flipped[i])}
        if i in masks and masks[i].any():
            card |= {"m": outline(masks[i]), "area": float(masks[i].mean()), "inside": inside(change, masks[i])}
        made.cards.append(card)
    return made


@dataclass(frozen=True, eq=False)
class _Seen:
    """The change of an image as it is shown, reduced: signed (H, W); of a colour image absolute and chroma too."""

    signed: np.ndarray
    absolute: np.ndarray
    chroma: np.ndarray


def _seen(result: Result, i: int, side: int) -> _Seen:
    if not is_colour(result.source.shape):
        signed = reduced(change_map(result.difference[i]), side)
        return _Seen(signed, np.abs(signed), signed[..., :0])
    change = colour_change(result.source[i], result.counterfactual[i])
    a, b = (reduced(part, side) for part in np.moveaxis(change.chroma, -1, 0))
    return _Seen(reduced(change.lightness, side), reduced(change.absolute, side), np.stack([a, b], axis=-1))


def inside(change: np.ndarray, mask: np.ndarray) -> float:
    """The share of the absolute change (H, W, C) that lies in the mask (H, W); 0 where nothing changed.

    Absolute in each channel: a pixel that turns from red to green has changed, though the mean of its channels has not.
    """
    total = float(np.abs(change).sum())
    return float(np.abs(change[mask]).sum()) / total if total else 0.0
