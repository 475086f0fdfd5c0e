"""The peer: MuLAN's training step in PyTorch 1.13 on the CPU, as fast as we could make it, to be timed in the same run as
ours (peer.py does that). The same network, loss and optimizer as mulund's `mulan_velocity` with poly_fixedend, the topk
latent with gamma noise and the unet encoder, at the same sizes, dropout and EMA included.

    /usr/bin/python3 torch_mulan.py --embd 64 --layers 4 --encoder-layers 2 --batch 8

It is a peer only with OpenBLAS (Debian: libopenblas0-pthread) and an allocator that keeps its pages; peer.py sets the
environment. What was done for speed, each an option that can be left out to see what it brings:
  channels_last everywhere, attention by batched products;
  --optimizer chunked: AdamW and EMA over pieces that stay in the cache, instead of one pass over memory an operation;
  --dropout bytes: masks from one random byte an element, drawn by NumPy's SFC64, instead of torch's Mersenne twister;
  --norm passes: a group norm's backward in five passes, instead of the library's;
  no graph for the terms that carry no gradient; denormals flushed.

Prints one JSON line: seconds a step (median), images a second, peak bytes.
"""

import argparse
import json
import math
import resource
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

D = 3072


class Conv(nn.Conv2d):
    def __init__(self, i, o, zero=False):
        super().__init__(i, o, 3, padding=1)
        if zero:
            nn.init.zeros_(self.weight)


class GroupNormFunction(torch.autograd.Function):
    """The library's forward; a backward in five passes over memory (dx = dy P + x Q + R with P, Q, R a channel's), where
    the library's takes as long as a convolution's forward."""

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        b, c, h, w = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, b, c, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, mean, rstd = ctx.saved_tensors
        b, c, h, w = x.shape
        g, n = ctx.groups, c // ctx.groups * h * w
        xs, ds = (v.permute(0, 2, 3, 1).reshape(b, h * w, c) for v in (x, dy))
        ones = torch.ones(b, 1, h * w)
        sum_dyx, sum_dy = torch.bmm(ones, ds * xs)[:, 0], torch.bmm(ones, ds)[:, 0]
        m, r = (v[:, :, None].expand(b, g, c // g).reshape(b, c) for v in (mean.view(b, g), rstd.view(b, g)))
        dot = (sum_dyx - m * sum_dy) * r  # sum of dy x_hat, a channel
        group = lambda v: (v * weight).view(b, g, -1).sum(2, keepdim=True).expand(b, g, c // g).reshape(b, c) / n
        a1, a2 = group(sum_dy), group(dot)
        P, Q = r * weight, -r * r * a2
        R = -r * a1 - Q * m
        dx = torch.addcmul(R[:, None], ds, P[:, None]).addcmul_(xs, Q[:, None])
        return dx.view(b, h, w, c).permute(0, 3, 1, 2), dot.sum(0), sum_dy.sum(0), None, None


class Norm(nn.Module):
    fast = True

    def __init__(self, c):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

    def forward(self, x):
        if self.fast:
            return GroupNormFunction.apply(x, self.weight, self.bias, 32, 1e-6)
        return F.group_norm(x, 32, self.weight, self.bias, 1e-6)


def norm(c):
    return Norm(c)


RANDOM = np.random.Generator(np.random.SFC64(1))


def byte_dropout(x, p):
    """Keeps an element where a random byte is at least 256 p (rounded), scaled by what that keeps on average."""
    cut = round(256 * p)
    if cut == 0:
        return x
    mask = torch.from_numpy(RANDOM.integers(0, 2 ** 64, size=x.numel() // 8, dtype=np.uint64).view(np.uint8)) >= cut
    return x * mask.float().mul_(256 / (256 - cut)).as_strided(x.shape, x.stride())


class Resnet(nn.Module):
    dropout = None

    def __init__(self, i, o, cond, pdrop):
        super().__init__()
        self.norm0, self.conv1, self.cond_proj = norm(i), Conv(i, o), nn.Linear(cond, o, bias=False)
        self.norm1, self.conv2, self.pdrop = norm(o), Conv(o, o, zero=True), pdrop
        self.shortcut = nn.Conv2d(i, o, 1) if i != o else None
        nn.init.zeros_(self.cond_proj.weight)

    def forward(self, x, cond):
        h = self.conv1(F.silu(self.norm0(x))) + self.cond_proj(cond)[:, :, None, None]
        h = self.dropout(F.silu(self.norm1(h)), self.pdrop)
        return (x if self.shortcut is None else self.shortcut(x)) + self.conv2(h)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm, self.q, self.k, self.v, self.proj_out = norm(c), *(nn.Linear(c, c) for _ in range(4))
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        q, k, v = self.q(n), self.k(n), self.v(n)
        if hasattr(F, "scaled_dot_product_attention"):
            a = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        else:
            a = torch.softmax((q / math.sqrt(c)) @ k.transpose(1, 2), -1) @ v
        return x + self.proj_out(a).reshape(b, h, w, c).permute(0, 3, 1, 2)


class Unet(nn.Module):
    def __init__(self, n, layers, context, out, up, pdrop, fourier=True):
        super().__init__()
        self.n, self.out, self.fourier = n, out, fourier
        self.dense0, self.dense1 = nn.Linear(n + context, 4 * n), nn.Linear(4 * n, 4 * n)
        self.conv_in = Conv(15 if fourier else 3, n)
        self.down = nn.ModuleList(Resnet(n, n, 4 * n, pdrop) for _ in range(layers))
        self.mid1, self.attn, self.mid2 = Resnet(n, n, 4 * n, pdrop), Attention(n), Resnet(n, n, 4 * n, pdrop)
        self.up = nn.ModuleList(Resnet(2 * n, n, 4 * n, pdrop) for _ in range(layers + 1 if up else 0))
        self.norm, self.conv_out = norm(n), Conv(n, out, zero=True)

    def forward(self, z, t, context):
        half = self.n // 2
        f = torch.exp(torch.arange(half, device=z.device) * -(math.log(10000) / (half - 1)))
        a = 1000.0 * t[:, None] * f
        cond = F.silu(self.dense1(F.silu(self.dense0(torch.cat([a.sin(), a.cos(), context], 1)))))
        w = (2.0 ** torch.tensor([6.0, 7.0], device=z.device) * 2 * math.pi).repeat(3)[None, :, None, None]
        h = z
        if self.fourier:
            p = z.repeat_interleave(2, 1) * w
            h = torch.cat([z, p.sin(), p.cos()], 1).contiguous(memory_format=torch.channels_last)
        hs = [self.conv_in(h)]
        for block in self.down:
            hs.append(block(hs[-1], cond))
        h = self.mid2(self.attn(self.mid1(hs[-1], cond)), cond)
        for block in self.up:
            h = block(torch.cat([h, hs.pop()], 1), cond)
        h = self.conv_out(F.silu(self.norm(h)))
        return h + z if self.up else h


class Mulan(nn.Module):
    """mulan_velocity, poly_fixedend, topk latent with gamma noise, unet encoder."""

    def __init__(self, n, layers, encoder_layers, latent=50, k=15, pdrop=0.1, lo=-13.3, hi=5.0, fourier=True):
        super().__init__()
        self.score = Unet(n, layers, latent, 3, True, pdrop, fourier)
        self.encoder = Unet(n, encoder_layers, 1, 1, False, pdrop, fourier)
        self.final = nn.Linear(1024, latent)
        self.g1, self.g2 = nn.Linear(latent, D), nn.Linear(D, D)
        self.ga, self.gb, self.gc = (nn.Linear(D, D) for _ in range(3))
        nn.init.zeros_(self.ga.weight)
        self.k, self.lo, self.span = k, lo, hi - lo

    def forward(self, x, t, eps_0, eps, raw):
        """x [B,3,32,32] values 0..255; raw [10,B,latent] gamma draws. Returns bits per dimension."""
        B = x.shape[0]
        f = 2.0 * (x + 0.5) / 256 - 1.0
        zero = torch.zeros(B, device=x.device)
        h = self.encoder(f, zero, zero[:, None]).float().reshape(B, -1)
        logits = self.final(F.silu(h)).float()
        q = torch.softmax(logits, 1)
        kl = (q * (torch.log_softmax(logits, 1) + math.log(logits.shape[1]))).sum(1)
        beta = self.k / torch.arange(1.0, 11.0, device=x.device)[:, None, None]
        y = logits + 10.0 * ((raw / beta).sum(0) - math.log(10.0)) / self.k
        y = y - y.mean(1, keepdim=True)
        soft = y / y.norm(dim=1, keepdim=True)
        hard = (y >= y.topk(self.k, 1)[0][:, -1:]).to(y.dtype)
        e = (hard - soft).detach() + soft
        u = F.silu(self.g2(F.silu(self.g1(e))))
        a, b = self.ga(u).float(), self.gb(u).float()
        c = 1e-3 + F.softplus(self.gc(u).float())
        p5, p4, p3, p2, p1 = a * a / 5, a * b / 2, (b * b + 2 * a * c) / 3, b * c, c * c
        s, t_ = p5 + p4 + p3 + p2 + p1, t[:, None]
        g = self.lo + self.span * (((((p5 * t_ + p4) * t_ + p3) * t_ + p2) * t_ + p1) * t_) / s
        dg = self.span * (a * t_ * t_ + b * t_ + c) ** 2 / s
        image = lambda v: v.reshape(B, 32, 32, 3).permute(0, 3, 1, 2)
        g, dg = image(g), image(dg)
        var = torch.sigmoid(g)
        alpha, sigma = torch.sqrt(1 - var), torch.sqrt(var)
        z = alpha * f + sigma * eps
        v_hat = self.score(z, (g.mean((1, 2, 3)) - self.lo) / self.span, e).float()
        diff = 0.5 * ((1 - var) * dg * (alpha * eps - sigma * f - v_hat) ** 2).sum((1, 2, 3))
        # the ends of this schedule are fixed: gamma_0 = lo and gamma_1 = lo + span
        std = math.exp(0.5 * self.lo)
        centres = 2.0 * (torch.arange(256, device=x.device) + 0.5) / 256 - 1.0
        with torch.no_grad():
            l = (f + std * eps_0)[..., None] - centres
            l.mul_(math.sqrt(0.5) / std).pow_(2).neg_()
            recon = (torch.logsumexp(l, -1) - l.gather(-1, x.long()[..., None])[..., 0]).sum((1, 2, 3))
        var_1 = 1 / (1 + math.exp(-(self.lo + self.span)))
        prior = 0.5 * ((1 - var_1) * f * f + var_1 - math.log(var_1) - 1).sum((1, 2, 3))
        return (recon + prior + kl + diff).mean() / (D * math.log(2.0))


class ChunkedAdamW:
    """AdamW with decoupled decay and an EMA of the weights, a piece at a time: all of a piece's operations find it in the
    cache. The arithmetic is torch.optim.AdamW's."""

    def __init__(self, params, lr, betas, weight_decay, ema_rate, chunk, eps=1e-8):
        self.params, self.lr, self.betas, self.decay, self.ema_rate, self.eps = params, lr, betas, weight_decay, ema_rate, eps
        self.chunk, self.count = chunk, 0
        self.m = [torch.zeros_like(p.data) for p in params]
        self.v = [torch.zeros_like(p.data) for p in params]
        self.ema = [p.data.clone() for p in params]
        self.room = torch.empty(chunk)

    @staticmethod
    def flat(t):
        """The memory of a dense tensor, whatever the order of its dimensions."""
        return t.as_strided((t.numel(),), (1,), t.storage_offset())

    @torch.no_grad()
    def step(self):
        self.count += 1
        b1, b2 = self.betas
        c1, c2 = 1 - b1 ** self.count, 1 - b2 ** self.count
        for p, m, v, e in zip(self.params, self.m, self.v, self.ema):
            g = p.grad
            if g.stride() != p.stride():
                g = torch.empty_like(p.data).copy_(g)
            p, g, m, v, e = self.flat(p.data), self.flat(g), self.flat(m), self.flat(v), self.flat(e)
            for i in range(0, p.numel(), self.chunk):
                n = min(self.chunk, p.numel() - i)
                pi, gi, mi, vi, ei = (t[i:i + n] for t in (p, g, m, v, e))
                d = self.room[:n]
                pi.mul_(1 - self.lr * self.decay)
                mi.lerp_(gi, 1 - b1)
                vi.mul_(b2).addcmul_(gi, gi, value=1 - b2)
                torch.sqrt(vi, out=d)
                d.div_(math.sqrt(c2)).add_(self.eps)
                pi.addcdiv_(mi, d, value=-self.lr / c1)
                ei.lerp_(pi, 1 - self.ema_rate)
        for p in self.params:
            p.grad = None


class ListAdamW:
    """torch.optim.AdamW over lists of tensors, and the EMA so too."""

    def __init__(self, params, lr, betas, weight_decay, ema_rate):
        self.params, self.rate = params, ema_rate
        self.ema = [p.detach().clone() for p in params]
        self.inner = torch.optim.AdamW(params, lr=lr, betas=betas, weight_decay=weight_decay, foreach=True)

    @torch.no_grad()
    def step(self):
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        torch._foreach_mul_(self.ema, self.rate)
        torch._foreach_add_(self.ema, self.params, alpha=1 - self.rate)


def verify():
    """The fast group norm and optimizer against the library's."""
    torch.manual_seed(1)
    x = torch.randn(2, 64, 8, 8).contiguous(memory_format=torch.channels_last).mul_(3).add_(1).requires_grad_()
    m = Norm(64)
    nn.init.normal_(m.weight), nn.init.normal_(m.bias)
    got = []
    for Norm.fast in (True, False):
        y = m(x)
        got.append([y, *torch.autograd.grad((y * torch.arange(64.0)[:, None, None].cos()).sum() + (y ** 3).sum(), [x, m.weight, m.bias])])
    for a, b in zip(*got):
        assert float((a - b).norm() / b.norm()) < 1e-5
    p = [[nn.Parameter(torch.linspace(-1, 1, 1000)), nn.Parameter(torch.ones(7, 5))] for _ in range(2)]
    settings = dict(lr=1e-2, betas=(0.9, 0.99), weight_decay=0.01, ema_rate=0.9)
    o = [ChunkedAdamW(p[0], chunk=64, **settings), ListAdamW(p[1], **settings)]
    for i in range(5):
        for q, opt in zip(p, o):
            (q[0].mul(i + 1).sin().sum() + (q[1] ** 2).sum()).backward()
            opt.step()
    for a, b in zip(p[0] + o[0].ema, p[1] + o[1].ema):
        assert float((a - b).norm() / b.norm()) < 1e-6
    print("group norm and optimizer agree with the library's")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--embd", type=int, default=64)
    a.add_argument("--layers", type=int, default=4)
    a.add_argument("--encoder-layers", type=int, default=2)
    a.add_argument("--batch", type=int, default=8)
    a.add_argument("--steps", type=int, default=5)
    a.add_argument("--warmup", type=int, default=2)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--optimizer", choices=("chunked", "list"), default="chunked")
    a.add_argument("--chunk", type=int, default=131072)
    a.add_argument("--dropout", choices=("bytes", "library"), default="bytes")
    a.add_argument("--norm", choices=("passes", "library"), default="passes")
    a.add_argument("--verify", action="store_true", help="compare what is ours with the library's, and end")
    a = a.parse_args()
    if a.verify:
        return verify()
    torch.manual_seed(0)
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    Resnet.dropout = staticmethod(byte_dropout if a.dropout == "bytes" else lambda x, p: F.dropout(x, p, True))
    Norm.fast = a.norm == "passes"
    model = Mulan(a.embd, a.layers, a.encoder_layers).to(memory_format=torch.channels_last)
    params = list(model.parameters())
    settings = dict(lr=2e-4, betas=(0.9, 0.99), weight_decay=0.01, ema_rate=0.9999)
    opt = ChunkedAdamW(params, chunk=a.chunk, **settings) if a.optimizer == "chunked" else ListAdamW(params, **settings)
    B = a.batch
    x = torch.randint(0, 256, (B, 3, 32, 32)).float().contiguous(memory_format=torch.channels_last)

    def step(i):
        # the noise of a step is drawn in the step, as ours is
        eps_0 = torch.randn(B, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        eps = torch.randn(B, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        raw = torch.distributions.Gamma(1 / 15.0, 1.0).sample((10, B, 50))
        t = (torch.arange(B) / B + 0.37 + 0.01 * i) % 1.0
        loss = model(x, t, eps_0, eps, raw)
        loss.backward()
        opt.step()

    times, cpu = [], []
    for i in range(a.warmup + a.steps):
        s, c = time.perf_counter(), time.process_time()
        step(i)
        times.append(time.perf_counter() - s)
        cpu.append(time.process_time() - c)
    median = sorted(times[a.warmup:])[a.steps // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(vars(a), seconds=median, images_per_second=B / median, cpu_seconds=sorted(cpu[a.warmup:])[a.steps // 2], peak_bytes=peak, torch=torch.__version__)))


if __name__ == "__main__":
    main()
