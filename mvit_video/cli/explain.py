"""One line for errors of libraries whose text does not say what to change."""

from __future__ import annotations

import re

_OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP|MPS|XPU)[\w ]* out of memory|(CUDA|HIP) error: out of memory|CU(DNN|BLAS|SOLVER)_STATUS_ALLOC_FAILED|"
    r"DefaultCPUAllocator: .*(allocate|enough) memory|not enough memory|std::bad_alloc|[Cc]annot allocate memory"
)
_DEVICE = re.compile(r"CUDA|HIP|MPS|XPU|CUBLAS|CUDNN|CUSOLVER")
_CLASS_PATH = re.compile(r"Problem with given class_path '([^']+)':\s*(.+?)(?:\n\s*- |\nGiven value|$)", re.DOTALL)
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+ ?\w+)")


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
