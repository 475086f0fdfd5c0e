"""Section 8: ancestral samples."""

import numpy as np

import networks
import philox
from bound import CENTRES
from networks import D
from tape import Var, value_of


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def latents(c, fixed):
    size, k = c.latent_size, c.latent_k
    if not networks.has_encoder(c):
        return networks.label_latent(c, np.zeros(c.sampling_n_images))
    if fixed:
        return np.tile(np.arange(size) < k, (c.sampling_n_images, 1)).astype(np.float64)
    drawn = np.stack([philox.normal(c.sampling_seed, philox.SAMPLE_LATENT, 0, i, c.sampling_n_steps, size) for i in range(c.sampling_n_images)])
    return networks.hard_top_k(drawn, k)


def noise(c, step):
    return np.stack([philox.normal(c.sampling_seed, philox.SAMPLE, 0, i, step, D) for i in range(c.sampling_n_images)])


def noise_estimate(c, gamma, z, net):
    if c.vdm_type != "mulan_velocity":
        return net
    v_hat = np.sqrt(1 + np.exp(gamma)) * net - np.exp(gamma / 2) * z if c.velocity_from_epsilon else net
    return np.sqrt(sigmoid(-gamma)) * v_hat + np.sqrt(sigmoid(gamma)) * z


def final_z(c, params, fixed):
    """z_0 / sqrt(1 - var_0) and gamma_0, [n_images, 3072]."""
    p, n, steps = {name: Var(value) for name, value in params.items()}, c.sampling_n_images, c.sampling_n_steps
    e = None if c.vdm_type == "vdm" else Var(latents(c, fixed))
    at = networks.schedule(p, c, e, n)
    z = c.sigma_prior * noise(c, steps)
    for step in range(steps, 0, -1):
        gamma_t, gamma_s = (value_of(at(np.full((n, 1), np.float64(np.float32(i / steps))))[0]) for i in (step, step - 1))
        net = networks.score_network(p, c, Var(z.reshape(n, 32, 32, 3)), Var(gamma_t.mean(-1, keepdims=True)),
                                     networks.network_context(c, e, np.zeros(n))).value.reshape(n, D)
        a, b, k = sigmoid(-gamma_s), sigmoid(-gamma_t), -np.expm1(gamma_s - gamma_t)
        eps_hat = noise_estimate(c, gamma_t, z, net)
        z = np.sqrt(a / b) * (z - np.sqrt(sigmoid(gamma_t)) * k * eps_hat) + np.sqrt((1 - a) * k) * noise(c, step - 1)
    return z / np.sqrt(sigmoid(-gamma_s)), np.broadcast_to(gamma_s, z.shape)


def pixels(c, z, gamma_0):
    """The arg max of the decoder's softmax, or a draw: the first bin at which the summed probability passes the uniform."""
    scores = -(z[..., None] - CENTRES)**2 / (2 * np.exp(gamma_0[..., None]))
    if not c.sample_softmax:
        return scores.argmax(-1)
    u = np.stack([philox.pixel_uniforms(c.sampling_seed, i, D) for i in range(len(z))])
    q = np.exp(scores - scores.max(-1, keepdims=True))
    return (np.cumsum(q / q.sum(-1, keepdims=True), -1) > u[..., None]).argmax(-1)
