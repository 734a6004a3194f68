"""Weights from disk and from the Hub: all of them and no others, or one line that says what is wrong."""

import shutil

import lerobot.configs.policies as configs
import lerobot.policies.pretrained as pretrained
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from test_policy import batch, now, policy

from lerobot_policy_dap import weights
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.modeling_dap import DAPPolicy


def without(held, name):
    del held[name]


def with_another(held, name):
    held[name] = torch.zeros(3)


def of_another_shape(held, name):
    held[name] = held[name][..., :-1].contiguous()


@pytest.mark.parametrize(
    ("damaged", "name", "said"),
    [
        (without, "policy.out.bias", "lacks 1 weights"),
        (without, "updates", "lacks 1 weights"),
        (with_another, "policy.head.weight", "holds the unknown 1 weights"),
        (with_another, "memory.outcomes", "holds the unknown 1 weights"),
        (of_another_shape, "dynamics.embed.weight", "has other shapes for 1 weights"),
        (of_another_shape, "standardize.running_var", "has other shapes for 1 weights"),
    ],
)
def test_weights_that_are_not_this_policys_are_named_in_one_line(tmp_path, damaged, name, said):
    policy().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    damaged(weights, name)
    save_file(weights, file)
    with pytest.raises(UserError) as caught:
        DAPPolicy.from_pretrained(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{file} {said} of this policy ({name}")
    assert "\n" not in line


def test_a_policy_of_other_sizes_does_not_take_them(tmp_path):
    policy().save_pretrained(tmp_path)
    other = policy(hidden_dim=24)
    with pytest.raises(UserError, match=r"has other shapes for \d+ weights of this policy \(policy\."):
        DAPPolicy.from_pretrained(tmp_path, config=other.config)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository of the Hub, and what was asked of it; each file comes alone, into a folder of the cache."""
    repository, cache, asked = tmp_path / "repository", tmp_path / "cache", []
    cache.mkdir()

    def download(repo_id, filename, revision=None, **_):
        assert (repo_id, revision) == ("user/drawer", "v1")
        asked.append(filename)
        if not (repository / filename).exists():
            raise EntryNotFoundError(filename)
        return shutil.copy(repository / filename, cache / filename)

    for module in (configs, pretrained, weights):
        monkeypatch.setattr(module, "hf_hub_download", download)
    return repository, cache, asked


@pytest.mark.parametrize("recording", [None, {"world": {"task": "drawer-open-v3"}}])
def test_a_policy_of_the_hub_is_the_one_that_was_saved(hub, recording):
    repository, cache, asked = hub
    made = policy().train()
    made.recording = recording
    made(batch(made))
    made.update()
    made.save_pretrained(repository)
    again = DAPPolicy.from_pretrained("user/drawer", revision="v1")
    assert asked == ["recording.json", "config.json", "model.safetensors"]
    assert again.recording == recording
    assert again.folder == cache
    assert not again.training
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in made.state_dict().items())
    made.reset()
    seen = now(batch(made))
    assert torch.equal(again.predict_action_chunk(seen), made.predict_action_chunk(seen))
