"""Frames as small videos and images that any browser shows from a data URI."""

from __future__ import annotations

import base64
import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image


class _Format(NamedTuple):
    container: str
    codec: str
    mime: str
    options: dict[str, str]
    container_options: dict[str, str]


# Best first: every browser plays H.264 in MP4, but not every build of PyAV carries x264. CRF sets a quality and
# not a size: 28 of x264 is just short of visible loss on renderings, and 36 is its like for VP9.
_FORMATS = (
    _Format("mp4", "libx264", "video/mp4", {"crf": "28", "preset": "slow"}, {"movflags": "+faststart"}),
    _Format("webm", "libvpx-vp9", "video/webm", {"crf": "36", "b": "0", "deadline": "good", "cpu-used": "4"}, {}),
)


def encode_video(frames: NDArray[np.uint8], fps: float) -> tuple[str, bytes]:
    """The frames as H.264 in MP4, or as VP9 in WebM where PyAV has no x264.

    Args:
        frames: uint8 `[T, H, W, 3]`, T > 0. Odd heights and widths grow by repeating the last row or column,
            since 4:2:0 colour needs even ones.
        fps: frames a second.

    Returns:
        MIME type and file content.

    Raises:
        ValueError: the frames have another shape or type, or `fps` is not positive.
        RuntimeError: PyAV has neither encoder.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f"need uint8 frames [T, H, W, 3], got {frames.dtype} {frames.shape}")
    if not fps > 0:
        raise ValueError(f"need a positive frame rate, got {fps}")
    even = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    for form in _FORMATS:
        if _can_encode(form.codec):
            return form.mime, _encode(even, fps, form)
    raise RuntimeError("PyAV has neither libx264 nor libvpx-vp9; install the wheel from PyPI (pip install av)")


def encode_webp(image: NDArray[np.uint8], quality: int = 85) -> bytes:
    """One image, uint8 `[H, W, 3]`, as WebP."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "WEBP", quality=quality, method=6)
    return content.getvalue()


def data_uri(mime: str, content: bytes) -> str:
    """The content as a `data:` URI, which a page can show without any file beside it."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _can_encode(codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True


def _encode(frames: NDArray[np.uint8], fps: float, form: _Format) -> bytes:
    # A file and not a buffer: faststart moves the index to the front by reading the output again.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{form.container}"
        with av.open(str(path), "w", format=form.container, options=form.container_options) as output:
            rate = Fraction(fps).limit_denominator(1000)
            # The codec is known only at run time, so the stubs cannot tell that this is video.
            stream = cast("VideoStream", output.add_stream(form.codec, rate=rate, options=form.options))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            output.mux(stream.encode())
        return path.read_bytes()
