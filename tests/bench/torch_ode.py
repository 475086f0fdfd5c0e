"""The peer of the exact likelihood: the published way, in PyTorch on the CPU. An adaptive Runge-Kutta solver on the host
(scipy's RK45, its very rules, over one flat float64 state of the whole batch: images and the integral of the divergence
share an error norm and a step size), the network's drift and a Hutchinson estimate with a fresh Rademacher probe at every
evaluation, by automatic differentiation. The network is torch_mulan's, with the weights of one of our checkpoints.

    /usr/bin/python3 torch_ode.py --checkpoint FILE --data FOLDER --images 8 --batch 8 [--fixed-probe] [--rtol 1e-5]

Prints one JSON line: bits per dimension of every image (exact constants), evaluations a batch, seconds.
"""

import argparse
import json
import math
import struct
import time

import numpy as np
import torch

import torch_mulan
from torch_mulan import D, Mulan

LO = -13.3
A = [[], [1 / 5], [3 / 40, 9 / 40], [44 / 45, -56 / 15, 32 / 9], [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
     [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656], [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]]
C = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1]
E = np.array([-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40])


def rms(x):
    return float(np.linalg.norm(x) / x.size ** 0.5)


def rk45(f, y, rtol, atol):
    """From t = 0 to 1; the state there and the number of evaluations."""
    t, k0, n = 0.0, f(0.0, y), 2
    scale = atol + rtol * np.abs(y)
    d0, d1 = rms(y / scale), rms(k0 / scale)
    h = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    d2 = rms((f(h, y + h * k0) - k0) / scale) / h
    h = min(100 * h, max(1e-6, h * 1e-3) if d1 <= 1e-15 and d2 <= 1e-15 else (0.01 / max(d1, d2)) ** 0.2, 1.0)
    rejected = False
    while t < 1:
        h = min(h, 1 - t)
        k = [k0]
        for i in range(1, 7):
            new = y + h * sum(a * x for a, x in zip(A[i], k))
            k.append(f(t + C[i] * h, new))
        n += 6
        error = rms(h * sum(e * x for e, x in zip(E, k)) / (atol + rtol * np.maximum(np.abs(y), np.abs(new))))
        factor = 10.0 if error == 0 else 0.9 * error ** -0.2
        if error < 1:
            t, y, k0 = t + h, new, k[6]
            h, rejected = h * min(1.0 if rejected else 10.0, max(0.2, factor)), False
        else:
            h, rejected = h * max(0.2, factor), True
    return y, n


def tensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        base = f.tell()
        for name, what in header.items():
            if name.startswith("ema/"):
                f.seek(base + what["data_offsets"][0])
                yield name[4:], torch.from_numpy(np.fromfile(f, "<f4", math.prod(what["shape"])).reshape(what["shape"]).copy())


def unet_names(prefix, layers, up):
    names = {f"{prefix}/{k}": k for k in ("dense0", "dense1", "conv_in", "conv_out")}
    names[f"{prefix}/GroupNorm_0"] = "norm"
    blocks = {f"down.block_{i}": f"down.{i}" for i in range(layers)} | {"mid.block_1": "mid1", "mid.block_2": "mid2"}
    blocks |= {f"up.block_{i}": f"up.{i}" for i in range(layers + 1 if up else 0)}
    for ours, theirs in blocks.items():
        names |= {f"{prefix}/{ours}/{a}": f"{theirs}.{b}" for a, b in (("GroupNorm_0", "norm0"), ("GroupNorm_1", "norm1"), ("conv1", "conv1"),
                                                                     ("conv2", "conv2"), ("cond_proj", "cond_proj"), ("nin_shortcut", "shortcut"))}
    names |= {f"{prefix}/mid.attn_1/{a}": f"attn.{b}" for a, b in (("GroupNorm_0", "norm"), ("q", "q"), ("k", "k"), ("v", "v"), ("proj_out", "proj_out"))}
    return names


def load(path):
    """A Mulan with the average weights of a mulan_velocity checkpoint with the schedule poly_fixedend."""
    found = dict(tensors(path))
    n = found["score_model/conv_in/kernel"].shape[3]
    layers, encoder_layers = (sum(f"{p}/down.block_{i}/conv1/kernel" in found for i in range(99)) for p in ("score_model", "encoder_model"))
    model = Mulan(n, layers, encoder_layers, latent=found["encoder_model/dense_layer_final/bias"].numel(), pdrop=0,
                  fourier=found["score_model/conv_in/kernel"].shape[2] == 15)
    names = {k: f"score.{v}" for k, v in unet_names("score_model", layers, True).items()}
    names |= {k: f"encoder.{v}" for k, v in unet_names("encoder_model", encoder_layers, False).items()}
    names |= {"encoder_model/dense_layer_final": "final", "gamma/dense_1": "g1", "gamma/dense_2": "g2", "gamma/dense_out_a": "ga",
              "gamma/dense_out_b": "gb", "gamma/dense_out_c": "gc"}
    state = model.state_dict()
    for name, value in found.items():
        module, leaf = name.rsplit("/", 1)
        key = f"{names[module]}.{'bias' if leaf == 'bias' else 'weight'}"
        if leaf == "kernel" and value.dim() == 4:
            value = value.permute(3, 2, 0, 1)
        elif leaf == "kernel":
            value = value.t().reshape(state[key].shape)
        assert state.pop(key).shape == value.shape, name
        model.state_dict()[key].copy_(value)
    assert not state, sorted(state)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class Flow:
    def __init__(self, model, x, generator, fixed):
        self.model, self.B, self.generator, self.n = model, x.shape[0], generator, 0
        self.probe = self.draw() if fixed else None
        zero = torch.zeros(self.B)
        h = model.encoder(2 * (x + 0.5) / 256 - 1, zero, zero[:, None])
        logits = model.final(torch.nn.functional.silu(h.reshape(self.B, -1)))
        q = torch.softmax(logits, 1)
        self.kl = (q * (torch.log_softmax(logits, 1) + math.log(logits.shape[1]))).sum(1).numpy()
        self.e = (logits >= logits.topk(model.k, 1)[0][:, -1:]).float()
        silu = torch.nn.functional.silu
        u = silu(model.g2(silu(model.g1(self.e))))
        a, b, c = model.ga(u), model.gb(u), 1e-3 + torch.nn.functional.softplus(model.gc(u))
        self.abc, self.p = (a, b, c), (a * a / 5, a * b / 2, (b * b + 2 * a * c) / 3, b * c, c * c)

    def draw(self):
        return torch.randint(0, 2, (self.B, 3, 32, 32), generator=self.generator).float() * 2 - 1

    def __call__(self, t, y):
        """y: images [B, 32, 32, 3] flat, then an integral an image."""
        B, m, (a, b, c), (p5, p4, p3, p2, p1) = self.B, self.model, self.abc, self.p
        image = lambda v: v.reshape(B, 32, 32, 3).permute(0, 3, 1, 2)
        s = p5 + p4 + p3 + p2 + p1
        g = image(m.lo + m.span * (((((p5 * t + p4) * t + p3) * t + p2) * t + p1) * t) / s)
        dg = image(m.span * (a * t * t + b * t + c) ** 2 / s)
        var = torch.sigmoid(g)
        probe = self.probe if self.probe is not None else self.draw()
        z = image(torch.from_numpy(y[:B * D].astype(np.float32))).contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.enable_grad():
            v = m.score(z, (g.mean((1, 2, 3)) - m.lo) / m.span, self.e)
            drift = 0.5 * torch.sqrt((1 - var) * var) * dg * v
            slope = torch.autograd.grad((drift * probe).sum(), z)[0]
        divergence = (slope * probe).sum((1, 2, 3))
        self.n += 1
        return np.concatenate([drift.detach().permute(0, 2, 3, 1).reshape(-1).double().numpy(), divergence.double().numpy()])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--images", type=int, default=8)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rtol", type=float, default=1e-5)
    p.add_argument("--fixed-probe", action="store_true")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--probe-seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    torch_mulan.Resnet.dropout = staticmethod(lambda x, _: x)
    model, generator = load(a.checkpoint), torch.Generator().manual_seed(a.seed)
    pixels = np.fromfile(f"{a.data}/test_batch.bin", np.uint8).reshape(-1, 3073)[:a.images, 1:].reshape(-1, 3, 32, 32)
    bpd, evaluations, start = [], [], time.perf_counter()
    with torch.no_grad():
        for first in range(0, a.images, a.batch):
            x = torch.from_numpy(pixels[first:first + a.batch].astype(np.float32))
            B = x.shape[0]
            u = truncated(x.shape, generator)
            y = (2 * (x + 0.5) / 256 - 1).double() + math.exp(LO / 2) * u.double()
            flow = Flow(model, x, torch.Generator().manual_seed(a.probe_seed), a.fixed_probe)
            y, n = rk45(flow, np.concatenate([y.permute(0, 2, 3, 1).reshape(-1).numpy(), np.zeros(B)]), a.rtol, a.rtol)
            z, l = y[:B * D].reshape(B, D), y[B * D:]
            log_p = -0.5 * (D * math.log(2 * math.pi) + (z * z).sum(1)) + l
            sigma = 0.5 * (LO - math.log1p(math.exp(LO)))
            extra = 0.5 * (1 + math.log(2 * math.pi)) - 0.016034984754205173
            bpd += ((flow.kl - log_p) / (D * math.log(2)) - (extra + sigma) / math.log(2)).tolist()
            evaluations.append(n)
    print(json.dumps({"bpd": bpd, "evaluations": evaluations, "seconds": time.perf_counter() - start}))


def truncated(shape, generator):
    """Standard normals in [-3, 3]."""
    u = torch.randn(shape, generator=generator)
    while (u.abs() > 3).any():
        again = torch.randn(shape, generator=generator)
        u = torch.where(u.abs() > 3, again, u)
    return u


if __name__ == "__main__":
    main()
