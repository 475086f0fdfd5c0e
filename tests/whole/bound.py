"""The bound of the specification's section 5 and the draws that go into it, for training (section 6) and evaluation
(section 7)."""

from dataclasses import dataclass

import numpy as np

import networks
import philox
from networks import D
from tape import Var, exp, expm1, log, log_sum_exp, sigmoid, sqrt, square

NATS = D * np.log(2)  # of one bit per dimension
CENTRES = 2 * (np.arange(256) + 0.5) / 256 - 1


@dataclass
class Draws:
    """What one row of a batch meets by chance."""

    t: float
    s: float  # None in continuous time
    eps: np.ndarray
    eps_0: np.ndarray
    latent: np.ndarray  # None for the baseline


def noise_is_sum(c):
    return c.topk_noise_type == "gamma" or c.vdm_type == "mulan_velocity"


def draws(c, seed, step, image, times, block=0):
    """image: the counter's; times: (t, s); block: the repeat of a dense evaluation."""
    latent = None
    if c.vdm_type != "vdm" and noise_is_sum(c):
        latent = philox.gamma(seed, block, image, step, c.latent_size, c.latent_k)
    elif c.vdm_type != "vdm":
        latent = philox.gumbel(seed, block, image, step, c.latent_size)
    return Draws(*times, philox.normal(seed, philox.EPS, block, image, step, D), philox.normal(seed, philox.EPS_0, block, image, step, D),
                 latent)


def training_draws(c, step):
    """Of a batch: an image's index is its place in the batch."""
    m = c.batch_size_train
    return [draws(c, c.seed, step, i, philox.time(c.seed, step, i, m, independent=not c.antithetic_time_sampling,
                                                  n_timesteps=c.sm_n_timesteps)) for i in range(m)]


def sparse_draws(c, seed, image, n_images):
    times = philox.time(seed, 0, image, n_images, independent=not c.antithetic_time_sampling, n_timesteps=c.sm_n_timesteps)
    return draws(c, seed, 0, image, times)


def dense_draws(c, seed, image, repeat, n_repeats):
    times = philox.time(seed, 0, repeat, n_repeats, block=1, image=image, n_timesteps=c.sm_n_timesteps)
    return draws(c, seed, 0, image, times, repeat)


def dropout_masks(c, step):
    """{block: multipliers [m, 32, 32, n]} of a training step, or None without dropout."""
    if not c.sm_pdrop:
        return None
    shape = (32, 32, c.sm_n_embd)
    return {name: np.stack([philox.dropout(c.seed, number, i, step, shape, c.sm_pdrop) for i in range(c.batch_size_train)])
            for number, name in enumerate(networks.residual_blocks(c))}


def reconstruction(x, f, eps_0, gamma_0):
    """-log p(x | z_0) [m]: a softmax over the 256 bin centres."""
    z = exp(gamma_0 * 0.5) * eps_0 + f
    precision = exp(-gamma_0) * -0.5
    scores = square(z.reshape(*f.shape, 1) - CENTRES) * precision.reshape(*gamma_0.shape, 1)
    return (log_sum_exp(scores) - square(z - CENTRES[x]) * precision).sum(-1)


def prior(f, gamma_1):
    var = sigmoid(gamma_1) * np.ones(f.shape)
    return ((1 - var) * f**2 + var - log(var) - 1).sum(-1) * 0.5


def diffusion(c, f, eps, z, net, gamma, slope, gamma_s):
    if c.vdm_type == "mulan_velocity":
        var = sigmoid(gamma)
        v = sqrt(1 - var) * eps - sqrt(var) * f
        v_hat = net
        if c.velocity_from_epsilon:
            v_hat = sqrt(exp(gamma) + 1) * net - exp(gamma * 0.5) * z
        return ((1 - var) * slope * square(v - v_hat)).sum(-1) * 0.5
    if c.sm_n_timesteps:
        slope = expm1(gamma - gamma_s) * c.sm_n_timesteps
    return (slope * square(eps - net)).sum(-1) * 0.5


def bound(p, c, x, rows, masks=None, offset=None, label=None):
    """The parts of the bound of images x [m, 3072] (0..255) with draws rows [m], in nats: {"recon", "latent", "diff": Var [m]},
    and the means of var_0 and var_1 [m]. p: {name: Var}. offset: see networks.latent. label [m]: 1 for
    images that the model is told are mirrored."""
    m = len(x)
    label = np.zeros(m) if label is None else label
    f = 2 * (x + 0.5) / 256 - 1
    eps, eps_0 = np.stack([r.eps for r in rows]), np.stack([r.eps_0 for r in rows])
    e, kl = None, Var(np.zeros(m))
    if networks.has_encoder(c):
        noise = networks.top_k_noise(c, np.stack([r.latent for r in rows]))
        e, kl, offset = networks.latent(c, networks.encoder(p, c, Var(f.reshape(m, 32, 32, 3)), masks), noise, offset)
    elif c.vdm_type != "vdm":
        e = Var(networks.label_latent(c, label))
    at = networks.schedule(p, c, e, m)
    (gamma_0, _), (gamma_1, _) = at(np.zeros((m, 1))), at(np.ones((m, 1)))
    gamma, slope = at(np.array([[r.t] for r in rows]))
    gamma_s = at(np.array([[r.s] for r in rows]))[0] if c.sm_n_timesteps else None
    z = sqrt(sigmoid(-gamma)) * f + sqrt(sigmoid(gamma)) * eps
    net = networks.score_network(p, c, z.reshape(m, 32, 32, 3), gamma.mean(-1, keepdims=True), networks.network_context(c, e, label),
                                 masks).reshape(m, D)
    return {"recon": reconstruction(x, f, eps_0, gamma_0), "latent": prior(f, gamma_1) + kl,
            "diff": diffusion(c, f, eps, z, net, gamma, slope, gamma_s),
            "var0": sigmoid(gamma_0).mean(-1), "var1": sigmoid(gamma_1).mean(-1), "offset": offset}


def bits(parts):
    """Per image and part, in bits per dimension: [m, 4], bpd first."""
    three = np.stack([parts[name].value / NATS for name in ("recon", "latent", "diff")], axis=-1)
    return np.concatenate([three.sum(-1, keepdims=True), three], axis=-1)


def loss(parts):
    """Mean bits per dimension, what training minimises."""
    return (parts["recon"] + parts["latent"] + parts["diff"]).mean() / NATS
