"""Run by torchrun in two processes: training with the declared units sharded is training without.

`FSDP1` is what LeRobot trains with, and gathers its checkpoints from; `FSDP2` its successor in torch.
"""

import copy
import functools
import os
import sys
import tempfile

import torch
import torch.distributed as dist
from test_policy import BASE, batch, policy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType, fully_shard
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from lerobot_policy_dap.modeling_dap import DAPPolicy

SIZES = {
    # Half of what it weighs ends inside the averaged encoder.
    "small": {"encoder_width": 32, "latent_dim": 32, "hidden_dim": 16},
    "base": BASE,
}


def trained(model, inner, given, steps=3):
    """The losses on the way."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    seen = []
    for step in range(steps):
        torch.manual_seed(step)
        loss, _ = model(given)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        inner.update()
        seen.append(loss.item())
    return torch.tensor(seen)


kind, size = sys.argv[1:]
dist.init_process_group("gloo")
whole = policy(
    coupling="two_way", image_shift=0, image_light=0.0, outcome_grid=2 if size == "base" else 0, **SIZES[size]
).train()
inner = copy.deepcopy(whole)
units = [m for m in inner.modules() if type(m).__name__ in inner._no_split_modules]
assert len(units) >= 4, inner._no_split_modules
if kind == "FSDP2":
    mesh = init_device_mesh("cpu", (2,))
    for unit in reversed(units):
        fully_shard(unit, mesh=mesh)
    sharded = fully_shard(inner, mesh=mesh)
    local = sum(p.to_local().numel() for p in inner.parameters())
else:
    wrap = functools.partial(transformer_auto_wrap_policy, transformer_layer_cls={type(unit) for unit in units})
    sharded = FullyShardedDataParallel(
        inner, auto_wrap_policy=wrap, use_orig_params=True, device_id=torch.device("cpu")
    )
    local = sum(p.numel() for p in inner.parameters())
assert local < 0.6 * sum(p.numel() for p in whole.parameters())  # each process holds about half

given = batch(whole, n=8)
one, two = trained(whole, whole, given), trained(sharded, inner, given)
torch.testing.assert_close(two, one, atol=1e-4, rtol=1e-4)
if kind == "FSDP1":
    # As LeRobot gathers them, but for the offloading to a CPU, which crashes where they are there already.
    whole_weights = FullStateDictConfig(rank0_only=True)
    with FullyShardedDataParallel.state_dict_type(sharded, StateDictType.FULL_STATE_DICT, whole_weights):
        weights = sharded.state_dict()
    if dist.get_rank() == 0:
        with tempfile.TemporaryDirectory() as folder:
            inner.save_pretrained(folder, state_dict=weights)
            loaded = DAPPolicy.from_pretrained(folder)
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3, msg=name)
dist.barrier()  # it is said of both processes
if dist.get_rank() == 0:
    print("sharded training equal", flush=True)
os._exit(0)  # what gloo's threads do while the interpreter is taken down is not asked here (pytorch/pytorch#56297)
