"""Section 6: a step's gradients, AdamW, the learning rate, clipping and the moving average, one step at a time from the state that
a checkpoint holds."""

import numpy as np

import bound
import philox
import tape


def batch_indices(c, count, step):
    m = c.batch_size_train
    return [philox.training_index(count, c.seed, step * m + i) for i in range(m)]


def mirrored(c, images, step):
    """The batch as data.flip has it: [m, 32, 32, 3]-shaped, however they come."""
    if not c.get("data.flip"):
        return images
    out = images.reshape(len(images), 32, 32, -1).copy()
    for i in range(len(out)):
        if philox.is_mirrored(c.seed, i, step):
            out[i] = out[i, :, ::-1]
    return out.reshape(images.shape)


def label(c, step):
    """[m]: 1 where data.flip_flag tells the model of a mirrored image."""
    if not c.get("data.flip_flag"):
        return np.zeros(c.batch_size_train)
    return np.array([float(philox.is_mirrored(c.seed, i, step)) for i in range(c.batch_size_train)])


def learning_rate(c, step):
    """Of the update that has so many before it."""
    w, n = c.num_steps_lr_warmup, c.num_steps_train
    if step < w:
        return c.learning_rate * step / w
    return c.learning_rate * (1 - (step - w) / (n - w)) if c.lr_decay else c.learning_rate


def loss_and_gradients(c, params, images, step):
    """The step's scalars (bpd, its parts, var0, var1) and {name: gradient}."""
    p = {name: tape.Var(value) for name, value in params.items()}
    parts = bound.bound(p, c, images, bound.training_draws(c, step), bound.dropout_masks(c, step), label=label(c, step))
    g = tape.gradients(bound.loss(parts), p)
    bpd, recon, latent, diff = bound.bits(parts).mean(0)
    scalars = {"bpd": bpd, "bpd_recon": recon, "bpd_latent": latent, "bpd_diff": diff,
               "var0": parts["var0"].value.mean(), "var1": parts["var1"].value.mean()}
    return scalars, g


def clip_factor(c, g):
    if c.gradient_clip_norm is None:
        return 1.0
    norm = np.sqrt(sum(np.vdot(x, x) for x in g.values()))
    return c.gradient_clip_norm / norm if norm >= c.gradient_clip_norm else 1.0


def updated(c, step, name, w, m, v):
    """The weights after the update from the moments that it made."""
    m_hat, v_hat = m / (1 - c.b1**(step + 1)), v / (1 - c.b2**(step + 1))
    decay = 0 if name.endswith("/bias") else c.weight_decay
    return w - learning_rate(c, step) * (m_hat / (np.sqrt(v_hat) + c.eps) + decay * w)
