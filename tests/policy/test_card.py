"""What is said of a policy that goes to the Hub."""

from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from test_policy import policy


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch):
    """LeRobot has the Hub check the card's metadata."""
    monkeypatch.setattr(ModelCard, "validate", lambda card: None)


def card(made, **more):
    return str(made.generate_model_card("user/drawer", "dap", None, ["mine"], **more))


def test_a_card_says_what_the_policy_is():
    made = policy(coupling="two_way")
    made.config.repo_id = "user/policy"
    for _ in range(3):
        made.update()
    text = card(made)
    for said in (
        "license: apache-2.0", "library_name: lerobot", "- mine", "- dap", "user/drawer", "arxiv.org/abs/2510.27114",
        "`two_way`: policy and dynamics model see each other's estimates", "plain_gn encoder at 36 pixels",
        "6 actions, 3 executed, 4 flow steps", "6 steps ahead", "| Trained for | 3 steps |", "hf download user/policy",
        "dap eval", "lerobot-rollout", "`observation.images.front`", "None are claimed here",
    ):  # fmt: skip
        assert said in text, said
    count = sum(p.numel() for p in made.policy.parameters()) / 1e6
    assert f"policy {count:.2f} M" in text
    assert "simulated:" not in text


def test_a_card_says_how_the_demonstrations_were_recorded():
    made = policy(coupling="none")
    made.recording = {
        "world": {
            "task": "drawer-open-v3",
            "settings": {"width": 84, "height": 84},
            "versions": {"mujoco": "3.8.1"},
        }
    }
    text = card(made)
    assert "drawer-open-v3, 84x84 pixels, mujoco 3.8.1" in text
    assert "there is no dynamics model" in text
    assert "| Outcome | none |" in text


def test_the_card_is_pushed_with_the_weights(monkeypatch, tmp_path):
    """`push_model_to_hub` to a Hub that is not there: what would be uploaded."""
    import lerobot.policies.pretrained as pretrained

    uploaded = {}

    class Hub:
        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path, **_):
            uploaded.update({file.name: file.read_bytes() for file in folder_path.iterdir()})
            return SimpleNamespace(repo_url=SimpleNamespace(url="there"))

    monkeypatch.setattr(pretrained, "HfApi", Hub)
    made = policy()
    made.config.repo_id = "user/policy"
    training = SimpleNamespace(
        dataset=SimpleNamespace(repo_id="user/drawer"), optimizer=None, steps=10, batch_size=4, seed=1,
        save_pretrained=lambda folder: None,
    )  # fmt: skip
    made.push_model_to_hub(training)
    assert {"README.md", "config.json", "model.safetensors"} <= uploaded.keys()
    assert b"| Training steps | 10 |" in uploaded["README.md"]
