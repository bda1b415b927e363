"""Filters of Lightning's messages that a user need not read."""

from __future__ import annotations

import logging
import warnings


class _Chatter(logging.Filter):
    """Filter of Lightning's hints and announcements."""

    PREFIXES = (
        "GPU available", "TPU available", "HPU available", "\N{ELECTRIC LIGHT BULB} Tip", "Seed set to",
        "Restoring states from", "Restored all states from", "Loaded model weights from", "LOCAL_RANK",
        "Loading `train_dataloader` to estimate", "\nDetected KeyboardInterrupt",
        "`Trainer.fit` stopped",
    )  # fmt: skip

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.PREFIXES)


_CHATTER = _Chatter()


def quiet_lightning() -> None:
    """Hide the log lines and warnings of Lightning that mean nothing to a user."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_CHATTER)
    for message, category in (
        ("`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning),  # Lightning's own call of torch
        ("The '.*_dataloader' does not have many workers", UserWarning),  # the user's choice
        ("Be aware that when using `ckpt_path`, callbacks used", UserWarning),  # a test keeps no checkpoints
        ("The dirpath has changed from", UserWarning),  # a resumed run has a folder of its own
        ("The number of training batches .* is smaller than the logging interval", UserWarning),  # each epoch is logged
        # the net is sharded only where the strategy shards
        ("You're using the WeightAveraging callback with a model that overrides the configure_model", UserWarning),
        ("Grad strides do not match bucket view strides", UserWarning),  # a copy that costs next to nothing
    ):
        warnings.filterwarnings("ignore", message, category)
