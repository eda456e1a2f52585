"""Attention Matching as a press of kvpress, for models of transformers:

from kvfold.kvpress import AttentionMatchingPress
with AttentionMatchingPress(compression_ratio=0.875)(model):
    model(input_ids, past_key_values=cache)
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from kvpress.presses.base_press import BasePress
from kvpress.utils import compute_n_kept, get_prerope_query_states
from torch import nn
from transformers.models.llama.modeling_llama import rotate_half

from ._heads import solve_head


@dataclass
class AttentionMatchingPress(BasePress):
    """compression_ratio: the share that is removed, as in all presses: 0.875 keeps an eighth.

    The reference queries are those of the prompt itself, taken evenly from all of it and turned to its last positions,
    as if they were asked behind it. n_queries: of them for each KV head. method: of kvfold.solve_head. keep_first,
    keep_last: first and newest cells that stay as they are; keep_last -1 = 32, or an eighth of what is left when that
    is less. threads: 0 = one for each processor."""

    compression_ratio: float = 0.0
    method: str = "refine"
    n_queries: int = 1024
    keep_first: int = 4
    keep_last: int = -1
    threads: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.compression_ratio < 1:
            raise ValueError(
                f"compression_ratio is {self.compression_ratio}; give the share to remove, from 0 to below 1"
            )

    def compress(
        self,
        module: nn.Module,
        hidden_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attentions: Any,
        kwargs: dict[str, Any],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """keys: [batch, KV heads, T, d], values: [batch, KV heads, T, dv]."""
        cells = keys.shape[2]
        kept = compute_n_kept(cells, self.compression_ratio)
        if kept == cells:
            return keys, values
        first, last = self._ends(kept)
        end = cells - last
        queries = self._queries(module, hidden_states, kwargs["position_embeddings"], keys.shape[1])
        region = [part[:, :, first:end].float().cpu().contiguous().numpy() for part in (keys, values)]
        scale = float(getattr(module, "scaling", module.head_dim**-0.5))
        softcap = float(getattr(module.config, "attn_logit_softcapping", None) or 0)

        def solve(where: tuple[int, int]) -> Any:
            return solve_head(
                region[0][where],
                region[1][where],
                queries[where],
                scale,
                kept - first - last,
                method=self.method,
                softcap=softcap,
            )

        heads = list(itertools.product(range(keys.shape[0]), range(keys.shape[1])))
        with ThreadPoolExecutor(self.threads or os.cpu_count()) as pool:
            solved = list(pool.map(solve, heads))
        return (
            self._joined(keys, [head.keys for head in solved], first, end),
            self._joined(values, [head.values for head in solved], first, end),
        )

    def _ends(self, kept: int) -> tuple[int, int]:
        """How many of those kept stay as they are; one is left for the others."""
        first = min(self.keep_first, kept - 1)
        last = min(32, (kept - first) // 8) if self.keep_last < 0 else self.keep_last
        return first, min(last, kept - first - 1)

    def _queries(self, module: Any, hidden_states: torch.Tensor, positions: Any, kv_heads: int) -> Any:
        """[batch, KV heads, n, d]: those of a KV head's query heads one below the other."""
        tokens = hidden_states.shape[1]
        groups = module.config.num_attention_heads // kv_heads
        count = min(tokens, max(1, self.n_queries // groups))
        taken = torch.linspace(0, tokens - 1, count, device=hidden_states.device).round().long()
        rows = get_prerope_query_states(module, hidden_states[:, taken])
        cos, sin = (part[:, -count:].unsqueeze(1) for part in positions)
        rows = rows * cos + rotate_half(rows) * sin
        batch, _, _, width = rows.shape
        return rows.float().cpu().reshape(batch, kv_heads, groups * count, width).numpy()

    @staticmethod
    def _joined(like: torch.Tensor, rows: list[memoryview], first: int, end: int) -> torch.Tensor:
        """The verbatim ends and between them the new rows, one matrix a head."""
        batch, heads, _, width = like.shape
        new = torch.stack([torch.frombuffer(matrix, dtype=torch.float32).view(-1, width) for matrix in rows])
        new = new.view(batch, heads, -1, width).to(like)
        return torch.cat([like[:, :, :first], new, like[:, :, end:]], dim=2)
