"""Small untrained checkpoints of four LeRobot policies, and a server of one in this process."""

import asyncio
import threading
import time
from contextlib import contextmanager

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class, make_policy_config

from lerobot_policy_dap.runtime.client import PolicyClient
from lerobot_policy_dap.runtime.model import ModelOptions, ServedModel
from lerobot_policy_dap.runtime.server import PolicyServer, ServerOptions

CAMERA, STATE, ACTION = "observation.images.front", "observation.state", "action"
C, H, W, D, A = 3, 48, 64, 3, 2
RESNET = {"pretrained_backbone_weights": None}
DAP = {"coupling": "two_way", "image_size": 36, "encoder_width": 8, "latent_dim": 8, "hidden_dim": 16, "depth": 1,
       "horizon": 6, "n_action_steps": 3, "inference_seed": None}  # fmt: skip
OPTIONS = {
    "dap": DAP,
    "dap_looking_back": {**DAP, "n_obs_steps": 3},
    "act": {**RESNET, "dim_model": 32, "n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1,
            "n_vae_encoder_layers": 1, "chunk_size": 6, "n_action_steps": 3},
    "diffusion": {**RESNET, "use_group_norm": True, "down_dims": (16, 32), "horizon": 8, "n_action_steps": 4,
                  "crop_shape": None, "noise_scheduler_type": "DDIM", "num_train_timesteps": 20,
                  "num_inference_steps": 3, "diffusion_step_embed_dim": 16},
    "vqbet": {**RESNET, "use_group_norm": True, "crop_shape": None, "n_obs_steps": 3, "gpt_n_layer": 1, "gpt_n_head": 2,
              "gpt_input_dim": 32, "gpt_output_dim": 32, "gpt_hidden_dim": 32, "vqvae_n_embed": 4,
              "vqvae_embedding_dim": 16, "vqvae_enc_hidden_dim": 16, "sequentially_select": False},
}  # fmt: skip
STATISTICS = {
    ACTION: {"min": [-1.0, -2.0], "max": [1.0, 2.0], "mean": [0.1, 0.0], "std": [0.5, 1.0]},
    STATE: {"min": [-1.0] * D, "max": [1.0] * D, "mean": [0.0] * D, "std": [1.0] * D},
    CAMERA: {"min": [[[0.0]]] * C, "max": [[[1.0]]] * C, "mean": [[[0.5]]] * C, "std": [[[0.3]]] * C},
}


def save_checkpoint(folder, kind="dap", seed=0, action=STATISTICS[ACTION], inputs=None, **options):
    """An untrained policy whose velocity or output is not constant, with processors, as LeRobot saves them."""
    name = kind.removesuffix("_looking_back")
    config = make_policy_config(
        name,
        device="cpu",
        push_to_hub=False,
        input_features=inputs
        or {
            CAMERA: PolicyFeature(FeatureType.VISUAL, (C, H, W)),
            STATE: PolicyFeature(FeatureType.STATE, (D,)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (len(action["mean"]),))},
        **{**OPTIONS[kind], **options},
    )
    torch.manual_seed(seed)
    policy = get_policy_class(name)(config)
    if name == "dap":
        for head in (policy.policy.out, policy.dynamics.out):  # an untrained velocity is zero
            torch.nn.init.normal_(head.weight, std=0.3)
    if kind == "vqbet":
        policy.vqbet.action_head.vqvae_model.discretized.fill_(True)
    statistics = {
        key: {name: torch.tensor(value) for name, value in entry.items()}
        for key, entry in {**({} if inputs else STATISTICS), ACTION: action}.items()
    }
    before, after = make_pre_post_processors(config, dataset_stats=statistics)
    policy.save_pretrained(folder)
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    return folder


def observation(seed=0):
    rng = np.random.default_rng(seed)
    return {
        CAMERA: rng.integers(0, 256, (H, W, C), dtype=np.uint8),
        STATE: rng.uniform(-1, 1, D).astype(np.float32),
    }


@contextmanager
def serving(model, **options):
    """A server of `model` on a free port, in a thread; yields it."""
    if not isinstance(model, ServedModel):
        model = ServedModel(model, ModelOptions(max_batch=8))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def within(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def make():
        server = PolicyServer(model, ServerOptions(**{"port": 0, "drain": 5.0, **options}))
        await server.start()
        return server

    try:
        server = within(make())
        server.within = within
        try:
            yield server
        finally:
            within(server.stop())
    finally:  # also where it did not start: a loop that goes on keeps pytest from ending
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def client(server, **options):
    return PolicyClient("127.0.0.1", server.port, **options)


def eventually(condition, seconds=20):
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)
