"""Videos and images of the report decode to what was put in."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
from PIL import Image

from lerobot_policy_dap.bench import video
from lerobot_policy_dap.bench.video import data_uri, encode_video, encode_webp


def gradient(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    frames = [np.stack([(x * 3 + 4 * t) % 200, y * 4 % 256, np.full_like(x, 90)], axis=-1) for t in range(count)]
    return np.stack(frames).astype(np.uint8)


def decode(content: bytes) -> tuple[str, np.ndarray, float]:
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream.codec_context.name, np.stack(frames), float(stream.average_rate)


def test_mp4_plays_at_its_rate_and_keeps_its_frames() -> None:
    frames = gradient()
    mime, content = encode_video(frames, 12.5)
    codec, decoded, fps = decode(content)
    assert mime == "video/mp4"
    assert codec == "h264"
    assert decoded.shape == frames.shape
    assert fps == pytest.approx(12.5)
    assert abs(decoded.astype(int) - frames).mean() < 6
    assert content.find(b"moov") < content.find(b"mdat"), "the index must come first"


def test_odd_sizes_grow_to_even_ones() -> None:
    _, decoded, _ = decode(encode_video(gradient(3, 33, 47), 10)[1])
    assert decoded.shape == (3, 34, 48, 3)


def test_a_single_frame_is_a_video() -> None:
    assert decode(encode_video(gradient(1), 10)[1])[1].shape[0] == 1


def test_webm_where_x264_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_can_encode", lambda codec: codec != "libx264")
    mime, content = encode_video(gradient(), 10)
    assert mime == "video/webm"
    assert content.startswith(b"\x1aE\xdf\xa3")  # EBML
    assert decode(content)[1].shape == (12, 48, 64, 3)


def test_no_encoder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_can_encode", lambda codec: False)
    with pytest.raises(RuntimeError, match="neither libx264"):
        encode_video(gradient(), 10)


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_wrong_frames_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="need uint8 frames"):
        encode_video(frames, 10)


def test_images_as_data_uris() -> None:
    image = gradient(1)[0]
    uri = data_uri("image/webp", encode_webp(image))
    head, body = uri.split(",")
    assert head == "data:image/webp;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    assert decoded.shape == image.shape
    assert abs(decoded.astype(int) - image).mean() < 12
