"""Evaluations: every image's bound in the table, the means, the standard error, against loops over images and repeats in float64.

TABLE: an image's bound is a sum of 3,072 float32 terms, each from a network's output that is some 15 layers of roundings away
(1e-6 of it); it does not cancel. 1e-5 of the image's bound in bits, for each part."""

import numpy as np
import pytest

import bound
import files
import program
import tape
from conftest import N_TEST, N_TRAIN

TABLE = 1e-5

CASES = {
    "sparse": {"evaluation__n_images": 7},
    "sparse_weights": {"evaluation__weights": "params", "model__antithetic_time_sampling": False, "model__sm_pdrop": 0.5},
    "sparse_train_poly": {"vdm_type": "mulan_velocity", "model__gamma_type": "poly_fixedend", "evaluation__split": "train",
                          "evaluation__n_images": 3, "evaluation__weights": "params"},
    "label": {"model__reparam_type": "label", "evaluation__n_images": 3},
    "more_than_there_are": {"evaluation__n_images": N_TEST + 1, "vdm_type": "vdm", "model__gamma_type": "fixed"},
    "dense": {"evaluation__method": "dense", "evaluation__n_images": 3, "evaluation__n_timesteps": 3},
    "dense_discrete_gumbel": {"evaluation__method": "dense", "evaluation__n_images": 2, "evaluation__n_timesteps": 5, "model__sm_n_timesteps": 9,
                              "model__topk_noise_type": "gumbel", "evaluation__weights": "params"},
    "dense_vdm": {"evaluation__method": "dense", "vdm_type": "vdm", "model__gamma_type": "learnable_scalar", "evaluation__n_images": 3,
                  "evaluation__n_timesteps": 2, "model__antithetic_time_sampling": False},
    "one_image": {"evaluation__n_images": 1, "vdm_type": "vdm", "model__gamma_type": "fixed"}}


def rows_of(c, image, n_images):
    if c["evaluation.method"] == "dense":
        n = c["evaluation.n_timesteps"]
        return [bound.dense_draws(c, c["evaluation.seed"], image, repeat, n) for repeat in range(n)]
    return [bound.sparse_draws(c, c["evaluation.seed"], image, n_images)]


def expected_table(c, params, images):
    """[n, 4]: bpd, recon, latent, diff; an image after the other."""
    p, out = {name: tape.Var(x) for name, x in params.items()}, []
    for i, x in enumerate(images):
        rows = rows_of(c, i, len(images))
        out.append(bound.bits(bound.bound(p, c, np.tile(x, (len(rows), 1)), rows)).mean(0))
    return np.stack(out)


@pytest.mark.parametrize("name", CASES)
def test_evaluation(data, folder, name):
    c = program.config(**CASES[name])
    given = program.trained(folder / "given.safetensors", c, 1, 9)
    split, all_images = c["evaluation.split"], {"train": N_TRAIN, "test": N_TEST}
    images = program.photographs(min(c["evaluation.n_images"] or all_images[split], all_images[split]), split)
    expected = expected_table(c, files.Checkpoint(given).section(c["evaluation.weights"]), images)
    for attempt, batch in enumerate((4, 3), 1):
        run = program.Run(folder / str(batch), "evaluate", program.config(**{**c, "training.batch_size_eval": batch}), data, given, attempt)
        check(c, run.result, files.read_table(run.path("bpd-per-image.csv")), expected)


def check(c, result, table, expected):
    assert np.abs(table - expected).max(0).max() <= TABLE * expected[:, 0].min()
    n = len(expected)
    assert result["images"] == n and result["step"] == 9
    means = expected.mean(0)
    for value, mean in zip([result["bpd"], *(result["parts"][k] for k in ("recon", "latent", "diff"))], means):
        assert value == pytest.approx(mean, abs=TABLE * means[0])
    if n > 1:
        assert result["standard_error"] == pytest.approx(expected[:, 0].std(ddof=1) / np.sqrt(n), abs=2 * TABLE * means[0] / np.sqrt(n))
    else:
        assert result["standard_error"] in (None, "NaN")


def test_evaluation_while_training(data, folder):
    """By the average, on the first num_steps_eval batches of the test split; a point carries the number of updates done. One is due
    at the step from which the run goes on, too: the checkpoint does not say that it was done."""
    c = program.config(training__num_steps_train=7, training__num_steps_eval=2, training__batch_size_eval=3, training__steps_per_eval=1,
                       vdm_type="vdm", model__gamma_type="learnable_scalar", model__sm_pdrop=0.2)
    given = program.trained(folder / "given.safetensors", c, 1, 5)
    run = program.Run(folder, "train", c, data, given)
    seen = run.scalars()
    for at, step in enumerate((5, 6, 7)):
        weights = run.checkpoint(step) if step > 5 else files.Checkpoint(given)
        expected = expected_table(c, weights.section("ema"), program.photographs(6, "test"))
        for name, value in zip(("bpd", "bpd_recon", "bpd_latent", "bpd_diff"), expected.mean(0)):
            assert seen[f"eval/{name}"][at] == (step, pytest.approx(value, abs=TABLE * expected[:, 0].mean())), name
        error = expected[:, 0].std(ddof=1) / np.sqrt(6)
        assert seen["eval/standard_error"][at] == (step, pytest.approx(error, abs=TABLE * expected[:, 0].mean()))
    assert run.result["bpd"] == seen["eval/bpd"][2][1]
