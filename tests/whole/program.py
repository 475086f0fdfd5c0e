"""build/worker/mulun-worker as a process: an assignment on its standard input, files and events out of it. And the configuration
that both sides compute with."""

import json
import os
import re
import socket
import subprocess
import sys
import threading

import numpy as np

import files
import networks

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import spool  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORKER = os.environ.get("MULUN_WORKER", os.path.join(ROOT, "build", "worker", "mulun-worker"))
PHOTOS = os.path.join(ROOT, "data", "photos32")

# Small, but a group of a norm has two channels, so that the condition matters.
BASE = {"vdm_type": "mulan_epsilon", "data.dataset": "whole",
        "model.gamma_type": "linear", "model.sm_n_embd": 64, "model.sm_n_layer": 1, "model.forward_n_layer": 1, "model.sm_pdrop": 0.0,
        "model.latent_size": 12, "model.latent_k": 4, "model.gamma_min": -10.0, "model.gamma_max": 4.0, "model.topk_noise_type": "gamma",
        "model.with_fourier_features": True, "model.with_attention": False, "model.z_conditioning": True, "model.reparam_type": "true",
        "model.velocity_from_epsilon": False, "model.antithetic_time_sampling": True, "model.sm_n_timesteps": 0, "model.sigma_prior": 1.0,
        "model.sample_softmax": False,
        "training.seed": 3, "training.batch_size_train": 4, "training.batch_size_eval": 4, "training.num_steps_train": 8,
        "training.num_steps_lr_warmup": 6, "training.num_steps_eval": 0, "training.steps_per_logging": 2, "training.steps_per_eval": 1000000,
        "training.steps_per_save": 1,
        "optimizer.learning_rate": 1e-3, "optimizer.b1": 0.9, "optimizer.b2": 0.99, "optimizer.eps": 1e-8, "optimizer.weight_decay": 0.01,
        "optimizer.ema_rate": 0.9, "optimizer.lr_decay": False, "optimizer.gradient_clip_norm": None,
        "evaluation.method": "sparse", "evaluation.split": "test", "evaluation.weights": "ema", "evaluation.n_timesteps": 3,
        "evaluation.n_images": 0, "evaluation.seed": 11,
        "sampling.n_images": 1, "sampling.n_steps": 1, "sampling.seed": 5, "sampling.weights": "ema", "sampling.latent": "random",
        "machine.threads": 1}


class Config(dict):
    """Keys by dotted path; their last names (with the group's where two groups have it) as attributes."""

    def __getattr__(self, name):
        for key in (name, f"model.{name}", f"training.{name}", f"optimizer.{name}", name.replace("_", ".", 1)):
            if key in self:
                return self[key]
        raise AttributeError(name)

    @classmethod
    def of(cls, document):
        """A whole configuration, as a checkpoint has it."""
        return cls({**{f"{group}.{key}": value for group, keys in document.items() if isinstance(keys, dict) for key, value in keys.items()},
                    "vdm_type": document["vdm_type"]})

    def document(self):
        out = {}
        for path, value in self.items():
            *groups, key = path.split(".")
            at = out
            for g in groups:
                at = at.setdefault(g, {})
            at[key] = value
        return out


def config(**changes):
    """A change's name has two underscores for the dot: model__sm_pdrop."""
    return Config(BASE, **{name.replace("__", "."): value for name, value in changes.items()})


def knows(key):
    """Whether the program has a configuration key."""
    with open(os.path.join(ROOT, "contract", "config.def"), encoding="utf-8") as f:
        return re.search(rf'^[A-Z_]+\("{re.escape(key)}"', f.read(), re.M) is not None


class Listener:
    """The daemon's end of a worker's socket: acknowledges what comes, so that the worker need not wait for anybody at its end."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with self.socket, self.socket.accept()[0] as s, s.makefile("rb") as lines:
            for line in lines:
                s.sendall(json.dumps({"ack": spool.lines(line)[0].get("seq", 0)}).encode() + b"\n")


class Run:
    """One attempt at a job, which must succeed: its events and its files."""

    def __init__(self, folder, kind, c, data, checkpoint=None, attempt=1):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        given = [] if checkpoint is None else [{"path": checkpoint, "xxh128": files.xxh128(checkpoint), "step": files.Checkpoint(checkpoint).step}]
        assignment = {"job": 1, "attempt": attempt, "kind": kind, "config": c.document(),
                      "dataset": {"name": "whole", "path": str(data), "digest": "0" * 32}, "folder": self.folder,
                      "socket": os.path.join(self.folder, f"{attempt}.sock"), "checkpoints": given}
        Listener(assignment["socket"])
        r = subprocess.run([WORKER], input=json.dumps(assignment).encode(), capture_output=True, timeout=300, check=False)
        assert r.returncode == 0, r.stderr.decode(errors="replace")
        self.events = spool.read(os.path.join(self.folder, f"attempt-{attempt}.events"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def checkpoint(self, step):
        return files.Checkpoint(self.path(f"step-{step}.safetensors"))

    def artifacts(self, kind):
        return [e["step"] for e in self.events if e["type"] == "artifact" and e["kind"] == kind]

    @property
    def result(self):
        assert self.events[-1]["type"] == "done"
        return self.events[-1]["result"]

    def scalars(self):
        """{name: [(step, value)]}"""
        out = {}
        for e in self.events:
            if e["type"] == "scalars":
                for name, values in e["columns"].items():
                    out.setdefault(name, []).extend((s, v) for s, v in zip(e["step"], values) if v is not None)
        return out


def photographs(n, split):
    return files.read_cifar(os.path.join(PHOTOS, "test_batch.bin" if split == "test" else "data_batch_1.bin"))[:n]


def some_weights(c, seed):
    """Weights of a model that has learned something: nothing at zero, nothing at rest."""
    r = np.random.Generator(np.random.PCG64(seed))
    out = {}
    for name, shape in networks.shapes(c).items():
        x = r.standard_normal(shape, np.float32)
        leaf = name.rsplit("/", 1)[-1]
        if leaf == "kernel":
            x *= np.float32(1 / np.sqrt(np.prod(shape[:-1])))
        else:
            x *= np.float32(0.1)
            if leaf == "scale":
                x += 1
        if name in ("gamma/l1/kernel", "gamma/w"):
            x = x + np.float32(c.gamma_max - c.gamma_min)
        elif name in ("gamma/l1/bias", "gamma/b"):
            x = x + np.float32(c.gamma_min)
        elif name.startswith("gamma/l"):
            x *= np.float32(0.2)
        out[name] = x
    return out


def trained(path, c, seed, step, window=(0, [0.0] * 5), fourier=1.0):
    """A checkpoint of such a model at a step: weights, other weights as their average, moments at zero. window: what a log
    window holds so far, the number of its updates and sums. fourier: a factor of the weights of the Fourier features."""
    params, other = some_weights(c, seed), some_weights(c, seed + 1)
    for weights in (params, other):
        weights["score_model/conv_in/kernel"][:, :, 3:] *= np.float32(fourier)
    ema = {name: np.float32(0.7) * params[name] + np.float32(0.3) * other[name] for name in params}
    zero = {name: np.zeros(x.shape, np.float32) for name, x in params.items()}
    state = {"trainer": {"window_steps": window[0], "window_sums": window[1]}}
    files.write_checkpoint(path, step, c.document(), state, {"params": params, "ema": ema, "m": zero, "v": zero})
    return str(path)
