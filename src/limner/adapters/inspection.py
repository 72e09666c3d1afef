"""Is what the backend sent an image? What kind, how large, and a thumbnail of it."""

from __future__ import annotations

import io

import anyio
import anyio.to_thread
from PIL import Image, ImageOps

from limner.adapters.metadata import without_metadata
from limner.adapters.sniffing import describe
from limner.errors import AnswerTooLarge, LimnerError, NoImage, NotAnImage
from limner.states.values import check_whole_number
from limner.workflows.ports import ImageInfo

# What browsers show in an <img>, and nothing that can carry a script (so no SVG).
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
}
_OPENED = tuple(MEDIA_TYPES)
# A JPEG with further pictures behind the first, as phones write them; Pillow gives it a name of its own.
_TYPE_OF = {**MEDIA_TYPES, "MPO": "image/jpeg"}

# How much smaller than in haste a PNG can be made, and some more. To try that with every photograph, none of
# which it wins, takes longer than all the rest.
_PNG_SHRINKS = 4


class PillowInspector:
    """An `ImageInspector` on Pillow.

    `max_bytes` bounds the file, `max_pixels` width × height (checked before a pixel is decoded, so a
    decompression bomb costs nothing), `thumbnail_px` the longer side of the thumbnail, `workers` how
    many images are decoded at once. At 64 megapixels one decoding takes at most some 256 MB of memory.

    With `previews=False` unfinished pictures get no thumbnails and are not looked at: for hosts that show
    none of them.

    With `strip_metadata` what the file says besides the picture (the prompt and the settings of the server
    that made it, a camera's place and time) is taken out before it is stored; see
    `limner.adapters.metadata`.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 32 * 1024 * 1024,
        max_pixels: int = 64_000_000,
        thumbnail_px: int = 256,
        workers: int = 2,
        previews: bool = True,
        strip_metadata: bool = False,
    ) -> None:
        for name, value in (
            ("max_bytes", max_bytes),
            ("max_pixels", max_pixels),
            ("thumbnail_px", thumbnail_px),
            ("workers", workers),
        ):
            check_whole_number(name, value, 1)
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._thumbnail_px = thumbnail_px
        self._previews = previews
        self._strip_metadata = strip_metadata
        self._limiter = anyio.CapacityLimiter(workers)

    async def inspect(self, data: bytes) -> ImageInfo:
        """Decode the whole first frame, off the event loop.

        `width` and `height` are those that a viewer sees, with the EXIF orientation applied. Raises
        `NoImage` (no bytes), `AnswerTooLarge` (bytes or pixels), `NotAnImage` (anything but a whole PNG,
        JPEG, WebP, GIF or AVIF; the message says what it looks like instead).
        """
        return await anyio.to_thread.run_sync(self._inspect, data, limiter=self._limiter)

    async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
        """A thumbnail of an unfinished picture and its media type, or None where there is none to be had."""
        if not self._previews:
            return None
        try:
            info = await self.inspect(data)
        except (NoImage, NotAnImage, AnswerTooLarge):
            return None
        return info.thumbnail, info.thumbnail_media_type

    def _inspect(self, data: bytes) -> ImageInfo:
        if not data:
            raise NoImage("the service sent no bytes where an image was expected")
        if len(data) > self._max_bytes:
            raise AnswerTooLarge(f"the image has {len(data)} bytes, more than {self._max_bytes}")
        try:
            with Image.open(io.BytesIO(data), formats=_OPENED) as image:
                self._check_pixels(image)
                media_type = _TYPE_OF[str(image.format)]
                image.load()
                upright = ImageOps.exif_transpose(image)
                thumbnail, thumbnail_type = _thumbnail(upright, self._thumbnail_px)
                return ImageInfo(
                    data=without_metadata(data, image) if self._strip_metadata else data,
                    media_type=media_type,
                    width=upright.width,
                    height=upright.height,
                    thumbnail=thumbnail,
                    thumbnail_media_type=thumbnail_type,
                )
        except LimnerError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise AnswerTooLarge(f"the image has more than {self._max_pixels} pixels") from error
        except Exception as error:  # hostile bytes make Pillow's decoders raise almost anything
            raise NotAnImage(f"the service sent no usable image: {describe(data)}") from error

    def _check_pixels(self, image: Image.Image) -> None:
        if image.width * image.height > self._max_pixels:
            raise AnswerTooLarge(
                f"the image has {image.width} × {image.height} pixels, more than {self._max_pixels}"
            )


def _thumbnail(image: Image.Image, side: int) -> tuple[bytes, str]:
    small = _displayable(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    # A profile can be larger than the thumbnail; other metadata may say where a picture was taken.
    small.info.clear()
    webp = _encoded(small, "WEBP", quality=80)
    if len(_encoded(small, "PNG", compress_level=1)) < _PNG_SHRINKS * len(webp):
        png = _encoded(small, "PNG", optimize=True)
        if len(png) < len(webp):
            return png, "image/png"
    return webp, "image/webp"


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _displayable(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits a channel: keep the upper eight, which is what a screen shows.
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    transparent = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")
