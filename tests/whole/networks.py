"""The networks of the specification's sections 1 to 3, from its formulas, on tape.Var. Parameters are one dict by published
name; images and activations NHWC."""

import numpy as np

import philox
from tape import Var, absolute, concatenate, conv3x3, cos, log_sum_exp, sigmoid, sin, softmax, softplus, sqrt, square, swish

D = 3072


# ---- what parameters there are, in the order in which their initial values are numbered

def _dense(name, n_in, n_out, bias=True):
    yield f"{name}/kernel", (n_in, n_out)
    if bias:
        yield f"{name}/bias", (n_out,)


def _conv(name, n_in, n_out):
    yield f"{name}/kernel", (3, 3, n_in, n_out)
    yield f"{name}/bias", (n_out,)


def _norm(name, n):
    yield f"{name}/scale", (n,)
    yield f"{name}/bias", (n,)


def _residual(name, n_in, n_out, n_embd):
    yield from _norm(f"{name}/GroupNorm_0", n_in)
    yield from _conv(f"{name}/conv1", n_in, n_out)
    yield from _dense(f"{name}/cond_proj", 4 * n_embd, n_out, bias=False)
    yield from _norm(f"{name}/GroupNorm_1", n_out)
    yield from _conv(f"{name}/conv2", n_out, n_out)
    if n_in != n_out:
        yield from _dense(f"{name}/nin_shortcut", n_in, n_out)


def _attention(name, n):
    yield from _norm(f"{name}/GroupNorm_0", n)
    for leaf in ("q", "k", "v", "proj_out"):
        yield from _dense(f"{name}/{leaf}", n, n)


def _unet(c, net, n_layer, context, way_up, n_out):
    n = c.sm_n_embd
    yield from _dense(f"{net}/dense0", n + context, 4 * n)
    yield from _dense(f"{net}/dense1", 4 * n, 4 * n)
    yield from _conv(f"{net}/conv_in", 15 if c.with_fourier_features else 3, n)
    for i in range(n_layer):
        yield from _residual(f"{net}/down.block_{i}", n, n, n)
        if c.with_attention:
            yield from _attention(f"{net}/down.attn_{i}", n)
    yield from _residual(f"{net}/mid.block_1", n, n, n)
    yield from _attention(f"{net}/mid.attn_1", n)
    yield from _residual(f"{net}/mid.block_2", n, n, n)
    for i in range(n_layer + 1 if way_up else 0):
        yield from _residual(f"{net}/up.block_{i}", 2 * n, n, n)
        if c.with_attention:
            yield from _attention(f"{net}/up.attn_{i}", n)
    yield from _norm(f"{net}/GroupNorm_0", n)
    yield from _conv(f"{net}/conv_out", n, n_out)


def _schedule(c):
    k, baseline = c.latent_size, c.vdm_type == "vdm"
    if c.gamma_type == "learnable_scalar":
        yield "gamma/w", (1,)
        yield "gamma/b", (1,)
    elif c.gamma_type == "learnable_nnet":
        width = 1024 if baseline else D
        yield from _dense("gamma/l1", 1, 1)
        yield from _dense("gamma/l2", 1 if baseline else k + 1, width)
        if not baseline:
            yield from _dense("gamma/l_int", D, D)
        yield from _dense("gamma/l3", width, 1 if baseline else D, bias=False)
    elif c.gamma_type == "poly_fixedend":
        yield from _dense("gamma/dense_1", k, D)
        for leaf in ("dense_2", "dense_out_a", "dense_out_b", "dense_out_c"):
            yield from _dense(f"gamma/{leaf}", D, D)


def has_encoder(c):
    return c.vdm_type != "vdm" and c.reparam_type == "true"


def shapes(c):
    """{name: shape} of every parameter, in order."""
    baseline = c.vdm_type == "vdm"
    out = dict(_unet(c, "score_model", c.sm_n_layer, 1 if baseline or not c.z_conditioning else c.latent_size, True, 3))
    if has_encoder(c):
        out.update(_unet(c, "encoder_model", c.forward_n_layer, 1, False, 1))
        out.update(_dense("encoder_model/dense_layer_final", 1024, c.latent_size))
    out.update(_schedule(c))
    return out


def residual_blocks(c):
    """Names in the order in which dropout numbers them: the score network's, then the encoder's."""
    out = []
    for net, n_layer, way_up in (("score_model", c.sm_n_layer, True), ("encoder_model", c.forward_n_layer, False)):
        if net == "encoder_model" and not has_encoder(c):
            continue
        out += [f"{net}/down.block_{i}" for i in range(n_layer)] + [f"{net}/mid.block_1", f"{net}/mid.block_2"]
        out += [f"{net}/up.block_{i}" for i in range(n_layer + 1 if way_up else 0)]
    return out


def initial(c, seed, name, shape, number, elements):
    """Initial values (spec 6) of these elements of a parameter, which is the number-th."""
    leaf = name.rsplit("/", 1)[-1]
    if name in ("gamma/l1/kernel", "gamma/w"):
        return np.full(len(elements), c.gamma_max - c.gamma_min)
    if name in ("gamma/l1/bias", "gamma/b"):
        return np.full(len(elements), c.gamma_min)
    if name in ("gamma/l2/kernel", "gamma/l_int/kernel", "gamma/l3/kernel"):
        return 0.01 * philox.plain_normal(seed, number, elements)
    if leaf != "kernel" or name.split("/")[-2] in ("conv2", "cond_proj", "proj_out", "conv_out", "dense_out_a"):
        return np.full(len(elements), float(leaf == "scale"))
    fan_in = int(np.prod(shape[:-1]))
    return philox.truncated_normal(seed, number, elements) / np.sqrt(fan_in) / 0.87962566103423978


# ---- layers

def dense(p, name, x):
    y = x @ p[name + "/kernel"] if isinstance(x, Var) else Var(x) @ p[name + "/kernel"]
    return y + p[name + "/bias"] if name + "/bias" in p else y


def convolution(p, name, x):
    return conv3x3(x, p[name + "/kernel"]) + p[name + "/bias"]


def group_norm(p, name, x):
    m, height, width, c = x.shape
    g = x.reshape(m, height * width, 32, c // 32)
    mean = g.mean((1, 3), keepdims=True)
    variance = square(g).mean((1, 3), keepdims=True) - square(mean)
    y = ((g - mean) / sqrt(variance + 1e-6)).reshape(x.shape)
    return y * p[name + "/scale"] + p[name + "/bias"]


def residual_block(p, name, x, cond, masks):
    h = convolution(p, name + "/conv1", swish(group_norm(p, name + "/GroupNorm_0", x)))
    h = h + dense(p, name + "/cond_proj", cond).reshape(x.shape[0], 1, 1, -1)
    h = swish(group_norm(p, name + "/GroupNorm_1", h))
    if masks:
        h = h * masks[name]
    h = convolution(p, name + "/conv2", h)
    return h + (dense(p, name + "/nin_shortcut", x) if name + "/nin_shortcut/kernel" in p else x)


def attention_block(p, name, x):
    m, height, width, c = x.shape
    n = group_norm(p, name + "/GroupNorm_0", x).reshape(m, height * width, c)
    q, k, v = (dense(p, f"{name}/{leaf}", n) for leaf in "qkv")
    scores = softmax(q @ k.transpose() * c**-0.5)
    return x + dense(p, name + "/proj_out", scores @ v).reshape(x.shape)


def time_embedding(t, n):
    """t [m, 1] -> [m, n]"""
    argument = t * (1000 * np.exp(-np.arange(n // 2) * np.log(10000) / (n // 2 - 1)))
    return concatenate([sin(argument), cos(argument)])


def fourier_features(z):
    argument = concatenate([z[..., c:c + 1] * (2 * np.pi * 2.0**k) for c in range(3) for k in (6, 7)])
    return concatenate([sin(argument), cos(argument)])


def trunk(p, c, net, n_layer, z, t, context, masks):
    """Returns the middle's output, the outputs kept for the way up, and the condition."""
    cond = concatenate([time_embedding(t, c.sm_n_embd), context])
    cond = swish(dense(p, net + "/dense1", swish(dense(p, net + "/dense0", cond))))
    hs = [convolution(p, net + "/conv_in", concatenate([z, fourier_features(z)]) if c.with_fourier_features else z)]
    for i in range(n_layer):
        h = residual_block(p, f"{net}/down.block_{i}", hs[-1], cond, masks)
        hs.append(attention_block(p, f"{net}/down.attn_{i}", h) if c.with_attention else h)
    h = residual_block(p, f"{net}/mid.block_1", hs[-1], cond, masks)
    h = attention_block(p, f"{net}/mid.attn_1", h)
    return residual_block(p, f"{net}/mid.block_2", h, cond, masks), hs, cond


def score_network(p, c, z, g, e, masks=None):
    """z [m, 32, 32, 3], g [m, 1]: the schedule's gamma averaged over an image, e [m, k] -> [m, 32, 32, 3]"""
    net = "score_model"
    t = (g - c.gamma_min) / (c.gamma_max - c.gamma_min)
    h, hs, cond = trunk(p, c, net, c.sm_n_layer, z, t, e, masks)
    for i in range(c.sm_n_layer + 1):
        h = residual_block(p, f"{net}/up.block_{i}", concatenate([h, hs.pop()]), cond, masks)
        if c.with_attention:
            h = attention_block(p, f"{net}/up.attn_{i}", h)
    return convolution(p, net + "/conv_out", swish(group_norm(p, net + "/GroupNorm_0", h))) + z


def encoder(p, c, f, masks=None):
    """f [m, 32, 32, 3] -> logits [m, latent_size]"""
    net, m = "encoder_model", f.shape[0]
    h, _, _ = trunk(p, c, net, c.forward_n_layer, f, Var(np.zeros((m, 1))), np.zeros((m, 1)), masks)
    h = convolution(p, net + "/conv_out", swish(group_norm(p, net + "/GroupNorm_0", h)))
    return dense(p, net + "/dense_layer_final", swish(h.reshape(m, 1024)))


def hard_top_k(y, k):
    """1 where a value is at least the k-th largest of its row."""
    return (y >= np.sort(y, axis=-1)[:, -k, None]).astype(np.float64)


def latent(c, logits, noise, offset=None):
    """e, straight through, and its KL [m]. offset: hard - soft, which gradients do not see, held fixed; its value at logits
    unless given. Returns it, too."""
    y = logits + noise
    y = y - y.mean(-1, keepdims=True)
    soft = y / sqrt(square(y).sum(-1, keepdims=True))
    if offset is None:
        offset = hard_top_k(y.value, c.latent_k) - soft.value
    log_q = logits - log_sum_exp(logits).reshape(-1, 1)
    kl = (softmax(logits) * (log_q + np.log(c.latent_size))).sum(-1)
    return soft + offset, kl, offset


def top_k_noise(c, draws):
    """Of gamma variates [m, 10, n], or of gumbel ones [m, n] as they are."""
    if draws.ndim == 2:
        return draws
    weighted = (draws * np.arange(1, 11)[:, None] / c.latent_k).sum(1)
    return 10 * (weighted - np.log(10)) / c.latent_k


# ---- schedules (spec 4): functions from t [m, 1] to gamma and gamma' [m, 3072] ([m, 1] for the baseline)

def poly_fixedend(p, c, e):
    h = swish(dense(p, "gamma/dense_2", swish(dense(p, "gamma/dense_1", e))))
    a, b, r = (dense(p, f"gamma/dense_out_{leaf}", h) for leaf in "abc")
    r = softplus(r) + 1e-3
    span = c.gamma_max - c.gamma_min

    def polynomial(t):
        return (square(a) * (t**5 / 5) + a * b * (t**4 / 2) + (square(b) + a * r * 2) * (t**3 / 3) + b * r * t**2 + square(r) * t)

    whole = polynomial(1.0)
    return lambda t: (polynomial(t) / whole * span + c.gamma_min, square(a * t**2 + b * t + r) / whole * span)


def learnable_nnet(p, c, e):
    """Beside each value goes its derivative in t."""
    kernel = {leaf: absolute(p[f"gamma/{leaf}/kernel"]) for leaf in ("l1", "l2", "l_int", "l3") if f"gamma/{leaf}/kernel" in p}
    baseline = e is None

    def squash(x, slope):
        u = (sigmoid(x) - 0.5) * 2
        return u, (1 - square(u)) * slope * 0.5

    def evaluate(t):
        x = Var(2 * (t - 0.5)) if baseline else concatenate([(e - 0.5) * 2, 2 * (t - 0.5)])
        last = Var(np.eye(x.shape[1])[-1:] * 2) @ kernel["l2"]
        u, slope = squash(x @ kernel["l2"] + p["gamma/l2/bias"], last)
        if not baseline:
            u, slope = squash(u @ kernel["l_int"] + p["gamma/l_int/bias"], slope @ kernel["l_int"])
        width = u.shape[1]
        gamma = kernel["l1"] * t + p["gamma/l1/bias"] + u @ kernel["l3"] / width
        return gamma, kernel["l1"] + slope @ kernel["l3"] / width
    return evaluate


def straight(c, p, m, d):
    """linear and fixed; learnable_scalar."""
    learned = "gamma/w" in p
    w = absolute(p["gamma/w"]) if learned else Var([c.gamma_max - c.gamma_min])
    b = p["gamma/b"] if learned else Var([c.gamma_min])
    ones = np.ones((m, d))
    return lambda t: (w * (t * ones) + b, w * ones)


def schedule(p, c, e, m):
    """e [m, k], or None for the baseline."""
    if c.gamma_type == "poly_fixedend":
        return poly_fixedend(p, c, e)
    if c.gamma_type == "learnable_nnet":
        return learnable_nnet(p, c, e)
    return straight(c, p, m, 1 if c.vdm_type == "vdm" else D)


def label_latent(c, label):
    """One-hot [m, latent_size]."""
    return np.eye(c.latent_size)[label.astype(int)]


def network_context(c, e, label):
    """What the score network sees of the latent: without one or without z_conditioning the label [m]."""
    return label[:, None] if c.vdm_type == "vdm" or not c.z_conditioning else e
