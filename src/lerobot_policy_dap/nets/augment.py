"""Augmentation of a batch of images, on the device where they lie."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def augmented(
    images: Float[Tensor, "B T C height width"],
    size: int,
    shift: int,
    light: float,
    hue: float = 0.0,
    share: float = 1.0,
) -> Float[Tensor, "B T C h w"]:
    """Each row's images as another moment of training sees them: `random_shift` by `shift` pixels, `random_hue` of
    reach `hue`, `random_light` of strength `light`; 0 leaves any of them out. About `share` of the rows are changed
    so, the others are as recorded."""
    # Drawn on the CPU, from the generator that training seeds; not at all where nothing depends on it.
    rows = torch.rand(len(images)) < share if share < 1 and (shift or light or hue) else None
    if shift:
        images = random_shift(images, size, shift, rows)
    if hue:
        images = random_hue(images, hue, rows)
    return random_light(images, light, rows) if light else images


def random_shift(
    images: Float[Tensor, "B T C height width"], size: int, reach: int, rows: Bool[Tensor, " B"] | None = None
) -> Float[Tensor, "B T C size size"]:
    """Each row's images, resized to `size`, moved together by up to `reach` whole pixels in both directions; where
    `rows` is false, not at all.

    The edge is repeated outwards, as in DrQ (Kostrikov et al., arXiv 2004.13649). Moved one by one, the frames of a
    history would show motion that there was not.
    """
    T = images.shape[1]
    image = images.flatten(1, 2)
    if image.shape[-2:] != (size, size):
        image = F.interpolate(image, size=(size, size), mode="area")
    # Drawn on the CPU, from the generator that training seeds. A place outside is the nearest one inside.
    corners = torch.randint(-reach, reach + 1, (2, len(image), 1))
    if rows is not None:
        corners = corners * rows.reshape(-1, 1)
    corners = corners.to(image.device, non_blocking=True)
    lines, columns = (corners + torch.arange(size, device=image.device)).clamp(0, size - 1)
    first = torch.arange(len(image), device=image.device).reshape(-1, 1, 1) * size * size
    pixels = first + lines.unsqueeze(-1) * size + columns.unsqueeze(1)
    # One index a pixel into channels-last memory: five times faster on a CPU than indexing three axes.
    moved = image.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, pixels.flatten())
    shifted: Tensor = moved.reshape(len(image), size, size, -1).permute(0, 3, 1, 2).unflatten(1, (T, -1))
    return shifted


def random_light(
    images: Float[Tensor, "B T C height width"], strength: float, rows: Bool[Tensor, " B"] | None = None
) -> Float[Tensor, "B T C height width"]:
    """Each row's images in [0, 1], seen in another light: brighter or darker, flatter or harsher, of another colour.

    Brightness and contrast are multiplied by up to exp(±strength), evenly on the logarithm, and each colour by up to
    the square root of that; contrast is taken about the row's mean. What leaves [0, 1] is cut off, as by a camera.
    Where `rows` is false, they are as they were.
    """
    images = images.contiguous()  # in planes: half the time on a CPU, and what the encoder standardises
    B, _, C = images.shape[:3]
    # Drawn on the CPU, from the generator that training seeds.
    powers = strength * (2 * torch.rand(2 + C, B, 1, 1, 1, 1) - 1)
    if rows is not None:
        powers = powers * rows.reshape(-1, 1, 1, 1, 1)
    drawn = powers.exp().to(images.device, non_blocking=True)
    contrast = drawn[1]
    gain = drawn[0] * torch.cat(list(drawn[2:].sqrt()), dim=2)
    middle = (gain * images.mean(dim=(1, 3, 4), keepdim=True)).mean(dim=2, keepdim=True)
    # One product and one sum a pixel, whatever is drawn.
    return (images * (gain * contrast)).add_(middle * (1 - contrast)).clamp_(0, 1)


def random_hue(
    images: Float[Tensor, "B T 3 height width"], reach: float, rows: Bool[Tensor, " B"] | None = None
) -> Float[Tensor, "B T 3 height width"]:
    """Each row's images in [0, 1], all their colours turned by up to `reach` of the colour circle to either side.

    0.5 is any turn, as in torchvision's `ColorJitter`. What leaves [0, 1] is cut off. Where `rows` is false, the images
    are as they were.
    """
    # Drawn on the CPU, from the generator that training seeds.
    turns = reach * (2 * torch.rand(len(images)) - 1)
    if rows is not None:
        turns = turns * rows
    matrix = hue_rotation(turns).to(images.device, images.dtype, non_blocking=True)
    # One small product a pixel, of channels-last memory; colours are not rounded to the half precision of autocast.
    pixels = images.permute(0, 1, 3, 4, 2)
    with torch.autocast(images.device.type, enabled=False):
        turned = torch.bmm(pixels.flatten(1, 3), matrix.mT).clamp(0, 1)
    out: Tensor = turned.reshape(pixels.shape).permute(0, 1, 4, 2, 3)
    return out


def hue_rotation(turns: Float[Tensor, " B"]) -> Float[Tensor, "B 3 3"]:
    """The matrices that turn RGB colours about the grey axis, by so much of a circle (Rodrigues' formula).

    Greys stay, and so does the sum of the three; a third of a circle takes red to green, green to blue, blue to red.
    """
    angle = (2 * torch.pi * turns).reshape(-1, 1, 1)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5
    return angle.cos() * torch.eye(3) + angle.sin() * cross + (1 - angle.cos()) / 3
