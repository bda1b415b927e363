"""The keys of a config that people set: short help, and misspelt keys reported before anything slow is imported."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mvit_video.types import ConfigError

DESCRIPTIONS = {
    "fit": ("Train a model and validate it after every epoch.", "-c configs/demo.yaml --trainer.max_epochs 5"),
    "validate": ("Score a checkpoint on the validation videos.", "-c configs/demo.yaml --ckpt_path best"),
    "test": (
        "Score a checkpoint on the test videos over all their views.",
        "-c configs/demo.yaml --ckpt_path best --data.views.num_crops 3",
    ),
    "predict": (
        "Write features of windows that slide over videos, as `mvit-video extract` does. A second run does only what "
        "is new, has changed or has failed.",
        "-c configs/demo.yaml --ckpt_path best --features.window 16",
    ),
    "robustness": (
        "Test a checkpoint with fewer views, with frames in other orders, and with corrupted clips. The same command "
        "again tests only what is missing.",
        "-c configs/demo.yaml --ckpt_path best",
    ),
}
"""Purpose and example of each verb that takes a config."""

# Each line: key, default, purpose. A test compares the keys and the defaults with the parser's.
_EVERY_VERB = """\
model:
  net                           required model below, or path of a builder
  init_from                     null     weights to begin with: file or run
  multi_label                   false    any number of labels for each video
  label_smoothing               0.0      share of the target over all classes
  mixing                        null     mixup and cutmix, {} for the defaults
  layer_decay                   1.0      learning rate over the block above
  schedule.warmup_epochs        30.0     epochs of linear warm-up
  schedule.start_factor         0.01     first learning rate / peak
  schedule.end_factor           0.01     last learning rate / peak
  schedule.reference_clips      null     clips per step that lr belongs to
  speed.compile                 null     backend of torch.compile
  speed.channels_last           false    memory order that cuDNN prefers
  speed.activation_checkpointing false   less memory, a third more time
optimizer, below model:
  optimizer                     required class, such as torch.optim.AdamW
  optimizer.init_args.lr        -        peak of the learning rate
  optimizer.init_args.weight_decay -     not of norms and biases
data:
  train                         null     annotation file or folder of classes
  val                           null     as train
  test                          null     as train; null: val
  predict                       null     videos without labels; null: test
  root                          null     folder that paths start from; alone:
                                         a folder of classes, split by name
  classes.names                 null     list or file; null: of the data
  clip.num_frames               16       frames in a clip
  clip.sampling_rate            4        frames from one to the next
  clip.target_fps               30.0     rate that sampling_rate refers to
  clip.sampling                 rate     rate, segments, or a sampler class
  input.crop_size               224      pixels of the square
  input.mean                    [0.45, 0.45, 0.45]
  input.std                     [0.225, 0.225, 0.225]
  input.decode_short_side       null     pixels that large frames decode to
  augment.scale                 [0.08, 1.0] area of a random crop
  augment.aspect                [0.75, 1.3333333333333333] width / height
  augment.flip                  0.5      0 where left and right matter
  augment.randaugment           null     such as rand-m7-n4-mstd0.5-inc1
  augment.erasing               null     box of noise, {} for the defaults
  augment.repeats               1        augmented copies of each clip
  augment.pipeline              video    video, image
  views.num_clips               5        clip positions at test
  views.num_crops               1        1 (centre) or 3
  views.short_side              null     pixels before cropping
  views.interpolation           bilinear bilinear, bicubic
  views.protocol                slowfast slowfast, torchvision, pytorchvideo
  views.frame_order             forward  forward, shuffled, reversed, frozen
  views.corruption              null     applied to each clip
  val_views                     num_clips=1 as views, or random
  loading.batch_size            8        videos on each device
  loading.test_batch_size       1        videos, each with all its views
  loading.num_workers           null     null: one per core, at most 8
  loading.backend               decord   decord, pyav, torchcodec
  loading.index_cache           null     folder of packet indices
  loading.allow_outside         false    read videos outside of root
  loading.on_error              raise    raise, or skip and list in a file
  loading.max_failure_rate      0.1      share of skipped videos that stops
  seed                          null     null: seed_everything
trainer (Lightning's; these are the usual ones):
  max_epochs                    null
  max_time                      null     DD:HH:MM:SS
  accelerator                   auto     auto, cpu, gpu
  devices                       auto     how many, or which
  num_nodes                     1
  strategy                      auto     ddp, fsdp, ...
  precision                     null     32-true, bf16-mixed, 16-mixed
  accumulate_grad_batches       1        batches in an optimiser step
  gradient_clip_val             null     largest norm of the gradient
  check_val_every_n_epoch       1
  limit_train_batches           null     number, or share of an epoch
  limit_val_batches             null
  limit_test_batches            null
  fast_dev_run                  false    one batch of each, nothing written
  logger                        null     besides metrics.csv and TensorBoard
  callbacks                     null     besides those of the run
  default_root_dir              null     null: runs
beside these:
  ckpt_path                     null     file, or best, last of the last run
  seed_everything               0
  checkpoint_every_n_steps      null     between two last.ckpt of an epoch
  base                          null     in a file: config that it changes
"""
_ONE_VERB = {
    "predict": """\
features:
  layer                         pooled   pooled, tokens, stage1..., logits
  window                        null     64 (frames) or 2.5s; null: a clip
  stride                        null     as window; null: the window
  num_crops                     1        of each window
  keep_crops                    false    not their mean
  batch_size                    8        clips at once
  backend                       pyav     pyav, decord, torchcodec
  decode_short_side             null     0: the frames' own size
  folder                        null     null: beside the runs
  format                        parquet
""",
    "robustness": """\
studies:
  studies                       [views, frame_order, corruptions]
  severities                    [1, 2, 3, 4, 5] of the corruptions
""",
}
_GROUP, _LINE = re.compile(r"(\w+)[^:]*:"), re.compile(r"  ([a-z][\w.]*) +(\[.*\]|\S+)")
# Values with keys of their own, which only the parser knows.
_OPEN = (
    "model.net", "model.optimizer", "model.mixing", "model.init_from", "data.augment.erasing", "data.clip.sampling",
    "data.val_views", "data.views.corruption", "trainer",
)  # fmt: skip


def known_keys(verb: str) -> dict[str, str]:
    """Return the keys that the short help of a verb shows, with their defaults as YAML."""
    keys, prefix = {}, ""
    for line in (_EVERY_VERB + _ONE_VERB.get(verb, "")).splitlines():
        if group := _GROUP.fullmatch(line):
            name = {"optimizer": "model", "beside": "", "studies": ""}.get(group[1], group[1])
            prefix = f"{name}." if name else ""
        elif found := _LINE.match(line):
            keys[prefix + found[1]] = found[2]
    return keys


def short_help(verb: str) -> str:
    """Return the help of a verb with a config: purpose, example, keys that people set, models by name."""
    from mvit_video.models import list_models

    purpose, example = DESCRIPTIONS[verb]
    names = textwrap.fill(", ".join(list_models()), 78, initial_indent="  ", subsequent_indent="  ")
    return f"""\
usage: mvit-video {verb} -c CONFIG [--KEY VALUE ...]

{textwrap.fill(purpose, 80)}

example:
  mvit-video {verb} {example}

A key is set as --data.loading.batch_size 16, or in YAML below its group.
  --print_config        print all settings of a config
  --help-all            every key, with its type
  --model.net.help NAME arguments of a model

{_ONE_VERB.get(verb, "")}{_EVERY_VERB}
models (mvit-video models lists their sizes):
{names}
"""


def check_keys(words: Sequence[str], configs: Mapping[str, Any]) -> None:
    """Refuse keys that do not exist, all of them in one message; those of the trainer are Lightning's to know.

    Args:
        words: of the command line, the verb first.
        configs: content of each config file, by its path.

    Raises:
        ConfigError: names the files, the keys, and what each is called now or may have been meant for.
    """
    known = {"trainer"}
    for key in known_keys(words[0]):
        names = key.split(".")
        known |= {".".join(names[: i + 1]) for i in range(len(names))}
    options = (word[2:].partition("=")[0].removesuffix("+") for word in words[1:] if word.startswith("--"))
    places = [("", [key for key in options if key.startswith(("model.", "data."))])]
    places += [(f"{file}: ", list(_keys_in(content))) for file, content in configs.items()]
    wrong = [(place, [key for key in keys if not _is_known(key, known)]) for place, keys in places]
    if messages := [place + "; ".join(_problem(key, known) for key in keys) for place, keys in wrong if keys]:
        raise ConfigError("; ".join(messages))


def _keys_in(content: Any) -> Iterable[str]:
    """Return the keys of a config, as deep as the help names them."""
    for group, settings in _items(content):
        keys = [f"{group}.{name}" for name, _ in _items(settings)]
        for key, (_, value) in zip(keys, _items(settings), strict=True):
            yield from [f"{key}.{name}" for name, _ in _items(value) if key not in _OPEN] or [key]
        if not keys:
            yield group


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _is_known(key: str, known: Collection[str]) -> bool:
    return key.removesuffix(".help") in known or key.startswith(tuple(f"{one}." for one in _OPEN))


def _problem(key: str, known: Collection[str]) -> str:
    group, *names = key.split(".")
    if group == "data" and names:
        from mvit_video.data.settings import MOVED_KEYS  # brings torch

        if names[0] in MOVED_KEYS:
            return f"{key} is now {'.'.join((group, MOVED_KEYS[names[0]], *names[1:]))}"
    beside = [one for one in known if one.count(".") == key.count(".")]
    near = difflib.get_close_matches(key, beside, n=1) or difflib.get_close_matches(key, known, n=1)
    return f"{key}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
