"""What benchmarks look at: scenes made from a public-domain photo."""

import io

from PIL import Image


def scene_jpeg(width: int, height: int) -> bytes:
    """The astronaut of scikit-image at (height, width) as a JPEG of quality 90."""
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
