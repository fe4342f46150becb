"""Made-up checkpoints in the form of latent diffusion's, each with forward passes of its own in plain torch.

Written from the published architecture, not from our networks. A weight comes into being where the forward pass
first asks for it, so that names and shapes are the architecture's.
"""

import math

import torch
from torch.nn import functional as F

HEADS, GROUPS = 8, 32
WIDTH, MULTIPLIERS, BLOCKS, CONTEXT = 32, (1, 2, 2, 2), 2, 24
ATTENTION_LEVELS = (0, 1, 2)
AUTOENCODER_WIDTHS = (32, 64)
TOWER = {"width": 64, "layers": 2, "heads": 4, "patch": 8, "size": 32, "out": 20}


class Weights(dict):
    """Names to tensors; `weights(name, *shape)` makes what is not there yet."""

    def __init__(self, seed):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.prefix = ""

    def __call__(self, name, *shape):
        name = self.prefix + name
        if name not in self:
            fan = math.prod(shape[1:]) or 1
            noise = torch.randn(shape, generator=self.generator)
            self[name] = noise * (1.2 / math.sqrt(fan) if len(shape) > 1 else 0.2)
            if len(shape) == 1 and name.endswith("weight"):
                self[name] += 1
        return self[name]


def norm(w, name, x, eps):
    c = x.shape[1]
    return F.group_norm(x, GROUPS, w(f"{name}.weight", c), w(f"{name}.bias", c), eps)


def conv(w, name, x, out, kernel=3, stride=1, pad=None):
    weight, bias = w(f"{name}.weight", out, x.shape[1], kernel, kernel), w(f"{name}.bias", out)
    return F.conv2d(x, weight, bias, stride=stride, padding=kernel // 2 if pad is None else pad)


def linear(w, name, x, out, bias=True):
    return F.linear(x, w(f"{name}.weight", out, x.shape[-1]), w(f"{name}.bias", out) if bias else None)


def layer_norm(w, name, x):
    c = x.shape[-1]
    return F.layer_norm(x, (c,), w(f"{name}.weight", c), w(f"{name}.bias", c))


def attend(q, k, v, heads):
    def split(t):
        return t.unflatten(-1, (heads, -1)).transpose(1, 2)

    q, k, v = split(q), split(k), split(v)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def time_code(time, width):
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2).float() / (width // 2))
    angle = time[:, None].float() * frequencies
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def unet_residual(w, name, x, emb, out):
    h = conv(w, f"{name}.in_layers.2", F.silu(norm(w, f"{name}.in_layers.0", x, 1e-5)), out)
    h = h + linear(w, f"{name}.emb_layers.1", F.silu(emb), out)[:, :, None, None]
    h = conv(w, f"{name}.out_layers.3", F.silu(norm(w, f"{name}.out_layers.0", h, 1e-5)), out)
    return h + (conv(w, f"{name}.skip_connection", x, out, 1) if x.shape[1] != out else x)


def unet_transformer(w, name, x, context):
    c, (height, width) = x.shape[1], x.shape[2:]
    h = conv(w, f"{name}.proj_in", norm(w, f"{name}.norm", x, 1e-6), c, 1).flatten(2).transpose(1, 2)
    block = f"{name}.transformer_blocks.0"
    for part, source in (("attn1", None), ("attn2", context)):
        y = layer_norm(w, f"{block}.norm{part[-1]}", h)
        other = y if source is None else source
        q, k, v = (
            linear(w, f"{block}.{part}.to_{letter}", t, c, bias=False)
            for letter, t in (("q", y), ("k", other), ("v", other))
        )
        h = h + linear(w, f"{block}.{part}.to_out.0", attend(q, k, v, HEADS), c)
    value, gate = linear(w, f"{block}.ff.net.0.proj", layer_norm(w, f"{block}.norm3", h), 8 * c).chunk(2, dim=-1)
    h = h + linear(w, f"{block}.ff.net.2", value * F.gelu(gate), c)
    h = h.transpose(1, 2).unflatten(2, (height, width))
    return x + conv(w, f"{name}.proj_out", h, c, 1)


def unet(w, x, time, context):
    emb = linear(w, "time_embed.0", time_code(time, WIDTH), 4 * WIDTH)
    emb = linear(w, "time_embed.2", F.silu(emb), 4 * WIDTH)
    h = conv(w, "input_blocks.0.0", x, WIDTH)
    skips, number = [h], 1
    for level, multiplier in enumerate(MULTIPLIERS):
        for _ in range(BLOCKS):
            h = unet_residual(w, f"input_blocks.{number}.0", h, emb, multiplier * WIDTH)
            if level in ATTENTION_LEVELS:
                h = unet_transformer(w, f"input_blocks.{number}.1", h, context)
            skips.append(h)
            number += 1
        if level < len(MULTIPLIERS) - 1:
            h = conv(w, f"input_blocks.{number}.0.op", h, h.shape[1], stride=2)
            skips.append(h)
            number += 1
    h = unet_residual(w, "middle_block.0", h, emb, h.shape[1])
    h = unet_transformer(w, "middle_block.1", h, context)
    h = unet_residual(w, "middle_block.2", h, emb, h.shape[1])
    number = 0
    for level, multiplier in reversed(list(enumerate(MULTIPLIERS))):
        for block in range(BLOCKS + 1):
            h = unet_residual(w, f"output_blocks.{number}.0", torch.cat([h, skips.pop()], 1), emb, multiplier * WIDTH)
            attention = level in ATTENTION_LEVELS
            if attention:
                h = unet_transformer(w, f"output_blocks.{number}.1", h, context)
            if level and block == BLOCKS:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
                h = conv(w, f"output_blocks.{number}.{1 + attention}.conv", h, h.shape[1])
            number += 1
    return conv(w, "out.2", F.silu(norm(w, "out.0", h, 1e-5)), 4)


def residual(w, name, x, out):
    h = conv(w, f"{name}.conv1", F.silu(norm(w, f"{name}.norm1", x, 1e-6)), out)
    h = conv(w, f"{name}.conv2", F.silu(norm(w, f"{name}.norm2", h, 1e-6)), out)
    return h + (conv(w, f"{name}.nin_shortcut", x, out, 1) if x.shape[1] != out else x)


def pixel_attention(w, name, x):
    c, shape = x.shape[1], x.shape[2:]
    h = norm(w, f"{name}.norm", x, 1e-6)
    q, k, v = (conv(w, f"{name}.{letter}", h, c, 1).flatten(2).transpose(1, 2) for letter in "qkv")
    h = attend(q, k, v, 1).transpose(1, 2).unflatten(2, shape)
    return x + conv(w, f"{name}.proj_out", h, c, 1)


def middle(w, name, h):
    h = residual(w, f"{name}.block_1", h, h.shape[1])
    return residual(w, f"{name}.block_2", pixel_attention(w, f"{name}.attn_1", h), h.shape[1])


def moments(w, image):
    h = conv(w, "encoder.conv_in", image, AUTOENCODER_WIDTHS[0])
    for level, width in enumerate(AUTOENCODER_WIDTHS):
        for block in range(BLOCKS):
            h = residual(w, f"encoder.down.{level}.block.{block}", h, width)
        if level < len(AUTOENCODER_WIDTHS) - 1:
            h = conv(w, f"encoder.down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), width, stride=2, pad=0)
    h = middle(w, "encoder.mid", h)
    h = conv(w, "encoder.conv_out", F.silu(norm(w, "encoder.norm_out", h, 1e-6)), 8)
    return conv(w, "quant_conv", h, 8, 1)


def decode(w, latent):
    h = conv(w, "decoder.conv_in", conv(w, "post_quant_conv", latent, 4, 1), AUTOENCODER_WIDTHS[-1])
    h = middle(w, "decoder.mid", h)
    for level, width in reversed(list(enumerate(AUTOENCODER_WIDTHS))):
        for block in range(BLOCKS + 1):
            h = residual(w, f"decoder.up.{level}.block.{block}", h, width)
        if level:
            h = conv(w, f"decoder.up.{level}.upsample.conv", F.interpolate(h, scale_factor=2, mode="nearest"), width)
    return conv(w, "decoder.conv_out", F.silu(norm(w, "decoder.norm_out", h, 1e-6)), 3)


def tower(w, image):
    """CLIP's image tower: (N, 3, 32, 32) to (N, 20)."""
    width, patch, heads = TOWER["width"], TOWER["patch"], TOWER["heads"]
    x = F.conv2d(image, w("conv1.weight", width, 3, patch, patch), stride=patch).flatten(2).transpose(1, 2)
    x = torch.cat([w("class_embedding", width).expand(len(x), 1, width), x], dim=1)
    x = layer_norm(w, "ln_pre", x + w("positional_embedding", (TOWER["size"] // patch) ** 2 + 1, width))
    for layer in range(TOWER["layers"]):
        name = f"transformer.resblocks.{layer}"
        y = layer_norm(w, f"{name}.ln_1", x)
        weight, bias = w(f"{name}.attn.in_proj_weight", 3 * width, width), w(f"{name}.attn.in_proj_bias", 3 * width)
        y = attend(*F.linear(y, weight, bias).chunk(3, dim=-1), heads)
        x = x + linear(w, f"{name}.attn.out_proj", y, width)
        y = linear(w, f"{name}.mlp.c_fc", layer_norm(w, f"{name}.ln_2", x), 4 * width)
        x = x + linear(w, f"{name}.mlp.c_proj", y * torch.sigmoid(1.702 * y), width)
    return layer_norm(w, "ln_post", x[:, 0]) @ w("proj", width, TOWER["out"])


def ddim(predict, noise, steps):
    """Sampling as ldm's code does it, of 1000 square-root-linear betas."""
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    times = list(range(0, 1000, 1000 // steps))
    times = [time + 1 for time in times]
    before = [float(alphas[0])] + [float(alphas[time]) for time in times[:-1]]
    x = noise
    for time, previous in zip(reversed(times), reversed(before), strict=True):
        epsilon, alpha = predict(x, torch.full((len(x),), time)), float(alphas[time])
        clean = (x - math.sqrt(1 - alpha) * epsilon) / math.sqrt(alpha)
        x = math.sqrt(previous) * clean + math.sqrt(1 - previous) * epsilon
    return x


def run(weights, prefix, function, *inputs):
    """`function` with the weights below `prefix`."""
    weights.prefix = prefix
    with torch.no_grad():
        return function(weights, *inputs)


def inputs(seed=7):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (2, 8, 16, 16), "context": (2, 1, CONTEXT), "image": (2, 3, 32, 32), "latent": (2, 4, 16, 16)}
    shapes["embedding"] = (2, TOWER["out"])
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**made, "time": torch.tensor([3.0, 801.0])}


def zero123(seed=0, *, channels=8):
    """State of a Zero-1-to-3 checkpoint (its true prefixes, averages and leftovers) and the stored results.

    Results are of the averages; those of the raw UNet are `unet.raw`.
    """
    given = inputs()
    average, raw = Weights(seed), Weights(seed + 1)
    state, stored = Weights(seed + 2), {}
    x = given["x"][:, :channels]
    stored["unet.x"], stored["unet.time"], stored["unet.context"] = x, given["time"], given["context"]
    stored["unet.output"] = run(average, "model.diffusion_model.", unet, x, given["time"], given["context"])
    stored["unet.raw"] = run(raw, "model.diffusion_model.", unet, x, given["time"], given["context"])
    stored["autoencoder.image"], stored["autoencoder.latent"] = given["image"], given["latent"]
    both = run(state, "first_stage_model.", moments, given["image"])
    stored["autoencoder.mean"], stored["autoencoder.log_variance"] = both[:, :4], both[:, 4:].clamp(-30, 20)
    stored["autoencoder.decoded"] = run(state, "first_stage_model.", decode, given["latent"])
    stored["tower.image"] = given["image"]
    stored["tower.embedding"] = run(state, "cond_stage_model.model.visual.", tower, given["image"])
    pose = torch.tensor([0.0, math.sin(0.0), math.cos(0.0), 0.0]).expand(2, 4)
    stored["projection.embedding"] = given["embedding"]
    both = torch.cat([given["embedding"], pose], dim=1)
    stored["projection.context"] = run(state, "", lambda w, e: linear(w, "cc_projection", e, CONTEXT), both)
    state.update(raw)
    for name, value in average.items():
        state["model_ema." + name.removeprefix("model.").replace(".", "")] = value
    state["model_ema.decay"], state["model_ema.num_updates"] = torch.tensor(0.9999), torch.tensor(105000)
    for name in ("positional_embedding", "text_projection", "token_embedding.weight"):
        state[f"cond_stage_model.model.{name}"] = torch.zeros(4, 4)
    for name in ("logit_scale", "ln_final.weight", "ln_final.bias"):
        state[f"cond_stage_model.model.{name}"] = torch.zeros(4)
    for name in ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "posterior_variance"):
        state[name] = torch.zeros(1000)
    return dict(state), stored
