"""The training loop."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from lerobot.common.train_utils import load_training_state, should_save_checkpoint
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets.factory import IMAGENET_STATS
from lerobot.optim.factory import make_optimizer_and_scheduler
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.transforms import ImageTransforms
from lerobot.utils.random_utils import set_seed
from tqdm import tqdm

from ..data.batches import Batches, BatchSource
from ..data.demonstrations import open_dataset
from ..data.frames import FrameStore
from ..errors import UserError
from ..observing import shown_inputs
from . import checkpoint
from .allocator import keep_freed_memory
from .request import LOG_FILE, began_from, check_supported
from .selection import order_of, select
from .share import upload


def train(config: TrainPipelineConfig, frames_dir: Path | None = None, quiet: bool = False) -> Path:
    """Trains as `lerobot-train` does with the same configuration, and returns the last checkpoint's folder.

    Batches come from decoded frames instead of a loader; frames, their order and everything random are a
    function of the seed and the step, so that a killed and resumed run ends with the weights of one that was not.

    Raises:
        UserError: the dataset, the output folder or an option cannot be used.
    """
    check_supported(config)
    try:
        config.validate()
    except (ValueError, FileExistsError, FileNotFoundError, NotImplementedError) as refused:
        raise UserError(str(refused)) from refused
    assert config.policy is not None
    assert config.output_dir is not None
    keep_freed_memory()
    # As LeRobot, but for cudnn's search for the fastest algorithm, which chooses anew in every run.
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.deterministic = config.cudnn_deterministic
    accelerator = _accelerator(config)
    if config.seed is not None:
        set_seed(config.seed)
    main = accelerator.is_main_process

    root = Path(config.dataset.root) if config.dataset.root else None
    if root is None:
        raise UserError("dap train needs --dataset.root, the folder of a LeRobotDataset")
    dataset = open_dataset(root, config.dataset.repo_id, config.tolerance_s, config.dataset.video_backend)
    if config.dataset.use_imagenet_stats:
        for camera in dataset.meta.camera_keys:
            for name, values in IMAGENET_STATS.items():
                dataset.meta.stats[camera][name] = torch.tensor(values, dtype=torch.float32)
    policy = make_policy(cfg=config.policy, ds_meta=dataset.meta)
    resumed = checkpoint.whole(config.checkpoint_path) if config.resume and config.checkpoint_path else None
    preprocessor, postprocessor = _processors(config, dataset.meta.stats, accelerator.device)
    if resumed is not None:  # its checkpoints go on saying what the run began from
        config.policy.pretrained_path = began_from(resumed)
    optimizer, scheduler = make_optimizer_and_scheduler(config, policy)

    cameras = [key for key in shown_inputs(config.policy) if key in config.policy.image_features]
    deltas = _delta_indices(config, list(dataset.meta.features))
    selection = select(dataset.meta, config)
    _check_horizon(dataset, deltas, [*selection.learned, *selection.dynamics_only])
    # One process decodes, and the others wait for its lock as long as it takes, which a collective would not.
    store = FrameStore(dataset, cameras, frames_dir, report=None if quiet else _DecodingBar())
    transforms = (
        ImageTransforms(config.dataset.image_transforms) if config.dataset.image_transforms.enable else None
    )
    source = BatchSource(dataset, store, cameras, deltas, transforms)

    step, before = 0, None
    if resumed is not None:
        step, optimizer, scheduler = load_training_state(resumed, optimizer, scheduler)
        before = checkpoint.consumed(resumed, config.batch_size, accelerator.num_processes)
        checkpoint.load_scaler(resumed, accelerator.scaler)
    _fuse(optimizer, True)
    policy, optimizer, scheduler = accelerator.prepare(policy, optimizer, scheduler)
    order = order_of(selection, source, config, accelerator.num_processes, accelerator.process_index, step, before)
    batches = Batches(source, order, pin=accelerator.device.type == "cuda")
    log = _Log(config.output_dir / LOG_FILE, step) if main else None
    bar = tqdm(
        total=config.steps, initial=step, desc="training", unit="step", disable=quiet or not main, smoothing=0.02
    )
    policy.train()
    unwrapped = accelerator.unwrap_model(policy)
    last: Path | None = resumed
    if main and last is not None:
        checkpoint.point_last(last)
    total = torch.zeros((), device=accelerator.device)
    while step < config.steps:
        started = time.perf_counter()
        if config.seed is not None:
            torch.manual_seed(_step_seed(config.seed, step, accelerator.process_index))
        batch = batches.next()
        waited = time.perf_counter() - started
        batch = preprocessor(_ready(batch, cameras, accelerator.device))
        with accelerator.autocast():
            loss, figures = policy(batch)
        accelerator.backward(loss)
        assert config.optimizer is not None
        clip = config.optimizer.grad_clip_norm
        norm = accelerator.clip_grad_norm_(policy.parameters(), clip if clip > 0 else float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
        if hasattr(unwrapped, "update"):
            unwrapped.update()
        step += 1
        bar.update(1)

        saves = config.save_checkpoint and should_save_checkpoint(step, config.save_freq, config.steps)
        logs = config.log_freq > 0 and (step % config.log_freq == 0 or step == config.steps)
        total += loss.detach()
        if (saves or logs) and not torch.isfinite(total):  # to look at every step would be to wait for every step
            raise UserError(
                f"the loss is not finite by step {step}; lower --policy.optimizer_lr or check the data"
            )
        if log is not None and config.log_freq > 0:
            spent = time.perf_counter() - started
            log.add({"loss": loss, "grad_norm": norm, "data_s": waited, "step_s": spent, **(figures or {})})
            if logs:
                row = log.flush(step, lr=optimizer.param_groups[0]["lr"])
                bar.set_postfix(loss=f"{row['loss']:.3f}")
        if config.eval_steps > 0 and selection.held_out and step % config.eval_steps == 0:
            error = _held_out_loss(policy, source, selection.held_out, config, preprocessor, cameras, accelerator)
            if log is not None:
                log.write({"step": step, "eval_loss": error})
        if saves:
            if main:
                _fuse(optimizer, None)
                last = checkpoint.save(
                    config.output_dir,
                    config.steps,
                    step,
                    cfg=config,
                    policy=unwrapped,
                    optimizer=optimizer,
                    scheduler=scheduler,
                    preprocessor=preprocessor,
                    postprocessor=postprocessor,
                    num_processes=accelerator.num_processes,
                    batch_size=config.batch_size,
                    scaler=accelerator.scaler,
                )
                _fuse(optimizer, True)
            accelerator.wait_for_everyone()
    bar.close()
    batches.close()
    if main and config.policy.push_to_hub:
        upload(config, unwrapped, preprocessor, postprocessor, dataset.meta, last or config.output_dir)
    # First what counts the gradients of several processes, then what connects them: freed last, under Python's lock,
    # it may wait for ever for a thread of gloo's that waits for the lock (pytorch/pytorch#56297).
    accelerator.free_memory()
    del policy
    gc.collect()
    accelerator.end_training()
    return last if last is not None else config.output_dir


def _fuse(optimizer: Any, fused: bool | None) -> None:
    """AdamW's step in one kernel, or, for a checkpoint that any trainer can load, as torch chooses."""
    if isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.AdamW):
        for group in optimizer.param_groups:
            group["fused"] = fused


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Noise is a function of seed, step and process: a resumed run repeats it, and no two processes share it."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _accelerator(config: TrainPipelineConfig) -> Accelerator:
    assert config.policy is not None
    precision = None
    if config.policy.use_amp:
        amp = torch.get_autocast_dtype(torch.device(config.policy.device or "cpu").type)
        precision = {torch.bfloat16: "bf16", torch.float16: "fp16"}[amp]
    accelerator = Accelerator(
        step_scheduler_with_optimizer=False,
        mixed_precision=precision,
        cpu=config.policy.device == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise UserError(
            f"dap train does not shard its parameters ({accelerator.distributed_type}); lerobot-train does, with the "
            "same flags"
        )
    return accelerator


def _processors(config: TrainPipelineConfig, stats: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """New pre- and postprocessors, or a checkpoint's: with this dataset's statistics, unless the run resumes."""
    policy = config.policy
    assert policy is not None
    if policy.pretrained_path is None:
        before, after = make_pre_post_processors(policy_cfg=policy, dataset_stats=stats)
        return before, after
    own = {} if config.resume else {"stats": stats}
    inputs = {**(policy.input_features or {}), **(policy.output_features or {})}
    before, after = make_pre_post_processors(
        policy_cfg=policy,
        pretrained_path=str(policy.pretrained_path),
        preprocessor_overrides={
            "device_processor": {"device": device.type},
            "normalizer_processor": {"features": inputs, "norm_map": policy.normalization_mapping, **own},
        },
        postprocessor_overrides={
            "unnormalizer_processor": {
                "features": policy.output_features,
                "norm_map": policy.normalization_mapping,
                **own,
            }
        },
    )
    return before, after


def _delta_indices(config: TrainPipelineConfig, features: list[str]) -> dict[str, list[int]]:
    """Offsets in frames by feature, by LeRobot's rule: one list for all observations, one for actions."""
    policy = config.policy
    assert policy is not None
    deltas: dict[str, list[int]] = {}
    for key in features:
        if key == "action" and policy.action_delta_indices is not None:
            deltas[key] = list(policy.action_delta_indices)
        elif key == "next.reward" and policy.reward_delta_indices is not None:
            deltas[key] = list(policy.reward_delta_indices)
        elif key.startswith("observation.") and policy.observation_delta_indices is not None:
            deltas[key] = list(policy.observation_delta_indices)
    return deltas


def _check_horizon(dataset: Any, deltas: dict[str, list[int]], episodes: list[int]) -> None:
    """A dynamics needs at least one frame whose future is in the same episode."""
    reach = max((max(value) for key, value in deltas.items() if key != "action"), default=0)
    longest = max(dataset.meta.episodes["length"][episode] for episode in episodes)
    if reach >= longest:
        raise UserError(
            f"{dataset.root} has no frame {reach} steps after another: the longest of its episodes that are learned "
            f"from has {longest}; lower --policy.outcome_offsets (the horizon where it is not given) or collect longer "
            "episodes"
        )


def _ready(batch: dict[str, Any], cameras: list[str], device: torch.device) -> dict[str, Any]:
    """Images to the device as bytes, and only there to floats in [0, 1]."""
    for camera in cameras:
        if batch[camera].dtype == torch.uint8:
            batch[camera] = batch[camera].to(device, non_blocking=True).float().div_(255)
    return batch


@torch.no_grad()
def _held_out_loss(
    policy: Any,
    source: BatchSource,
    episodes: list[int],
    config: TrainPipelineConfig,
    preprocessor: Any,
    cameras: list[str],
    accelerator: Accelerator,
) -> float:
    """Mean loss over the held-out frames as recorded, with noise of its own so that training's is not disturbed."""
    frames = torch.cat([torch.arange(source.starts[e], source.ends[e]) for e in episodes]).numpy()
    if config.max_eval_samples > 0:
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), config.max_eval_samples)).astype(int)]
    losses: list[float] = []
    policy.eval()
    with torch.random.fork_rng(), accelerator.autocast():
        torch.manual_seed(0)
        for i in range(0, len(frames), config.batch_size):
            batch = source.batch(frames[i : i + config.batch_size], as_recorded=True)
            batch = _ready(batch, cameras, accelerator.device)
            losses.append(policy(preprocessor(batch))[0].item())
    policy.train()
    return sum(losses) / len(losses)


class _Log:
    """Means of what was logged since the last line, one JSON object a line."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if path.exists():  # what a killed run wrote after its last checkpoint is repeated
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # the line it was killed in
                    continue
                if row["step"] <= step:
                    kept.append(line)
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self.values: dict[str, list[Any]] = {}

    def add(self, figures: Mapping[str, Any]) -> None:
        """Numbers, or tensors of one that are read when the line is written; what else policies tell is left out."""
        for name, value in figures.items():
            if isinstance(value, torch.Tensor) and value.numel() == 1:
                self.values.setdefault(name, []).append(value.detach())
            elif isinstance(value, int | float):
                self.values.setdefault(name, []).append(value)

    def flush(self, step: int, **more: float) -> dict[str, float]:
        row = {name: sum(map(float, values)) / len(values) for name, values in self.values.items()}
        self.values = {}
        row = {"step": step, **row, **more}
        self.write(row)
        return row

    def write(self, row: dict[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class _DecodingBar:
    """Shown by the process that decodes, once it does."""

    bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        self.bar = self.bar or tqdm(desc="decoding frames", unit="episode", leave=False, total=total)
        self.bar.update(done - self.bar.n)
