"""Frames and actions in one flat sequence of ids, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from align.types import ActionSpace
from align.world_models.layout import TokenLayout

SPACE = ActionSpace(("x",), (-1.0,), (1.0,))


@st.composite
def layouts(draw: st.DrawFn) -> TokenLayout:
    num_frames, dims = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    space = ActionSpace(tuple("abc"[:dims]), (-1.0,) * dims, (2.0,) * dims)
    sizes = draw(st.integers(1, 5)), draw(st.integers(2, 9)), draw(st.integers(2, 11))
    return TokenLayout(num_frames, draw(st.integers(1, num_frames - 1)), sizes[0], sizes[1], space, sizes[2])


def random_clip(layout: TokenLayout, batch: int = 3) -> tuple[Any, Any]:
    chance = torch.Generator().manual_seed(0)
    codes = torch.randint(layout.num_codes, (batch, layout.num_frames, layout.tokens_per_frame), generator=chance)
    return codes, torch.randint(layout.num_bins, (batch, layout.num_frames - 1, layout.num_dims), generator=chance)


def test_ids_by_hand() -> None:
    layout = TokenLayout(3, 1, 2, 10, SPACE, num_bins=5)
    codes = torch.tensor([[[1, 2], [3, 4], [5, 6]]])
    ids = layout.join(codes, torch.tensor([[[0], [4]]]))
    assert ids.tolist() == [[1, 2, 10, 3, 4, 14, 5, 6]]
    assert (layout.length, layout.prompt_length, layout.pad_id, layout.vocab_size) == (8, 2, 15, 16)
    assert layout.kinds.tolist() == [0, 0, 1, 0, 0, 1, 0, 0]


def test_second_dim_has_ids_of_its_own() -> None:
    layout = TokenLayout(2, 1, 1, 10, ActionSpace(("x", "y"), (0.0, 0.0), (1.0, 1.0)), num_bins=5)
    assert layout.join(torch.tensor([[[7], [8]]]), torch.tensor([[[3, 3]]])).tolist() == [[7, 13, 18, 8]]


@settings(max_examples=20)
@given(layouts())
def test_split_undoes_join(layout: TokenLayout) -> None:
    codes, bins = random_clip(layout)
    ids = layout.join(codes, bins)
    assert ids.shape == (3, layout.length)
    back = layout.split(ids)
    assert torch.equal(back[0], codes) and torch.equal(back[1], bins)


@settings(max_examples=20)
@given(layouts())
def test_join_of_a_prefix_is_a_prefix(layout: TokenLayout) -> None:
    codes, bins = random_clip(layout)
    part = layout.join(codes[:, : layout.context_frames], bins)
    assert part.shape[1] == layout.prompt_length
    assert torch.equal(part, layout.join(codes, bins)[:, : layout.prompt_length])


@settings(max_examples=20)
@given(layouts())
def test_every_id_stands_where_its_kind_may(layout: TokenLayout) -> None:
    ids = layout.join(*random_clip(layout))
    allowed = layout.allowed_ids()
    assert allowed[layout.kinds, ids].all()
    assert allowed.sum(0).max() == 1, "no id may stand at two kinds of position"
    assert not allowed[:, layout.pad_id].any()


@settings(max_examples=20)
@given(layouts())
def test_masks_share_out_what_a_rollout_writes(layout: TokenLayout) -> None:
    action, frame = layout.action_mask(), layout.frame_mask()
    written = torch.arange(layout.length) >= layout.prompt_length
    assert torch.equal(action | frame, written) and not (action & frame).any()
    assert int(action.sum()) == (layout.num_frames - layout.context_frames) * layout.num_dims
    assert torch.equal(layout.action_mask(past_context=False), layout.kinds > 0)
    assert torch.equal(layout.frame_mask(past_context=False), layout.kinds == 0)


@settings(max_examples=20)
@given(layouts())
def test_bins_come_back_from_actions(layout: TokenLayout) -> None:
    bins = torch.arange(layout.num_bins)[:, None].expand(-1, layout.num_dims)
    actions = layout.bins_to_actions(bins)
    assert actions[0].tolist() == list(layout.action_space.low) and actions[-1].tolist() == list(layout.action_space.high)
    assert torch.equal(layout.actions_to_bins(actions), bins)


def test_actions_go_to_the_nearest_bin_and_are_clipped() -> None:
    layout = TokenLayout(3, 1, 2, 10, SPACE, num_bins=5)
    actions = torch.tensor([[-7.0], [-0.76], [-0.74], [0.2], [0.3], [3.0]])
    assert layout.actions_to_bins(actions)[:, 0].tolist() == [0, 0, 1, 2, 3, 4]


@settings(max_examples=20)
@given(layouts())
def test_layout_survives_json(layout: TokenLayout) -> None:
    assert TokenLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


@pytest.mark.parametrize(("wrong", "name"), [({"context_frames": 3}, "context_frames"), ({"num_bins": 1}, "num_bins")])
def test_bad_sizes_are_named(wrong: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TokenLayout(
            **{"num_frames": 3, "context_frames": 1, "tokens_per_frame": 2, "num_codes": 4, "action_space": SPACE, **wrong}
        )


def test_split_refuses_a_prefix() -> None:
    layout = TokenLayout(3, 1, 2, 10, SPACE, num_bins=5)
    with pytest.raises(ValueError, match="8 positions, got 7"):
        layout.split(torch.zeros(1, 7, dtype=torch.long))
