"""Messages of jsonargparse, Lightning, torch and the library in a user's words."""

from __future__ import annotations

import difflib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mvit_video.types import CheckpointError, ConfigError

_KINDS: dict[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
}
_IMPORT_PATH = "the import path of a class or function, such as torch.optim.AdamW"
_UNION = re.compile(
    r"(?P<before>.*?)Does not validate against any of the Union subtypes Subtypes: \[(?P<kinds>.*?)\] "
    r"Errors: (?P<errors>.*) Given value type: \S+ '[\w.]+'> Given value: (?P<value>.*)"
)
_PLAIN = re.compile(r"Expected a (?P<kind><class '\w+'>|typing\.Literal\[.*\])\. Got value: (?P<value>.*)")
_NO_PATH = re.compile(r"Expected a path but \S+ either not accessible or invalid - ")
_NO_IMPORT = re.compile(r"Expected a dot import path string: (?P<value>.*)")
_OF_CLASS = re.compile(r"Problem with given class_path '[\w.]+': (?P<rest>.*)")
_OF_FUNCTION = re.compile(
    r"Type typing\.Callable\[.*?\] expects a function or a callable class: (?P<rest>.*)\. Got value: (?P<value>.*?)"
)
_NO_OPTION = re.compile(r"Option '(?P<name>[\w.]+)' is not accepted(?P<hint>.*)")
_LENGTH = re.compile(r"Expected a tuple with (?P<number>\d+) elements\. Got value: (?P<value>.*)")
_KEY = re.compile(r"(?P<key>[\w.]+): (?P<rest>.*)")
_OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP|MPS|XPU)[\w ]* out of memory|(CUDA|HIP) error: out of memory|CU(DNN|BLAS|SOLVER)_STATUS_ALLOC_FAILED|"
    r"DefaultCPUAllocator: .*(allocate|enough) memory|not enough memory|std::bad_alloc|[Cc]annot allocate memory"
)
_DEVICE = re.compile(r"CUDA|HIP|MPS|XPU|CUBLAS|CUDNN|CUSOLVER")
_CLASS_PATH = re.compile(r"Problem with given class_path '([^']+)':\s*(.+?)(?:\n\s*- |\nGiven value|$)", re.DOTALL)
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+ ?\w+)")


@contextmanager
def in_flags(**flags: str) -> Iterator[None]:
    """Replace arguments by flags or keys in errors of the library: `argument=value`, `argument holds`."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        argument = re.compile(rf"(?<![\w.-])({'|'.join(flags)})(=| (?=holds ))")

        def named(match: re.Match[str]) -> str:
            is_key = not (flags[match[1]].startswith("-") or flags[match[1]].isupper())  # else an option or a place
            return flags[match[1]] + (match[2] if is_key else " ")

        raise type(error)(argument.sub(named, str(error))) from error


def in_words(line: str) -> str:
    """Return a message of jsonargparse, as `KEY=VALUE: expected ...` where it is about the type of a value."""
    line = re.sub(r'Parser key "([^"]+)":', r"\1:", line.replace(": - ", ": "))
    line = re.sub(r"Subcommand '\w+' does not accept option '([^']+)'", r"\1: there is no such key", line)
    if missing := re.fullmatch(r"the following arguments are required: (.*)", line):
        keys = re.sub(r"\b[a-z]+\.((?:model|data|trainer)\b)", r"\1", missing[1])
        return f"the config does not set {keys}; add them, or give a config of configs/ that does with -c"
    if stray := re.fullmatch(r"unrecognized arguments: ([^-\s]\S*)( .*)?", line):
        hint = (
            f"a config is given as -c {stray[1]}" if stray[1].endswith((".yaml", ".yml")) else "options begin with --"
        )
        return f"{line}; {hint}"
    keyed = _KEY.fullmatch(line)
    return line if keyed is None else _of_type(keyed["key"], _NO_PATH.sub("", keyed["rest"]))


def _of_type(key: str, text: str) -> str:
    if inner := _OF_CLASS.fullmatch(text) or _OF_FUNCTION.fullmatch(text):
        return _within(key, inner["rest"])
    if union := _UNION.fullmatch(text):
        classes = set(re.findall(r"<class '([\w.]+)'>", union["kinds"]))
        if classes - {"torch.Tensor"} <= _KINDS.keys() and not re.search(r"\b(list|tuple|dict)\b", union["kinds"]):
            return _expected(key, union["value"], union["kinds"])
        errors = union["errors"].split(" - ")
        if of_class := next((error for error in errors if _OF_CLASS.fullmatch(error)), None):
            return _of_type(key, of_class)
        if "Literal[" in union["kinds"]:
            return _expected(key, union["value"], union["kinds"])
        text = " - ".join(error for error in errors if not re.fullmatch(r"Expected a <.*>", error)) or union["errors"]
    if no_import := _NO_IMPORT.fullmatch(text):
        return f"{key}={no_import['value']}: expected {_IMPORT_PATH}"
    if plain := _PLAIN.fullmatch(text):
        return _expected(key, plain["value"], plain["kind"])
    if length := _LENGTH.fullmatch(text):
        return f"{key}={length['value']}: expected a list of {length['number']} values"
    return f"{key}: {text}"


def _within(key: str, text: str) -> str:
    """Return what is wrong with the class that `key` names, or with an argument of it."""
    if option := _NO_OPTION.fullmatch(text):
        return f"{key}.{option['name']}: there is no such key{option['hint']}"
    keyed = _KEY.fullmatch(text)
    return f"{key}: {text}" if keyed is None else _of_type(f"{key}.{keyed['key']}", _NO_PATH.sub("", keyed["rest"]))


def _expected(key: str, value: str, kinds: str) -> str:
    names: list[str] = [
        name for part in re.findall(r"Literal\[(.*?)\]", kinds) for name in part.replace("'", "").split(", ")
    ]
    classes: list[str] = re.findall(r"<class '([\w.]+)'>", kinds)
    words = list(dict.fromkeys(_KINDS[name] for name in classes if name in _KINDS))
    names = list(dict.fromkeys(names))
    if names:
        words.insert(0, f"one of {', '.join(names)}")
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={value}: expected {' or '.join(words or classes)}{hint}"


def out_of_memory(error: BaseException) -> str | None:
    """Return which memory ran out, of the GPU or of the machine; None for another error."""
    text = str(error)
    is_named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not is_named and not (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(text)):
        return None
    place = "GPU memory" if _DEVICE.search(text) else "memory"
    tried = _TRIED.search(text) or re.search(r"tried to allocate (\d+ bytes)", text)
    return f"{place} ran out" + (f" (tried to allocate {tried[1]})" if tried else "")


def failed_class(error: BaseException) -> str | None:
    """Return which class of a config could not be made and why, such as a missing package; None for another error."""
    found = _CLASS_PATH.search(str(error))
    return found and f"{found[1]}: {' '.join(found[2].split())}"


def missing_metric(error: BaseException) -> str | None:
    """Return Lightning's message about early stopping on a metric that nothing logs; None for another error."""
    text = " ".join(str(error).split())
    return f"trainer.callbacks: {text}" if text.startswith("Early stopping conditioned on metric") else None


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
