"""Reward heads: per axis and member one query token that looks over moments and cells, and a small MLP that says one number.

All members of an axis run as one batch of matrix products. Axes share nothing but the frozen features: a shared query token
would couple them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AxisHeads(nn.Module):
    """The ensemble of heads of one axis.

    A head attends by what a cell shows and by where and when it is (the rug, the floor, the end of the clip), averages the
    features it attends to and maps them to one reward. Keys and values are the frozen features themselves: a learned projection
    gained little with a hundred votes and cost four times the time.

    Args:
        num_members: Ensemble size M.
        num_moments: T' of the features.
        num_cells: S of the features.
        feature_dim: D of the features.
        width: Size of the hidden layer.
        num_looks: Attention maps L per query token.
        generator: Source of the initial weights; every member gets its own.
    """

    def __init__(
        self,
        num_members: int,
        num_moments: int,
        num_cells: int,
        feature_dim: int,
        width: int,
        num_looks: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()

        def normal(*shape: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(num_members, *shape, generator=generator) * std)

        self.query = normal(num_looks, feature_dim, std=0.5 * feature_dim**-0.5)
        # position enters as moment plus cell: few numbers, so that few votes suffice
        self.moment_bias = normal(num_looks, num_moments, std=0.1)
        self.cell_bias = normal(num_looks, num_cells, std=0.1)
        self.hidden = normal(num_looks * feature_dim, width, std=(num_looks * feature_dim) ** -0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(num_members, 1, width))
        self.out = normal(width, std=0.5 * width**-0.5)

    def attention(self, features: Tensor) -> Tensor:
        """Attention maps of standardised features [N, T', S, D]: [N, M, L, T' * S], summing to 1 over moments and cells."""
        num_members, num_looks, _ = self.query.shape
        # [M L, D] x [N, D, P]: this order of axes lets every product run without copying the features
        content = self.query.flatten(0, 1) @ features.flatten(1, 2).transpose(1, 2)
        where = self.moment_bias.unsqueeze(-1) + self.cell_bias.unsqueeze(-2)
        return (content + where.flatten(2).flatten(0, 1)).softmax(dim=-1).unflatten(1, (num_members, num_looks))

    def forward(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Score standardised features [N, T', S, D] float32; returns [M, N] rewards in log-odds, higher is better."""
        attention = self.attention(features)
        pooled = (attention.flatten(1, 2) @ features.flatten(1, 2)).unflatten(1, attention.shape[1:3])
        pooled = F.dropout(pooled.flatten(2).transpose(0, 1), dropout, training=dropout > 0)
        hidden = F.gelu(pooled @ self.hidden + self.hidden_bias)
        return (hidden @ self.out.unsqueeze(-1)).squeeze(-1)
