"""What Lightning says and a user need not read."""

from __future__ import annotations

import logging
import warnings


class _Chatter(logging.Filter):
    """Keeps Lightning's hints and announcements off the screen."""

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
    """Filter the log lines and warnings of Lightning that say nothing to a user."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_CHATTER)
    for message, category in (
        ("`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning),  # Lightning's own call of torch
        ("The '.*_dataloader' does not have many workers", UserWarning),  # the user's choice
        ("Be aware that when using `ckpt_path`, callbacks used", UserWarning),  # a test keeps no checkpoints
        ("The dirpath has changed from", UserWarning),  # a continued run has a folder of its own
        ("The number of training batches .* is smaller than the logging interval", UserWarning),  # each epoch is logged
        # the net is sharded where the strategy asks for it, and not otherwise
        ("You're using the WeightAveraging callback with a model that overrides the configure_model", UserWarning),
        ("Grad strides do not match bucket view strides", UserWarning),  # a copy that costs nothing to speak of
    ):
        warnings.filterwarnings("ignore", message, category)
