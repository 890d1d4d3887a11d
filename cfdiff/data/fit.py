"""Making an image fit: another size, gray or RGB. Only `cfdiff data convert` changes what was read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

# ITU-R 601, as Pillow's convert("L").
LUMA = np.array([0.299, 0.587, 0.114])
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Fit:
    """Scale the shorter side to `size` pixels and cut the centre square; turn into `channels` (1 or 3).

    None leaves the size or the channels as they are.
    """

    size: int | None = None
    channels: int | None = None

    def shape(self, shape: Shape) -> Shape:
        """The shape (H, W, C) of the result for an image of this shape."""
        height, width = (shape[0], shape[1]) if self.size is None else (self.size, self.size)
        return height, width, shape[2] if self.channels is None else self.channels

    def image(self, image: np.ndarray) -> np.ndarray:
        """An image (H, W, C) made to fit, in its own dtype."""
        if self.channels == 1 and image.shape[2] == 3:
            image = _like(image @ LUMA, image.dtype)[..., None]
        elif self.channels == 3 and image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        if self.size is None or image.shape[:2] == (self.size, self.size):
            return image
        planes = [self._square(plane, Image.Resampling.BILINEAR) for plane in np.moveaxis(image, 2, 0)]
        return _like(np.stack(planes, axis=2), image.dtype)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) bool made to fit, by nearest neighbour."""
        if self.size is None or mask.shape == (self.size, self.size):
            return mask
        return self._square(mask, Image.Resampling.NEAREST) > 0.5

    def _square(self, plane: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
        """One plane (H, W) as float32 (size, size): the centre square, scaled with anti-aliasing."""
        height, width = plane.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        # Floats, because Pillow cannot resample every 16-bit mode.
        picture = Image.fromarray(plane.astype(np.float32))
        box = (left, top, left + side, top + side)
        return np.asarray(picture.resize((self.size or side, self.size or side), resampling, box=box))


def _like(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return (np.rint(values) if dtype.kind == "u" else values).astype(dtype)
