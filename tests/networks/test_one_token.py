"""Cross-attention to one token: MONAI's result without its attention."""

import pytest
import torch
from monai.networks.blocks import CrossAttentionBlock

from bundle.networks import TwoPathUNet
from bundle.networks.one_token import OneTokenAttention


@pytest.fixture
def pair():
    torch.manual_seed(0)
    block = CrossAttentionBlock(32, 4, context_input_size=24, dim_head=8, use_flash_attention=True)
    return block, OneTokenAttention(block)


def test_one_token_gives_what_monai_s_block_gives_and_asks_no_query(pair):
    block, short = pair
    x, context = torch.randn(3, 20, 32), torch.randn(3, 1, 24)
    asked = []
    short.to_q.register_forward_hook(lambda *_: asked.append(1))
    torch.testing.assert_close(short(x, context), block(x, context), rtol=0, atol=1e-6)
    assert not asked


def test_more_tokens_or_none_go_monai_s_way(pair):
    block, short = pair
    x = torch.randn(3, 20, 32)
    context = torch.randn(3, 5, 24)
    torch.testing.assert_close(short(x, context), block(x, context), rtol=0, atol=0)


def test_a_unet_has_it_everywhere_under_monai_s_names():
    unet = TwoPathUNet(
        readings_width=3,
        spatial_dims=2,
        in_channels=8,
        out_channels=4,
        channels=[16, 32],
        num_res_blocks=1,
        attention_levels=[False, True],
        num_head_channels=8,
        norm_num_groups=8,
        with_conditioning=True,
        cross_attention_dim=24,
    )
    blocks = [module for module in unet.modules() if isinstance(module, CrossAttentionBlock)]
    assert len(blocks) == 4
    assert all(type(block) is OneTokenAttention for block in blocks)
    names = {name.split(".attn2.")[1] for name in unet.state_dict() if ".attn2." in name}
    assert names == {"to_q.weight", "to_k.weight", "to_v.weight", "out_proj.weight", "out_proj.bias"}
