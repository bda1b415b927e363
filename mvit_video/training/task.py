"""The Lightning task: loss, metrics and optimiser of a video classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional as F
from torch.optim import Optimizer
from torchmetrics import Metric

from mvit_video.data.clips.mixing import Mixing
from mvit_video.metrics.accuracy import is_scored, label_ranks
from mvit_video.metrics.views import join_views
from mvit_video.nn import tune_for_cpu
from mvit_video.training.checkpoint_io import check_unfinished
from mvit_video.training.compatibility import check_callbacks
from mvit_video.training.initial import InitFrom, note_model, prepare_net
from mvit_video.training.metrics import ClipMean, VideoMean, video_metrics
from mvit_video.training.parameters import check_same_tensors, decay_groups, scale_rates
from mvit_video.training.schedule import RunSchedule, Schedule, limit_to_epoch
from mvit_video.training.speed import Speed, count_graphs
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.data.dataset import ClipBatch


class Task(LightningModule):
    """Training and scoring of `net` on clips.

    Args:
        net: maps a clip `(B, 3, T, H, W)` to logits; has `num_classes`, `num_frames` and `crop_size`. With 0 classes it
            gets a head for those of the data.
        optimizer: makes the optimiser from parameter groups; its learning rate is the peak of the schedule.
        schedule: the learning rate over the run.
        label_smoothing: share of the target spread over all classes.
        mixing: mixup and cutmix of training batches; None leaves clips as they are.
        layer_decay: learning rate of a block divided by that of the block above it.
        multi_label: a clip shows any number of classes: a sigmoid for each instead of a softmax over all.
        speed: how the net runs.
        init_from: initial weights of `net`, or their file; None keeps its own.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable,
        schedule: Schedule = Schedule(),
        label_smoothing: float = 0.0,
        mixing: Mixing | None = None,
        layer_decay: float = 1.0,
        multi_label: bool = False,
        speed: Speed = Speed(),
        init_from: InitFrom | str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"model.label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        if not 0 < layer_decay <= 1:
            raise ConfigError(f"model.layer_decay must be above 0 and at most 1, got {layer_decay}")
        self.net = net
        self.optimizer = optimizer
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.mixing = mixing
        self.layer_decay = layer_decay
        self.multi_label = multi_label
        self.speed = speed
        self.init_from = InitFrom(init_from) if isinstance(init_from, str) else init_from
        self.train_loss = ClipMean()
        self.val_loss = VideoMean()
        self._logs_test_scores = self._is_prepared = False
        self._run: RunSchedule | None = None
        self._make_metrics()

    def _logged(self) -> list[str]:
        accuracy = [] if self.train_top1 is None else ["train/top1"]
        speed = ["train/clips_per_second", "time/step"]
        return [*self.val_metrics, "val/loss", "train/loss_epoch", *accuracy, "train/loss", "lr", *speed]

    def _make_metrics(self) -> None:
        self.num_classes = cast(int, self.net.num_classes)
        self.train_top1 = None if self.multi_label else ClipMean()
        self.val_metrics = nn.ModuleDict(video_metrics("val", self.num_classes, self.multi_label))
        self.test_metrics = nn.ModuleDict(video_metrics("test", self.num_classes, self.multi_label))

    def setup(self, stage: str) -> None:
        """Check the run, and make the net ready for it.

        Raises:
            ConfigError: data and net differ, or a callback does not suit the run.
            CheckpointError: the initial weights cannot be read or do not fit.
        """
        self._prepare()
        if stage == "fit":
            check_callbacks(self.trainer, self._logged() if type(self) is Task else None)
        if self.trainer.strategy.root_device.type == "cpu":
            tune_for_cpu(self.net)
        self.speed.apply(self.net)

    def configure_model(self) -> None:
        """Split the net, block by block, over the processes of a strategy that shards (FSDP2)."""
        self._prepare()  # Lightning's average of weights calls this before `setup`, to copy the net
        if self.device_mesh is None or isinstance(self.net, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for block in cast(nn.ModuleList, self.net.blocks):
            fully_shard(block, mesh=mesh)
        fully_shard(self.net, mesh=mesh)

    def teardown(self, stage: str) -> None:
        """Have the next run check its data."""
        self._is_prepared = False

    def _prepare(self) -> None:
        """Make the net ready, once in a run."""
        if self._is_prepared:
            return
        trainer: Any = self.trainer
        stage = trainer.state.fn.value
        prepare_net(self.net, trainer.datamodule, self.init_from, multi_label=self.multi_label, stage=stage)
        self.init_from = None  # a second run of this process has the trained weights
        if self.num_classes != self.net.num_classes:
            self._make_metrics()
        self._is_prepared = True

    def on_test_start(self) -> None:
        """Find out whether a callback evaluates the views; if none does, the task logs scores itself."""
        callbacks = cast(Any, self.trainer).callbacks
        self._logs_test_scores = not any(getattr(callback, "evaluates_views", False) for callback in callbacks)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        self.log("lr", max(group["lr"] for group in self.trainer.optimizers[0].param_groups))
        # also for an empty batch: all processes take part in the reductions at the end of the epoch
        self.log("train/loss_epoch", self.train_loss, on_step=False, on_epoch=True)
        if self.train_top1 is not None:
            self.log("train/top1", self.train_top1, on_step=False, on_epoch=True)
        size = len(batch.label)
        if size == 0:  # every video failed, but the other processes wait for this one's gradients
            return cast(Tensor, sum(parameter.sum() * 0 for parameter in self.net.parameters()))
        clip, target = self._mixed(batch)
        logits = self._logits(clip)
        loss = self._loss(logits, target, self.label_smoothing)
        self.train_loss.update(loss.detach() * size, size)
        if self.train_top1 is not None:
            self.train_top1.update(100 * (label_ranks(logits.detach(), target.argmax(dim=1)) == 0).sum(), size)
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """Score videos, whose views lie side by side in the batch; the loss of a video is the mean over its views.

        Returns: `non_finite`, the rows of the videos with NaN or inf among their scores, which count as wrong.
        """
        non_finite = batch.video[:0]
        known = self._known(batch)
        if known.any():
            logits, target = self._logits(batch.clip[known]).float(), self._target(batch.label[known])
            video, num_views = batch.video[known], int(batch.view.max()) + 1
            self.val_loss.update(video[::num_views], self._losses(logits, target).view(-1, num_views).mean(dim=1))
            non_finite = self._score(self.val_metrics, video, logits, target, num_views)
        # also after an empty batch: all processes take part in the reduction
        self.log("val/loss", self.val_loss)
        self._log_scores(self.val_metrics)
        return {"non_finite": non_finite}

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the logits and probabilities of each view; a callback of `evaluation` joins the views of a video."""
        if len(batch.label):
            logits = self._logits(batch.clip).float()
        else:
            logits = torch.zeros(0, self.num_classes, device=self.device)
        if self._logs_test_scores:
            known = self._known(batch)
            if known.any():
                target, num_views = self._target(batch.label[known]), int(batch.view.max()) + 1
                self._score(self.test_metrics, batch.video[known], logits[known], target, num_views)
            self._log_scores(self.test_metrics)
        return {"logits": logits, "probabilities": self._probabilities(logits)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser, without weight decay of norms and biases, and its schedule."""
        optimizer = self.optimizer(decay_groups(self.net, self.layer_decay))
        scale_rates(optimizer)
        self._run = RunSchedule(self.schedule, optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._run.scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, also for fused optimisers.

        Raises:
            ConfigError: the optimiser scales gradients itself, as fused ones do with float16.
        """
        plugin = self.trainer.precision_plugin
        if not isinstance(plugin, MixedPrecision) or not getattr(optimizer, "_step_supports_amp_scaling", False):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif plugin.scaler is None:  # Lightning refuses for the sake of a scaler that bfloat16 does without
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0, algorithm)
        elif gradient_clip_val:
            raise ConfigError(
                f"trainer.gradient_clip_val={gradient_clip_val} with trainer.precision=16-mixed needs an optimiser "
                "that is not fused: set model.optimizer.init_args.fused to false, or the precision to bf16-mixed"
            )

    def on_train_start(self) -> None:
        """Fit the schedule to the length of the run.

        Raises:
            ConfigError: the run has no end.
        """
        limit_to_epoch(self.trainer)
        assert self._run is not None
        self._run.begin(self.trainer)

    def on_train_epoch_end(self) -> None:
        """Log the number of compiled graphs: one that keeps growing means changing sizes."""
        if self.speed.compile is not None:
            self.log("train/compiled_graphs", float(count_graphs()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how the net is built, and the clips that it is trained on."""
        note_model(self.net, getattr(self.trainer, "datamodule", None), checkpoint, multi_label=self.multi_label)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the weights of another model, and a run that has ended.

        Raises:
            CheckpointError: names or shapes differ.
            ConfigError: nothing is left to train.
        """
        trainer = self._trainer
        source = str(getattr(trainer, "ckpt_path", None) or "the checkpoint")
        if "state_dict" in checkpoint:  # else a strategy that shards the net has loaded it already
            check_same_tensors(self.state_dict(), checkpoint["state_dict"], source)
        if trainer is not None and trainer.state.fn == "fit":
            check_unfinished(checkpoint, trainer, source)

    def _known(self, batch: ClipBatch) -> Tensor:
        """Return whether the label of each view is known."""
        known = batch.label >= 0
        return known.all(dim=1) if self.multi_label else known

    def _score(self, metrics: nn.ModuleDict, video: Tensor, logits: Tensor, target: Tensor, num_views: int) -> Tensor:
        """Add videos, whose views lie side by side, to metrics; return the rows with non-finite scores."""
        scores = self._probabilities(logits).view(-1, num_views, self.num_classes).cpu()
        joined = join_views(scores, "max" if self.multi_label else "sum", multi_label=self.multi_label)
        rows, label = video[::num_views], target[::num_views].cpu()
        for metric in metrics.values():
            cast(Metric, metric).update(rows, joined, label if self.multi_label else label.argmax(dim=1))
        return rows[~is_scored(scores).to(rows.device)]

    def _log_scores(self, metrics: nn.ModuleDict) -> None:
        for name, metric in metrics.items():
            self.log(name, metric, prog_bar=name == next(iter(metrics)))  # type: ignore[arg-type]

    def _logits(self, clip: Tensor) -> Tensor:
        return self.net(self.speed.order(clip))

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def _target(self, label: Tensor) -> Tensor:
        """Return the share of each class, `(B, num_classes)`."""
        if self.multi_label:  # the annotations may not mention the last classes
            return F.pad(label, (0, self.num_classes - label.shape[1]))
        return F.one_hot(label, self.num_classes).float()

    def _mixed(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        target = self._target(batch.label)
        if self.mixing is None:
            return batch.clip, target
        # seeded before every step: a resumed run draws the same
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        return self.mixing(batch.clip, target, rng)

    def _loss(self, logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, target * (1 - smoothing) + smoothing / 2)
        return F.cross_entropy(logits, target, label_smoothing=smoothing)

    def _losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each clip."""
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=1)
        return F.cross_entropy(logits, target, reduction="none")
