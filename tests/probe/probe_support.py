"""Small real datasets and untrained checkpoints, saved as LeRobot saves them."""

import contextlib
import io

import numpy as np
import torch
from lerobot.configs import FeatureType
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies import make_policy, make_policy_config, make_pre_post_processors
from lerobot.utils.feature_utils import dataset_to_policy_features

TOP, WRIST = "observation.images.top", "observation.images.wrist"
SIZES = {TOP: (48, 64), WRIST: (40, 40)}
STATE, ACTIONS, EPISODES, LENGTH, FPS = 7, 6, 5, 12, 10


def make_dataset(root, video, state=True, sizes=SIZES):
    """Discs that move over a gradient, and actions that are where the discs are."""
    features = {
        camera: {
            "dtype": "video" if video else "image",
            "shape": (*size, 3),
            "names": ["height", "width", "channels"],
        }
        for camera, size in sizes.items()
    }
    if state:
        features["observation.state"] = {
            "dtype": "float32",
            "shape": (STATE,),
            "names": [f"s{i}" for i in range(STATE)],
        }
    features["action"] = {"dtype": "float32", "shape": (ACTIONS,), "names": [f"joint{i}" for i in range(ACTIONS)]}
    rng = np.random.default_rng(0)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = LeRobotDataset.create(
            f"local/{root.name}", FPS, features, root=root, robot_type="arm", use_videos=video
        )
        for episode in range(EPISODES):
            phase, speed = rng.uniform(0, 6), rng.uniform(0.1, 0.4)
            for step in range(LENGTH):
                angle = phase + speed * step
                frame = {"task": "touch the disc"}
                for camera, size in sizes.items():
                    frame[camera] = picture(size, angle, episode)
                action = np.sin(angle + np.arange(ACTIONS)) * (1 + np.arange(ACTIONS))
                frame["action"] = action.astype(np.float32)
                if state:
                    frame["observation.state"] = np.cos(angle + np.arange(STATE)).astype(np.float32)
                dataset.add_frame(frame)
            dataset.save_episode()
        dataset.finalize()
    return root


def picture(size, angle, episode):
    height, width = size
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    image = np.stack([60 + 120 * x, 60 + 120 * y, 90 + 20 * episode + 0 * x], axis=-1)
    disc = np.hypot(x - 0.5 - 0.3 * np.cos(angle), y - 0.5 - 0.3 * np.sin(angle)) < 0.15
    image[disc] = (220, 40, 40)
    return image.astype(np.uint8)


SMALL = {
    "act": {
        "chunk_size": 6, "n_action_steps": 4, "dim_model": 32, "n_heads": 2, "dim_feedforward": 32,
        "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 8, "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "horizon": 8, "n_action_steps": 4, "n_obs_steps": 2, "down_dims": (8, 16), "diffusion_step_embed_dim": 8,
        "n_groups": 4, "noise_scheduler_type": "DDIM", "num_inference_steps": 2, "pretrained_backbone_weights": None,
        "spatial_softmax_num_keypoints": 4,
    },
    "vqbet": {
        "n_obs_steps": 3, "action_chunk_size": 4, "n_action_pred_token": 2, "crop_shape": (40, 40), "vqvae_n_embed": 4,
        "vqvae_embedding_dim": 16, "vqvae_enc_hidden_dim": 16, "gpt_n_layer": 1, "gpt_n_head": 2, "gpt_hidden_dim": 32,
        "gpt_input_dim": 32, "gpt_output_dim": 32, "dropout": 0.0,
        "pretrained_backbone_weights": None,
    },
    "dap": {
        "horizon": 6, "n_action_steps": 4, "image_size": 36, "encoder_width": 8, "latent_dim": 8, "hidden_dim": 16,
        "depth": 1, "num_inference_steps": 3, "coupling": "two_way",
    },
}  # fmt: skip


def make_checkpoint(folder, kind, root, cameras=(TOP, WRIST), state=True, **settings):
    """An untrained policy of a fixed initialisation for the dataset, with its processors."""
    meta = LeRobotDatasetMetadata(f"local/{root.name}", root=root)
    config = make_policy_config(kind, **SMALL.get(kind, {}), **settings, device="cpu", push_to_hub=False)
    features = dataset_to_policy_features(meta.features)
    config.input_features = {
        key: feature
        for key, feature in features.items()
        if key in cameras or (state and feature.type is FeatureType.STATE)
    }
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        policy = make_policy(config, ds_meta=meta, rename_map={"": ""})
        policy.save_pretrained(folder)
        for processor in make_pre_post_processors(config, dataset_stats=meta.stats):
            processor.save_pretrained(folder)
    return folder
