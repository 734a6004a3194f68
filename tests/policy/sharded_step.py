"""Run by torchrun in two processes: a training step with the declared units sharded is the step without."""

import copy

import torch
import torch.distributed as dist
from test_policy import batch, policy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def losses(model, given, steps=3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    seen = []
    for step in range(steps):
        torch.manual_seed(step)
        loss, _ = model(given)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.update()
        seen.append(loss.item())
    return seen


dist.init_process_group("gloo")
size = {"preset": "base", "hidden_dim": 64, "dynamics_hidden_dim": 64, "encoder": "residual", "encoder_width": 8}
whole = policy(coupling="two_way", image_shift=0, velocity="transformer", **size).train()
sharded = copy.deepcopy(whole)
mesh = init_device_mesh("cpu", (2,))
units = [m for m in sharded.modules() if type(m).__name__ in sharded._no_split_modules]
assert len(units) > 8, sharded._no_split_modules
for unit in units:
    fully_shard(unit, mesh=mesh)
fully_shard(sharded, mesh=mesh)
local = sum(p.to_local().numel() for p in sharded.parameters())
assert local < 0.6 * sum(p.numel() for p in whole.parameters())  # each process holds about half

given = batch(whole, n=8)
one, two = losses(whole, given), losses(sharded, given)
torch.testing.assert_close(torch.tensor(two), torch.tensor(one), atol=1e-4, rtol=1e-4)
if dist.get_rank() == 0:
    print("sharded step equal")
dist.destroy_process_group()
