"""Torchvision's residual networks as encoders: from scratch, and from published weights."""

import json

import pytest
import torch
from safetensors.torch import save_file
from test_policy import batch, config, now, policy
from torchvision import models

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.modeling_dap import DAPPolicy
from lerobot_policy_dap.nets.backbone import RESNETS, ResNetTower


class DatasetMeta:
    """What LeRobot hands to a policy that is made for a training."""

    root = None


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Weights as timm and torchvision name them, those of the classifier and counts of batches among them."""
    torch.manual_seed(7)
    net = models.resnet18(weights=None)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training on something
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(net.state_dict(), path)
    return net.eval(), path


def pretrained(path, meta=DatasetMeta):
    made = config(encoder="resnet18", pretrained_backbone_weights=str(path), coupling="two_way")
    return DAPPolicy(made, dataset_meta=meta() if meta else None)


@pytest.mark.parametrize("kind", RESNETS)
def test_a_residual_network_from_scratch_trains_acts_and_loads(kind, tmp_path):
    made = policy(encoder=kind, coupling="two_way").train()
    loss, _ = made(batch(made))
    loss.backward()
    assert all(p.grad is not None for p in made.encoder.parameters())
    made.update()
    made.save_pretrained(tmp_path)
    again = DAPPolicy.from_pretrained(tmp_path)
    made.reset()
    assert torch.equal(again.predict_action_chunk(now(batch(made))), made.predict_action_chunk(now(batch(made))))


def test_published_weights_give_the_features_that_they_give_in_torchvision(published):
    """Up to the last layer, of an image standardised as they were trained on."""
    net, path = published
    tower = pretrained(path).encoder.towers[0]
    images = torch.rand(2, 3, 64, 64)
    net.fc = net.avgpool = torch.nn.Identity()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = net((images - mean[:, None, None]) / std[:, None, None]).reshape(2, 512, 2, 2)
    tower.draw = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(tower(2 * images - 1), expected, rtol=1e-4, atol=1e-4)


def test_the_averaged_encoder_starts_from_them_too_and_normalisation_stays_frozen(published):
    made = pretrained(published[1]).train()
    target = made.target_encoder.state_dict()
    for name, value in made.encoder.state_dict().items():
        assert torch.equal(target[name], value)
    before = made.encoder.towers[0].net.bn1.running_mean.clone()
    made(batch(made))
    assert torch.equal(made.encoder.towers[0].net.bn1.running_mean, before)


def test_a_checkpoint_needs_no_published_weights_any_more(published, tmp_path):
    made = pretrained(published[1]).eval()
    made.config.pretrained_backbone_weights = "/no/such/file"
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["pretrained_backbone_weights"] == "/no/such/file"
    again = DAPPolicy.from_pretrained(tmp_path)
    assert torch.equal(again.encoder.towers[0].net.conv1.weight, published[0].conv1.weight)


def test_a_policy_that_is_made_by_hand_starts_from_them_as_well(published):
    assert torch.equal(
        pretrained(published[1], meta=None).encoder.towers[0].net.conv1.weight, published[0].conv1.weight
    )


@pytest.mark.parametrize("wrong", ["absent", "other"])
def test_weights_that_cannot_be_had_or_are_of_another_network_are_named(wrong, tmp_path):
    path = tmp_path / "weights.safetensors"
    if wrong == "other":
        save_file(models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(UserError, match="no such file" if wrong == "absent" else "not of this network") as caught:
        pretrained(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_weights_for_an_encoder_that_takes_none_are_refused():
    with pytest.raises(UserError, match=r"pretrained_backbone_weights needs policy\.encoder"):
        config(encoder="plain", pretrained_backbone_weights="weights.safetensors")


def test_normalisation_is_the_same_for_one_image_and_for_many():
    torch.manual_seed(0)
    tower = ResNetTower("resnet18", 8, pretrained=False).train()
    images = torch.rand(3, 3, 40, 40)
    torch.testing.assert_close(tower(images)[:1], tower(images[:1]), rtol=1e-4, atol=1e-5)
