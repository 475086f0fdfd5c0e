"""A run of mulun-worker, update by update: from the images' bytes, the seed and the checkpoint before to the checkpoint after and the
scalars, against the computation in float64.

Each update starts from what the program wrote before it, so that errors do not grow from one to the next and the tolerances
can be those of one float32 pass:

* GRADIENT: the norm of a tensor's error. A value passes some 15 layers, each with sums of up to 1,152 products; roundings of 2^-24
  that add up like a random walk make sqrt(15 * 1152) of them, 8e-6, and what cancels in a backward pass takes a few times that.
  Measured on eleven updates of ten configurations: medians 2e-6 to 3e-6, largest 2.5e-5. A bias may cancel nearly whole (an attention's keys': to zero), so its error is
  measured against a tenth of its layer's largest leaf.
* MONOTONE_GRADIENT: where the schedule is a monotone net or scalar, gamma is a plain float32 (the README of engine: pairs are
  poly_fixedend's); near 10 it is rounded to 2^-21, which a Fourier feature's argument sees 2^7 2 pi / 2 times, 2e-4. Half of that, for the
  schedule's own leaves, some of which are a single number.
* A moment, a weight, an average is a few float32 operations away from the values that the checkpoints hold: ROUNDINGS of
  2^-24 of the largest operand, value by value.
* SCALAR: sums of 12,288 float32 terms that do not cancel."""

import numpy as np
import pytest

import bound
import files
import networks
import program
import tape
import training
from conftest import N_TRAIN

GRADIENT = 3e-5
MONOTONE_GRADIENT = 1e-4
ROUNDINGS = 8 * 2.0**-24
SCALAR = 2e-6
FIRST = 5  # updates before the checkpoint from which most cases start: its batch is the last of the epoch and the first of the next

MICRO_BATCHES = [1, 2, 4] if program.knows("training.n_micro_batches") else [1]


def close(got, expected, allowed, what):
    error = np.abs(got - expected) - allowed
    assert error.max() <= 0, f"{what}: {(error > 0).sum()} of {got.size}, off by {np.abs(got - expected).max():.2e}"


def layer_sizes(g):
    """{layer: the norm of its largest leaf's gradient}"""
    sizes = {}
    for name, value in g.items():
        layer = name.rsplit("/", 1)[0]
        sizes[layer] = max(sizes.get(layer, 0), np.linalg.norm(value))
    return sizes


def check_update(c, before, after, images, step):
    """One update, all of it. Returns the step's scalars."""
    assert before.step == step and after.step == step + 1
    scalars, g = training.loss_and_gradients(c, before.section("params"), images, step)
    factor, sizes, b1, b2 = training.clip_factor(c, g), layer_sizes(g), c.b1, c.b2
    assert list(after.shapes("params")) == list(g)
    for name in list(g):
        gradient = factor * g.pop(name)
        (m_0, m), (v_0, v), (w_0, w), (ema_0, ema) = ([x.tensor(s, name) for x in (before, after)] for s in ("m", "v", "params", "ema"))
        norm = max(np.linalg.norm(gradient), 0.1 * factor * sizes[name.rsplit("/", 1)[0]])
        error = np.linalg.norm((m - b1 * m_0) / (1 - b1) - gradient)
        allowed = MONOTONE_GRADIENT if name.startswith(("gamma/l", "gamma/w", "gamma/b")) else GRADIENT
        assert error <= allowed * norm + ROUNDINGS * np.linalg.norm(m_0), f"{name}: gradient off by {error / norm:.1e}"
        # the square, of what the first moment says of the gradient: so this is value by value, too
        square = ((m - b1 * m_0) / (1 - b1))**2
        doubt = 2 * np.abs(m - b1 * m_0) * (np.abs(m) + np.abs(m_0)) / (1 - b1)**2
        close(v, b2 * v_0 + (1 - b2) * square, ROUNDINGS * (v + v_0 + (1 - b2) * doubt) + 2.0**-125, f"{name}: second moment")
        expected = training.updated(c, step, name, w_0, m, v)
        close(w, expected, ROUNDINGS * (np.abs(w_0) / 8 + np.abs(expected - w_0)) + 2.0**-126, f"{name}: weights")
        close(ema, ema_0 + (1 - c.ema_rate) * (w - ema_0), ROUNDINGS / 2 * (np.abs(ema_0) + np.abs(w)) + 2.0**-126, f"{name}: average")
    return scalars


def check_scalars(c, seen, windows):
    """windows: {step that the point carries: the scalars of the updates of its window}"""
    for name in ("bpd", "bpd_recon", "bpd_latent", "bpd_diff", "var0", "var1"):
        assert [s for s, _ in seen[f"train/{name}"]] == list(windows)
        for step, value in seen[f"train/{name}"]:
            expected = np.mean([x[name] for x in windows[step]])
            assert value == pytest.approx(expected, rel=SCALAR), f"train/{name} at {step}"
    assert seen["train/learning_rate"] == [(s, pytest.approx(training.learning_rate(c, s), rel=1e-12)) for s in windows]


def batch(c, step):
    return training.mirrored(c, program.photographs(N_TRAIN, "train")[training.batch_indices(c, N_TRAIN, step)], step)


CASES = {
    "flip": {"data__flip": True, "vdm_type": "vdm", "model__gamma_type": "fixed", "training__batch_size_train": 8},
    "flag": {"data__flip": True, "data__flip_flag": True, "vdm_type": "vdm", "model__gamma_type": "fixed", "training__batch_size_train": 8},
    "label": {"data__flip": True, "data__flip_flag": True, "model__reparam_type": "label"},
    "label_alone": {"model__reparam_type": "label", "vdm_type": "mulan_velocity", "model__gamma_type": "poly_fixedend", "model__z_conditioning": False},
    "epsilon": {"model__sm_pdrop": 0.3, "optimizer__lr_decay": True, "training__num_steps_lr_warmup": 2},
    "velocity_from_epsilon": {"vdm_type": "mulan_velocity", "model__velocity_from_epsilon": True, "model__topk_noise_type": "gumbel",
                              "model__z_conditioning": False},
    "nnet": {"model__gamma_type": "learnable_nnet", "training__batch_size_train": 3},
    "discrete": {"model__sm_n_timesteps": 7, "model__topk_noise_type": "gumbel", "model__with_fourier_features": False},
    "attention": {"model__with_attention": True, "training__batch_size_train": 2, "model__antithetic_time_sampling": False,
                  "training__seed": 4294967295},
    "two_layers": {"model__sm_n_layer": 2, "model__forward_n_layer": 2, "model__sm_pdrop": 0.1, "training__batch_size_train": 2,
                   "training__num_steps_lr_warmup": 0},
    "clipped": {"optimizer__gradient_clip_norm": 0.01, "vdm_type": "vdm", "model__gamma_type": "learnable_scalar"},
    "clip_out_of_reach": {"optimizer__gradient_clip_norm": 1e6, "vdm_type": "vdm", "model__gamma_type": "fixed", "optimizer__b1": 0.5,
                          "optimizer__weight_decay": 0.5, "optimizer__eps": 1e-3, "model__sm_n_timesteps": 3, "model__sm_pdrop": 0.5},
    "vdm_nnet": {"vdm_type": "vdm", "model__gamma_type": "learnable_nnet", "model__antithetic_time_sampling": False}}


@pytest.mark.parametrize("name", CASES)
def test_updates(data, folder, name):
    n = 2 if name in ("epsilon", "clip_out_of_reach") else 1
    c = program.config(training__num_steps_train=FIRST + n, training__steps_per_logging=1, **CASES[name])
    run = program.Run(folder, "train", c, data, program.trained(folder / "given.safetensors", c, 1, FIRST))
    before, windows = files.Checkpoint(folder / "given.safetensors"), {}
    for step in range(FIRST, FIRST + n):
        after = run.checkpoint(step + 1)
        windows[step] = [check_update(c, before, after, batch(c, step), step)]
        before = after
    check_scalars(c, run.scalars(), windows)


@pytest.mark.parametrize("n_micro_batches", MICRO_BATCHES)
def test_a_resumed_run_of_the_published_kind(data, folder, n_micro_batches):
    """mulan_velocity with poly_fixedend and dropout, across the end of an epoch, in two attempts, the first of which begins in
    the middle of a log window and the second in another."""
    more = {} if n_micro_batches == 1 else {"training__n_micro_batches": n_micro_batches}
    c = program.config(vdm_type="mulan_velocity", model__gamma_type="poly_fixedend", model__sm_pdrop=0.1, training__num_steps_train=7, **more)
    bpd = [0.5, 0.25, 4.0, 0.125, 0.75]  # of the update before, in the window that is open: recon, latent, diff, var0, var1
    given = program.trained(folder / "given.safetensors", c, 1, FIRST, (1, bpd))
    first = program.Run(folder / "first", "train", c, data, given)
    longer = program.config(**{**c, "training.num_steps_train": 8})
    second = program.Run(folder / "second", "train", longer, data, first.path("step-7.safetensors"))
    seen = []
    for before, after, step in ((files.Checkpoint(given), first.checkpoint(6), 5), (first.checkpoint(6), first.checkpoint(7), 6),
                                (files.Checkpoint(first.path("step-7.safetensors")), second.checkpoint(8), 7)):
        seen.append(check_update(c, before, after, batch(c, step), step))
    earlier = dict(zip(("bpd_recon", "bpd_latent", "bpd_diff", "var0", "var1"), bpd), bpd=sum(bpd[:3]))
    check_scalars(c, first.scalars(), {5: [earlier, seen[0]], 7: [seen[1]]})  # the window that is open at the end stands at it
    check_scalars(longer, second.scalars(), {7: seen[1:]})
    assert first.artifacts("checkpoint") == [6, 7] and second.artifacts("checkpoint") == [8]


def sampled(n):
    """Up to 20,000 elements, the first and the last among them."""
    return np.unique(np.concatenate([np.arange(min(n, 5000)), np.linspace(0, n - 1, min(n, 15000)).astype(int)]))


@pytest.mark.parametrize("changes", [
    {"vdm_type": "mulan_velocity", "model__gamma_type": "poly_fixedend", "training__num_steps_train": 2},
    {"vdm_type": "vdm", "model__gamma_type": "learnable_nnet", "training__num_steps_train": 3, "model__with_attention": True,
     "optimizer__gradient_clip_norm": 1.0, "model__sm_pdrop": 0.1}], ids=["velocity_poly", "vdm_nnet"])
def test_from_the_seed(folder, changes):
    """A fresh run on all photographs: initial weights, and every update from the first on. The first has a learning rate
    of zero, so the weights after it are the initial ones."""
    c = program.config(training__steps_per_logging=1, training__seed=77, **changes)
    run = program.Run(folder, "train", c, program.PHOTOS)
    first, photographs = run.checkpoint(1), program.photographs(None, "train")
    shapes = networks.shapes(c)
    assert first.shapes("params") == shapes
    for number, (name, shape) in enumerate(shapes.items()):
        at = sampled(int(np.prod(shape)))
        expected = networks.initial(c, c.seed, name, shape, number, at)
        for section in ("params", "ema"):
            close(first.tensor(section, name).reshape(-1)[at], expected, 2.0**-23 * np.abs(expected), name)
    before, windows = Fresh(first), {}
    for step in range(c.num_steps_train):
        after = run.checkpoint(step + 1)
        images = photographs[training.batch_indices(c, len(photographs), step)]
        windows[step] = [check_update(c, before, after, images, step)]
        before = after
    check_scalars(c, run.scalars(), windows)


class Fresh:
    """What a run starts from: the weights of its first checkpoint, whose update changed nothing but the moments."""

    step = 0

    def __init__(self, first):
        self.first = first

    def section(self, section):
        return self.first.section(section)

    def tensor(self, section, name):
        x = self.first.tensor(section, name)
        return x if section in ("params", "ema") else 0 * x


def test_the_slope_of_the_loss_is_its_gradient():
    """The computation itself: along some directions, by central differences, with the hard choice of the latent held as it is."""
    for changes in ({"vdm_type": "mulan_velocity", "model__velocity_from_epsilon": True, "model__sm_pdrop": 0.2},
                    {"vdm_type": "vdm", "model__gamma_type": "learnable_nnet", "model__with_attention": True}):
        c = program.config(training__batch_size_train=1, **changes)
        params = {name: x.astype(np.float64) for name, x in program.some_weights(c, 1).items()}
        x, rows, masks = program.photographs(1, "train"), bound.training_draws(c, 0), bound.dropout_masks(c, 0)

        def loss(p, offset=None):
            parts = bound.bound(p, c, x, rows, masks, offset)
            return bound.loss(parts), parts["offset"]

        p = {name: tape.Var(v) for name, v in params.items()}
        value, offset = loss(p)
        g = tape.gradients(value, p)
        r = np.random.Generator(np.random.PCG64(2))
        for part in ("score_model", "encoder_model", "gamma"):
            names = [name for name in params if name.startswith(part)]
            direction = {name: r.standard_normal(params[name].shape) * 1e-7 / np.sqrt(params[name].size) for name in names}
            ends = [loss({**p, **{name: tape.Var(params[name] + sign * direction[name]) for name in names}}, offset)[0] for sign in (1, -1)]
            slope = sum(np.vdot(g[name], direction[name]) for name in names)
            assert float(ends[0].value - ends[1].value) == pytest.approx(2 * slope, rel=1e-4, abs=1e-13), part
