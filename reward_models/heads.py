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

    A head attends by what a cell shows and by where and when it is (the rug, the floor, the end of the clip), averages the features
    it attends to and maps them to one reward. Keys and values are the frozen features themselves, without a learned projection:
    with a hundred votes a projection only overfits, and it costs most of the time.

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
        """Attention maps of standardised features [N, T', S, D]: [M, N, L, T', S], summing to 1 over moments and cells."""
        content = torch.einsum("ntsd,mld->mnlts", features, self.query)
        where = self.moment_bias.unsqueeze(-1) + self.cell_bias.unsqueeze(-2)
        logits = content + where.unsqueeze(1)
        return logits.flatten(3).softmax(dim=-1).view_as(logits)

    def forward(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Score standardised features [N, T', S, D] float32; returns [M, N] rewards in log-odds, higher is better."""
        pooled = torch.einsum("mnlts,ntsd->mnld", self.attention(features), features).flatten(2)
        pooled = F.dropout(pooled, dropout, training=dropout > 0)
        hidden = F.gelu(torch.einsum("mnw,mwh->mnh", pooled, self.hidden) + self.hidden_bias)
        return torch.einsum("mnh,mh->mn", hidden, self.out)
