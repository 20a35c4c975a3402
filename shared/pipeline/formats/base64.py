"""What people send instead of an image: the same in base64."""

import re
from typing import Final

# An image in base64: bare, quoted, a data URI, or in JSON or a form sent under another Content-Type.
_BASE64: Final = re.compile(
    rb"""[\s"'{]*(?:image["']?\s*[:=]\s*["']?)?"""
    rb"(?:data(?::|%3A)image|(?:/|%2F)9j(?:/|%2F)|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|AAAA.GZ0eX)"
)


def looks_like_base64(data: bytes) -> bool:
    """Whether `data` is text that holds an image in base64."""
    return _BASE64.match(data[:64]) is not None
