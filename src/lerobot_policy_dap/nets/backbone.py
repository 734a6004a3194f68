"""Torchvision's residual networks as image encoders, from scratch or from published weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from .normalisation import PlanarGroupNorm

RESNETS = ("resnet18", "resnet34", "resnet50")


class ResNetTower(nn.Module):
    """A residual network (He et al. 2016) up to its last features, drawn together by a 1x1 convolution.

    Normalisation is frozen batch normalisation where there are weights to take its statistics from, and group
    normalisation elsewhere: both are the same in training and for a batch of one, and hold for an averaged copy.

    Args:
        kind: one of `RESNETS`.
        channels: of the features given.
        pretrained: whether `load` follows.
        standardized: whether images come standardised by themselves, and not by what is usual in ImageNet, on which
            published weights were trained.
    """

    def __init__(self, kind: str, channels: int, pretrained: bool, standardized: bool = False) -> None:
        super().__init__()
        self.standardized = standardized
        norm = FrozenBatchNorm2d if pretrained else partial(PlanarGroupNorm, 16)
        net = models.get_model(kind, weights=None, norm_layer=norm)
        width = net.fc.in_features
        net.fc = net.avgpool = nn.Identity()  # where things are counts: features are not pooled
        self.net = net
        self.draw = nn.Sequential(nn.Conv2d(width, channels, 1), nn.ReLU())
        # The mean and spread of ImageNet.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, image: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B C h w"]:
        """The features of images, in [-1, 1] or standardised: a 32nd of their size, rounded up."""
        net = self.net
        x = image if self.standardized else ((image + 1) / 2 - self.mean) / self.std
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        drawn: Tensor = self.draw(x)
        return drawn

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes weights under the names that torchvision and timm share; the classifier's are left out.

        Raises:
            ValueError: they are not this network's.
        """
        own = self.net.state_dict()
        given = {
            key: value for key, value in weights.items()
            if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
        }  # fmt: skip
        wrong = sorted(own.keys() ^ given.keys())
        wrong += [key for key in own.keys() & given.keys() if own[key].shape != given[key].shape]
        if wrong:
            raise ValueError(f"{len(wrong)} weights are not of this network ({', '.join(wrong[:3])})")
        self.net.load_state_dict(given)
