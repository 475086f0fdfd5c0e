"""Reverse-mode differentiation in numpy, float64: a value remembers what it was made of, `gradients` walks back. Small on
purpose; every operation is held against finite differences in test_tape.py."""

import numpy as np


class Var:
    """A value; parents are pairs of a Var and the function that turns the gradient here into the one there."""

    made = 0
    __array_ufunc__ = None  # an array beside a Var leaves the work to the Var

    def __init__(self, value, parents=()):
        self.value = np.asarray(value, np.float64)
        self.parents = [(p, f) for p, f in parents if isinstance(p, Var)]
        Var.made += 1
        self.number = Var.made

    @property
    def shape(self):
        return self.value.shape

    def __add__(self, other):
        return _binary(self, other, np.add, lambda g, a, b, y: g, lambda g, a, b, y: g)

    def __sub__(self, other):
        return _binary(self, other, np.subtract, lambda g, a, b, y: g, lambda g, a, b, y: -g)

    def __rsub__(self, other):
        return Var(np.asarray(other)) - self

    def __mul__(self, other):
        return _binary(self, other, np.multiply, lambda g, a, b, y: g * b, lambda g, a, b, y: g * a)

    def __truediv__(self, other):
        return _binary(self, other, np.divide, lambda g, a, b, y: g / b, lambda g, a, b, y: -g * y / b)

    def __neg__(self):
        return self * -1.0

    def __matmul__(self, other):
        a, b = self.value, value_of(other)
        return Var(a @ b, [(self, lambda g: _unbroadcast(g @ b.swapaxes(-1, -2), a.shape)),
                           (other, lambda g: _unbroadcast(a.swapaxes(-1, -2) @ g, b.shape))])

    __radd__, __rmul__ = __add__, __mul__

    def __getitem__(self, at):
        def back(g):
            out = np.zeros_like(self.value)
            out[at] = g
            return out
        return Var(self.value[at], [(self, back)])

    def reshape(self, *shape):
        return Var(self.value.reshape(*shape), [(self, lambda g: g.reshape(self.shape))])

    def transpose(self):
        """The last two axes."""
        return Var(self.value.swapaxes(-1, -2), [(self, lambda g: g.swapaxes(-1, -2))])

    def sum(self, axis=None, keepdims=False):
        def back(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)
        return Var(self.value.sum(axis=axis, keepdims=keepdims), [(self, back)])

    def mean(self, axis=None, keepdims=False):
        total = self.sum(axis, keepdims)
        return total * (total.value.size / self.value.size)


def value_of(x):
    return x.value if isinstance(x, Var) else np.asarray(x, np.float64)


def _unbroadcast(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True) if stretched else g


def _binary(x, other, f, back_x, back_other):
    a, b = x.value, value_of(other)
    y = f(a, b)
    return Var(y, [(x, lambda g: _unbroadcast(back_x(g, a, b, y), a.shape)),
                   (other, lambda g: _unbroadcast(back_other(g, a, b, y), b.shape))])


def _unary(f, slope):
    """slope(x, y): the derivative, from the value and the result."""
    def operation(x):
        y = f(value_of(x))
        return Var(y, [(x, lambda g: g * slope(x.value, y))])
    return operation


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


exp = _unary(np.exp, lambda x, y: y)
expm1 = _unary(np.expm1, lambda x, y: y + 1)
log = _unary(np.log, lambda x, y: 1 / x)
sqrt = _unary(np.sqrt, lambda x, y: 0.5 / y)
sin = _unary(np.sin, lambda x, y: np.cos(x))
cos = _unary(np.cos, lambda x, y: -np.sin(x))
absolute = _unary(np.abs, lambda x, y: np.sign(x))
sigmoid = _unary(_sigmoid, lambda x, y: y * (1 - y))
softplus = _unary(lambda x: np.logaddexp(0, x), lambda x, y: _sigmoid(x))
swish = _unary(lambda x: x * _sigmoid(x), lambda x, y: _sigmoid(x) + y * (1 - _sigmoid(x)))


def square(x):
    return x * x


def concatenate(parts, axis=-1):
    values = [value_of(p) for p in parts]
    ends = np.cumsum([v.shape[axis] for v in values])[:-1]
    return Var(np.concatenate(values, axis), [(p, lambda g, i=i: np.split(g, ends, axis)[i]) for i, p in enumerate(parts)])


def log_sum_exp(x):
    """Over the last axis, which goes."""
    top = x.value.max(-1, keepdims=True)
    return log(exp(x - top).sum(-1)) + top[..., 0]


def softmax(x):
    top = x.value.max(-1, keepdims=True)
    e = exp(x - top)
    return e / e.sum(-1, keepdims=True)


def conv3x3(x, w):
    """x [m, h, w, c], w [3, 3, c, o]: stride 1, zeros outside. As a product over the nine neighbours of every pixel."""
    m, height, width, c = value_of(x).shape
    kernel = w.value.reshape(9 * c, -1)
    places = [(slice(None), slice(i, i + height), slice(j, j + width)) for i in range(3) for j in range(3)]
    padded = np.pad(value_of(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = np.concatenate([padded[p] for p in places], axis=-1).reshape(-1, 9 * c)

    def back_x(g):
        d_columns = (g.reshape(-1, g.shape[-1]) @ kernel.T).reshape(m, height, width, 9, c)
        out = np.zeros_like(padded)
        for n, p in enumerate(places):
            out[p] += d_columns[:, :, :, n]
        return out[:, 1:-1, 1:-1]

    return Var((columns @ kernel).reshape(m, height, width, -1),
               [(x, back_x), (w, lambda g: (columns.T @ g.reshape(-1, g.shape[-1])).reshape(w.shape))])


def gradients(result, of):
    """The gradient of a scalar by each Var of a dict, zeros where it does not reach."""
    found, due, seen = {id(result): np.ones(())}, [result], {id(result)}
    order = []
    while due:
        x = due.pop()
        order.append(x)
        for p, _ in x.parents:
            if id(p) not in seen:
                seen.add(id(p))
                due.append(p)
    for x in sorted(order, key=lambda v: -v.number):
        g = found[id(x)] if not x.parents else found.pop(id(x))
        for p, back in x.parents:
            d = back(g)
            found[id(p)] = found[id(p)] + d if id(p) in found else d
    return {name: found.get(id(v), np.zeros(v.shape)) for name, v in of.items()}
