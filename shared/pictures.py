"""Pictures as everything here names them. It imports no library that decodes or draws."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.pipeline.formats.encoded import KINDS, Kind

BgrImage: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3), OpenCV's channel order
GreyImage: TypeAlias = npt.NDArray[np.uint8]  # (H, W)
ImageKind: TypeAlias = Literal["jpeg", "png"]  # that are written


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest picture that is decoded, the size at which it is searched for faces, and the kinds of file."""

    # A 48-megapixel phone photo passes.
    max_pixels: int = 50_000_000
    max_side_px: int = 16_384
    # Pictures are reduced by the largest whole factor that leaves the longer side at least this long: faces are
    # searched at this size, so more pixels cost time and memory and add nothing.
    target_side_px: int = 1024
    kinds: tuple[Kind, ...] = KINDS
