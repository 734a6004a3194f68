"""From camera images to one vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import RESNETS, ResNetTower
from .normalisation import PlanarGroupNorm


class ImageEncoder(nn.Module):
    """One small convolutional network a camera; their flattened features joined into one vector.

    The features are flattened, not pooled: pooling (average or spatial soft-max) discards where things are or
    lets a policy ignore the image with a perfectly normal loss.

    `plain` has the kernels and strides of the DQN encoder (Mnih et al. 2015): three convolutions, for a CPU.
    `plain_gn` normalises after each of them, in 8 groups of channels (Wu and He 2018).
    `residual` has four stages of two residual blocks (He et al. 2016) with group normalisation, which, unlike
    batch normalisation, is the same in training and for a batch of one. `resnet18` and its kind are torchvision's
    (`backbone.ResNetTower`).

    Args:
        cameras: names of the image features, in the order in which they are joined.
        size: side in pixels to which every image is resized (area average), whatever its own size.
        width: channels of the first layer; the later ones have twice as many.
        dim: size D of the vector.
        kind: one of `KINDS`.
        pretrained: whether `load_backbones` follows; `resnet18` and its kind alone.
        standardize: whether each image is seen as its difference from its own mean, in its own standard deviations,
            a channel at a time: what a lamp's strength and colour do to a whole image is then gone.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        size: int,
        width: int,
        dim: int,
        kind: str = "plain",
        pretrained: bool = False,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.cameras = tuple(cameras)
        self.size = size
        self.dim = dim if cameras else 0
        self.towers = nn.ModuleList(
            _TOWERS[kind](width) if kind in _TOWERS else ResNetTower(kind, 2 * width, pretrained, standardize)
            for _ in cameras
        )
        self.channels = 0
        if cameras:
            with torch.no_grad():
                features = self.towers[0](torch.zeros(1, 3, size, size))
            self.channels = features.shape[1]
            self.join = nn.Linear(features[0].numel() * len(cameras), dim)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                # torch's own initialisation shrinks the signal at every ReLU, and what z says of the image.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def load_backbones(self, weights: Mapping[str, Tensor]) -> None:
        """Starts the residual network of each camera from published weights.

        Raises:
            ValueError: they are of another network.
        """
        for tower in self.towers:
            assert isinstance(tower, ResNetTower)  # the configuration refuses weights of other kinds
            tower.load(weights)

    def forward(
        self, images: Mapping[str, Float[Tensor, "B 3 height width"]], grid: int = 0
    ) -> Float[Tensor, "B D"] | Float[Tensor, "B N W"]:
        """The encoding of one frame of each camera, given in [0, 1]. Without cameras, D is 0.

        With a grid, the means of the features over `grid` x `grid` cells, camera by camera and row by row: the outcome
        of a chunk as `outcome_shape` says. All that is asked goes through this call, for which a sharded training
        gathers the weights.

        Raises:
            KeyError: a camera's image is missing.
        """
        if not self.cameras:
            raise ValueError("this encoder has no cameras")
        features = [
            tower(self._prepared(images[camera])) for camera, tower in zip(self.cameras, self.towers, strict=True)
        ]
        if grid:
            cells = [F.adaptive_avg_pool2d(each, grid).flatten(2).transpose(1, 2) for each in features]
            return torch.cat(cells, dim=1)
        joined: Tensor = self.join(torch.cat([each.flatten(1) for each in features], dim=-1))
        return joined

    def outcome_shape(self, grid: int) -> tuple[int, int]:
        """Tokens N and width W of the images of an outcome: a grid's cells, or the encoding as one token."""
        if not grid or not self.cameras:
            return 1, self.dim
        return len(self.cameras) * grid * grid, self.channels

    def _prepared(self, image: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B 3 size size"]:
        if image.shape[-2:] != (self.size, self.size):
            image = F.interpolate(image, size=(self.size, self.size), mode="area")
        if self.standardize:
            # In planes, as in `PlanarGroupNorm`.
            image = F.group_norm(image.contiguous(), image.shape[1], eps=_LEAST_SPREAD**2)
        else:
            image = image.mul(2).sub_(1)
        # Channels last: the convolutions of small images run a quarter faster so on a CPU.
        return image.contiguous(memory_format=torch.channels_last)


_LEAST_SPREAD = 1e-3
"""Standard deviation, added in squares, below which an image is one colour, whose noise is not to be blown up."""


def _plain(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, stride=1),
        nn.ReLU(),
    )


def _plain_gn(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in _plain(width):
        layers += [layer, PlanarGroupNorm(8, layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
    return nn.Sequential(*layers)


def _residual(width: int) -> nn.Sequential:
    """An image of 96 pixels becomes 8·width channels of 6x6, drawn together to a quarter before flattening."""
    stages: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1)]
    channels = width
    for out in (width, 2 * width, 4 * width, 8 * width):
        stages += [ResidualBlock(channels, out, 1 if out == width else 2), ResidualBlock(out, out, 1)]
        channels = out
    return nn.Sequential(*stages, nn.ReLU(), nn.Conv2d(channels, 2 * width, 1), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two convolutions around a skip connection, normalised before each (He et al. 2016, "Identity mappings").

    Args:
        channels: of the input.
        out: channels of the output, a multiple of 8.
        stride: 2 halves the image.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            PlanarGroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, out, 3, stride=stride, padding=1)
        )
        self.second = nn.Sequential(PlanarGroupNorm(8, out), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1))
        same = channels == out and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride=stride)

    def forward(self, x: Float[Tensor, "B channels height width"]) -> Tensor:
        """The image after the block."""
        out: Tensor = self.skip(x) + self.second(self.first(x))
        return out


_TOWERS: dict[str, Callable[[int], nn.Sequential]] = {
    "plain": _plain,
    "plain_gn": _plain_gn,
    "residual": _residual,
}
KINDS = (*_TOWERS, *RESNETS)
