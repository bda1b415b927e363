"""Classification head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class ClassificationHead(nn.Module):
    """Dropout and a linear layer; logits in training and evaluation alike, never a softmax.

    Args:
        dim: channels of the embedding.
        dropout: probability of dropping a channel in training.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)

    def forward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        return self.projection(self.dropout(embedding))
