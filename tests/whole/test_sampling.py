"""Samples to the pixel. The sampler's z is float32: each of 3 steps adds roundings of 2^-24 of values up to some 8, and those of a
network (1e-6 of its output), divided by alpha at the first step (7 where gamma is 4). A Fourier feature would multiply them by
2^7 2 pi in each step, so these models have learned to weigh them by FOURIER. z_0 is then known to 2e-4: EDGE, in the 256 values of
a pixel. A pixel must be the computed one, but where the float64 value
is that near to the edge between two; then it may be the neighbour. Few are: at most 1 in 100, checked, too."""

import numpy as np
import pytest

import files
import program
import sampling

EDGE = 0.03  # of a pixel value: 128 * 2e-4, rounded up
FOURIER = 0.01

CASES = {
    "epsilon": {"sampling__latent": "fixed"},
    "velocity_poly": {"vdm_type": "mulan_velocity", "model__gamma_type": "poly_fixedend", "sampling__weights": "params"},
    "velocity_from_epsilon": {"vdm_type": "mulan_velocity", "model__velocity_from_epsilon": True, "model__sigma_prior": 0.5},
    "label": {"model__reparam_type": "label", "model__gamma_type": "learnable_nnet"},
    "softmax": {"model__sample_softmax": True, "model__gamma_min": -7.0, "model__with_fourier_features": False},
    "vdm": {"vdm_type": "vdm", "model__gamma_type": "learnable_scalar", "model__sigma_prior": 2.0, "model__sm_pdrop": 0.5},
    "vdm_softmax": {"vdm_type": "vdm", "model__gamma_type": "fixed", "model__sample_softmax": True, "model__gamma_min": -6.0,
                    "model__with_fourier_features": False}}


def check_pixels(c, got, params, fixed):
    z, gamma_0 = sampling.final_z(c, params, fixed)
    expected = sampling.pixels(c, z, gamma_0)
    width = 2 / 256
    nearby = [sampling.pixels(c, z + sign * EDGE * width, gamma_0) for sign in (-1, 1)]
    wrong = (got != expected) & (got != nearby[0]) & (got != nearby[1])
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} pixels, first {got[wrong][:8]} instead of {expected[wrong][:8]}"
    assert (got != expected).mean() <= 0.01
    assert 0.02 < np.mean((got > 0) & (got < 255))  # not all at an end, where everything is equal


@pytest.mark.parametrize("name", CASES)
def test_samples(data, folder, name):
    c = program.config(sampling__n_images=3, sampling__n_steps=3, training__batch_size_eval=2, **CASES[name])
    given = program.trained(folder / "given.safetensors", c, 1, 9, fourier=FOURIER)
    run = program.Run(folder / "run", "sample", c, data, given)
    got = files.grid_images(files.read_png(run.path("samples-step-9.png")), 3)
    check_pixels(c, got, files.Checkpoint(given).section(c["sampling.weights"]), c["sampling.latent"] == "fixed")
    assert run.artifacts("image") == [9] and run.result["images"] == 3


def test_samples_while_training(data, folder):
    """With the fixed latent whatever the configuration says, by the average."""
    c = program.config(training__num_steps_train=6, training__steps_per_eval=1, sampling__n_images=2, sampling__n_steps=2)
    run = program.Run(folder, "train", c, data, program.trained(folder / "given.safetensors", c, 1, 5, fourier=FOURIER))
    got = files.grid_images(files.read_png(run.path("samples-step-6.png")), 2)
    check_pixels(c, got, run.checkpoint(6).section("ema"), True)
