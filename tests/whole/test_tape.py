"""The differentiation and the random numbers of this folder, each by itself."""

import numpy as np
import pytest

import philox
import tape
from tape import Var

A, B = (3, 4), (4, 5)
OPERATIONS = {
    "add": (lambda x, y: x + y, A, (4,)), "subtract": (lambda x, y: x - y, A, (3, 1)), "from_array": (lambda x: np.ones(A) - x, A),
    "multiply": (lambda x, y: x * y, A, A), "divide": (lambda x, y: x / (y * y + 1), A, (4,)), "negate": (lambda x: -x, A),
    "matmul": (lambda x, y: x @ y, A, B), "matmul_of_many": (lambda x, y: x @ y, (2, 3, 4), B), "transpose": (lambda x: x.transpose(), A),
    "slice": (lambda x: x[..., 1:3], A), "reshape": (lambda x: x.reshape(2, 6), A), "sum": (lambda x: x.sum(0), A),
    "mean": (lambda x: x.mean((0, 1), keepdims=True), A), "twice": (lambda x: x * x + x, A),
    "exp": (tape.exp, A), "expm1": (tape.expm1, A), "log": (lambda x: tape.log(x * x + 1), A), "sqrt": (lambda x: tape.sqrt(x * x + 1), A),
    "sin": (tape.sin, A), "cos": (tape.cos, A), "absolute": (tape.absolute, A), "sigmoid": (tape.sigmoid, A), "softplus": (tape.softplus, A),
    "swish": (tape.swish, A), "concatenate": (lambda x, y: tape.concatenate([x, y, x]), A, (3, 2)), "softmax": (tape.softmax, A),
    "log_sum_exp": (tape.log_sum_exp, A), "conv3x3": (tape.conv3x3, (2, 4, 5, 3), (3, 3, 3, 2))}


@pytest.mark.parametrize("name", OPERATIONS)
def test_slopes(name):
    f, *shapes = OPERATIONS[name]
    r = np.random.Generator(np.random.PCG64(3))
    values = [r.standard_normal(s) for s in shapes]
    weights = r.standard_normal(f(*map(Var, values)).shape)
    x = dict(enumerate(map(Var, values)))
    g = tape.gradients((f(*x.values()) * weights).sum(), x)
    for i, value in enumerate(values):
        for at in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[i][at] += sign * 1e-6
                ends.append((f(*map(Var, moved)).value * weights).sum())
            assert g[i][at] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-7)


def test_convolution_is_the_sum_over_neighbours():
    r = np.random.Generator(np.random.PCG64(4))
    x, w = r.standard_normal((1, 4, 5, 2)), r.standard_normal((3, 3, 2, 3))
    y = tape.conv3x3(Var(x), Var(w)).value
    for h, v, o in np.ndindex(4, 5, 3):
        total = sum(x[0, h + i - 1, v + j - 1] @ w[i, j, :, o] for i in range(3) for j in range(3) if 0 <= h + i - 1 < 4 and 0 <= v + j - 1 < 5)
        assert y[0, h, v, o] == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("word,expected", [(0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
                                           (0xFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD])])
def test_known_answers_of_philox(word, expected):
    assert philox.philox_4x32_10([word] * 4, [word] * 2).tolist() == expected


def test_the_draws_have_their_distributions():
    gamma = np.stack([philox.gamma(1, 0, i, 0, 50, 15) for i in range(40)])
    n = gamma.size
    assert gamma.mean() == pytest.approx(1 / 15, abs=5 * np.sqrt(1 / 15 / n)) and gamma.var() == pytest.approx(1 / 15, rel=0.2)
    normal = np.stack([philox.normal(1, philox.EPS, 0, i, 0, 3072) for i in range(8)])
    assert abs(normal.mean()) < 5 / np.sqrt(normal.size) and normal.std() == pytest.approx(1, rel=0.02)
    mask = philox.dropout(1, 0, 0, 0, (1024, 64), 0.25)
    assert (mask > 0).mean() == pytest.approx(0.75, abs=0.01) and mask.max() == 1 / 0.75
    for epoch in (0, 1):
        assert sorted(philox.training_index(21, 3, 21 * epoch + i) for i in range(21)) == list(range(21))
