"""A UNet that is told the slice's depth in its down path and the film's readings in its up path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets.diffusion_model_unet import (
    DiffusionModelUNet,
    SpatialTransformer,
    get_timestep_embedding,
    zero_module,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bundle.networks.depth_mixing import DepthMixer
from bundle.networks.extra_tokens import ExtraTokenAttention
from bundle.networks.one_token import OneTokenAttention, replace_cross_attention

DEPTH_SCALE = 1000.0
"""Depth in [0, 1] times this goes into the sinusoid; at 1 neighbouring slices would share one code (zero123.md 2)."""


class TwoPathUNet(DiffusionModelUNet):
    """MONAI's conditional UNet with two more embeddings, each added to time's in one path alone.

    The heads' last layers start at zero, so that a new network equals the UNet without depth and readings.

    Args:
        readings_width: length of the readings' vector.
        depth_scale: what depth in [0, 1] is multiplied with before its sinusoidal code.
        covariates_width: length of the covariates' vector, which enters the up path as the readings do; 0 for none.
        transformer_norm_eps: epsilon of the norms that open the transformers, where it is not `norm_eps`. Published
            checkpoints have 1e-6 there and 1e-5 elsewhere; MONAI's class takes one for all.
        extra_tokens: whether the context may have more tokens than the film's one, see `ExtraTokenAttention`.
        use_checkpoint: compute each block's activations again in the backward pass, to save memory.
        depth_mixing: lets the slices of a volume see each other: arguments of `DepthMixer`, and `levels`, those of
            `channels` that have one (0 is the finest; the lowest alone if not said). None means slices on their own.
        unet: arguments of `DiffusionModelUNet`.

    Source:
        Wang et al., "Feasibility Study of a Diffusion-Based Model for Cross-Modal Generation of Knee MRI from X-ray",
        section on conditioning: depth in the down path, radiographic features in the up path.
    """

    def __init__(
        self,
        *,
        readings_width: int,
        depth_scale: float = DEPTH_SCALE,
        covariates_width: int = 0,
        transformer_norm_eps: float | None = None,
        extra_tokens: bool = False,
        use_checkpoint: bool = False,
        depth_mixing: Mapping[str, Any] | None = None,
        **unet: Any,
    ) -> None:
        super().__init__(**unet)
        self.depth_scale = depth_scale
        self.context_dim: int = unet.get("cross_attention_dim") or 0
        self.extra_tokens = extra_tokens
        self.use_checkpoint = use_checkpoint
        if transformer_norm_eps is not None:
            for module in self.modules():
                if isinstance(module, SpatialTransformer):
                    module.norm.eps = transformer_norm_eps
        replace_cross_attention(self, ExtraTokenAttention if extra_tokens else OneTokenAttention)
        base = self.block_out_channels[0]
        self.depth_head = _head(base, 4 * base)
        self.readings_head = _head(readings_width, 4 * base)
        self.covariates_head = _head(covariates_width, 4 * base) if covariates_width else None
        self.depth_span_mm: float | None = None
        self.slice_batch: int | None = None
        self.mixers = _mixers(self.block_out_channels, **depth_mixing) if depth_mixing is not None else None

    @property
    def readings_width(self) -> int:
        """Length of the readings' vector, by the head that takes it."""
        return _width(self.readings_head)

    @property
    def covariates_width(self) -> int:
        """Length of the covariates' vector, by the head that takes it; 0 without one."""
        return 0 if self.covariates_head is None else _width(self.covariates_head)

    def see_stacks(self, *, span_mm: float, slice_batch: int) -> None:
        """Say what a depth of 1 is in mm, and how many slices a block computes at once where nothing is learnt.

        Blocks between mixers treat slices alone, so that `slice_batch` bounds memory and changes no result.
        """
        self.depth_span_mm, self.slice_batch = span_mm, slice_batch

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        *,
        depth: Tensor | None = None,
        readings: Tensor | None = None,
        covariates: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Predict noise, latent or velocity, as the schedule asks.

        Args:
            x: noised latent beside the film's latent, (N, C, h, w).
            timesteps: (N,), on the schedule's scale.
            context: tokens for cross-attention, (N, tokens, C), the film's first.
            depth: (N,) in [0, 1]; None leaves the down path unconditioned. With `depth_mixing` (V, S), S slices
                of each of V volumes, whose slices follow one another in the N = V * S items.
            readings: (N, readings_width); None leaves the up path unconditioned.
            covariates: (N, covariates_width), as the readings.
            features: what is added to each level's input, of `FilmPyramid`.

        Returns:
            (N, out_channels, h, w).

        Raises:
            ValueError: on further tokens or covariates that the network was not built for, or depths that do not say
                which slices belong together where they must.
        """
        if context is not None and context.shape[1] > 1 and not self.extra_tokens:
            raise ValueError(
                f"`context` must be one token, got {context.shape[1]}; further ones need `extra_tokens`, since in the "
                "softmax of the first they would change what it says."
            )
        positions_mm = self._positions_mm(depth, len(x)) if self.mixers is not None else None
        depth = depth if depth is None else depth.flatten()
        base = self.block_out_channels[0]
        time = self.time_embed(get_timestep_embedding(timesteps, base).to(x.dtype))
        down = up = time
        if depth is not None:
            down = time + self.depth_head(self.depth_code(depth).to(x.dtype))
        if readings is not None:
            up = time + self.readings_head(readings.to(x.dtype))
        if covariates is not None:
            if self.covariates_head is None:
                raise ValueError("`covariates` need a network that was built with `covariates_width`.")
            up = up + self.covariates_head(covariates.to(x.dtype))

        hidden = self.conv_in(x)
        skips = [hidden]
        for level, block in enumerate(self.down_blocks):
            hidden = hidden if features is None else hidden + features[level]
            hidden, outputs = self._run(block, hidden_states=hidden, temb=down, context=context)
            skips.extend(outputs)
        hidden = self._run(self.middle_block, hidden_states=hidden, temb=down, context=context)
        for level, block in zip(reversed(range(len(self.up_blocks))), self.up_blocks, strict=True):
            if positions_mm is not None and self.mixers is not None and str(level) in self.mixers:
                stack = hidden.unflatten(0, tuple(positions_mm.shape))
                hidden = self._run(self.mixers[str(level)], hidden=stack, positions_mm=positions_mm).flatten(0, 1)
            count = len(block.resnets)
            states = {"hidden_states": hidden, "res_hidden_states_list": skips[-count:]}
            hidden = self._run(block, **states, temb=up, context=context)
            skips = skips[:-count]
        return self.out(hidden)

    def depth_code(self, depth: Tensor) -> Tensor:
        """Sinusoidal code of depths (N,) in [0, 1]: (N, width of the first level)."""
        return get_timestep_embedding(depth * self.depth_scale, self.block_out_channels[0])

    def _positions_mm(self, depth: Tensor | None, count: int) -> Tensor:
        if depth is None or depth.ndim != 2 or depth.numel() != count:
            shape = None if depth is None else tuple(depth.shape)
            raise ValueError(
                f"`depth` must have shape (V, S) with V * S = {count} where slices see each other, got {shape}; "
                "the configs' id `window` gives such batches (`bundle.engines.WindowDataset`, `stack_windows`)."
            )
        if self.depth_span_mm is None:
            raise ValueError("a depth of 1 must be known in mm; call `see_stacks`, as FilmToVolume does.")
        return depth * self.depth_span_mm

    def _run(self, block: nn.Module, **arguments: Any) -> Any:
        if self.use_checkpoint and self.training:
            return checkpoint(block, use_reentrant=False, **arguments)
        count = len(arguments.get("hidden_states", ()))
        if self.mixers is None or self.slice_batch is None or count <= self.slice_batch or torch.is_grad_enabled():
            return block(**arguments)
        starts = range(0, count, self.slice_batch)
        parts = [
            block(**{name: _part(value, slice(start, start + self.slice_batch)) for name, value in arguments.items()})
            for start in starts
        ]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        skips = zip(*(outputs for _, outputs in parts), strict=True)
        return torch.cat([hidden for hidden, _ in parts]), [torch.cat(level) for level in skips]


def _part(value: Tensor | list[Tensor] | None, part: slice) -> Any:
    """The part's items of a tensor or of each of several."""
    if isinstance(value, list):
        return [item[part] for item in value]
    return None if value is None else value[part]


def _mixers(channels: Sequence[int], *, levels: Sequence[int] | None = None, **options: Any) -> nn.ModuleDict:
    """A mixer before the up block of each of `levels`, where the resolution is the level's."""
    last = len(channels) - 1
    chosen = [last] if levels is None else list(levels)
    if not chosen or not all(isinstance(level, int) and 0 <= level <= last for level in chosen):
        raise ValueError(f"`levels` of `depth_mixing` must name some of 0 to {last}, got {chosen}.")
    return nn.ModuleDict({str(level): DepthMixer(channels[min(level + 1, last)], **options) for level in chosen})


def _head(width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), zero_module(nn.Linear(embedding, embedding)))


def _width(head: nn.Sequential) -> int:
    first: Any = head[0]
    return int(first.in_features)


def freeze_one_token_attention(unet: nn.Module) -> None:
    """Freeze what has no gradient when the context is one token.

    A softmax over one key is 1 whatever the query, so `norm2` and cross-attention's `to_q` and `to_k` do nothing.
    They stay in the network, since imported weights have them; distributed training stops on unused parameters.
    """
    for name, parameter in unet.named_parameters():
        if "transformer_blocks" in name and any(part in name for part in (".norm2.", ".attn2.to_q.", ".attn2.to_k.")):
            parameter.requires_grad_(False)
