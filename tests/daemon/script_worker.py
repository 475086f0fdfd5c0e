"""A worker that plays a script, over the real protocol (contract/event.h).

The data set's folder holds the script: script-KIND.json, script-SEED.json (SEED: the configuration's training.seed) or script.json, a list
of attempts, each a list of actions; the last attempt's is played again by those after it. Started for each attempt of a
test, so what few of them need is imported where it is.
"""
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Link:
    """The connection: connects again whenever it is lost, sends what is not acknowledged, keeps acks and commands."""

    def __init__(self, assignment):
        self.a = assignment
        self.lock = threading.Condition()
        self.lines = []  # lines[i] has seq i + 1
        self.acked = 0
        self.stop = False
        self.muted = False
        self.sock = None
        self.spool = open(f"{assignment['folder']}/attempt-{assignment['attempt']}.events", "ab", buffering=0)
        self.spool.write(self.hello())
        threading.Thread(target=self.run, daemon=True).start()

    def hello(self, **more):
        return (json.dumps({"type": "hello", "protocol": 1, "job": self.a["job"], "attempt": self.a["attempt"], "pid": os.getpid(),
                            "identity": self.a["identity"], **more}) + "\n").encode()

    def send(self, event, write=lambda event: (json.dumps(event) + "\n").encode()):
        with self.lock:
            event = {"type": event.pop("type"), "seq": len(self.lines) + 1, **event}
            line = write(event)
            self.spool.write(line)
            self.lines.append(line)
            self.lock.notify_all()

    def raw(self, data):
        with self.lock:
            sock = self.sock
        try:
            sock.sendall(data)
        except (OSError, AttributeError):
            pass

    def wait_acked(self, seconds):
        end = time.monotonic() + seconds
        with self.lock:
            while self.acked < len(self.lines) and time.monotonic() < end:
                self.lock.wait(0.1)
            return self.acked >= len(self.lines)

    def run(self):
        while True:
            if not self.muted:
                try:
                    self.talk()
                except OSError:
                    pass
                self.sock = None
            time.sleep(0.05)

    def talk(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.a["socket"])
        sock.sendall(self.hello())
        reader = sock.makefile("rb")
        first = json.loads(reader.readline() or "{}")
        if "ack" not in first:
            raise OSError("refused")
        with self.lock:
            self.acked = max(self.acked, first["ack"])
            self.sock = sock
        dead = threading.Event()
        threading.Thread(target=self.read, args=(reader, dead), daemon=True).start()
        sent = first["ack"]
        while not dead.is_set():
            with self.lock:
                while sent >= len(self.lines) and not dead.is_set():
                    self.lock.wait(0.1)
                lines = self.lines[sent:]
            if lines:
                sock.sendall(b"".join(lines))
                sent += len(lines)
        sock.close()

    def read(self, reader, dead):
        try:
            for line in reader:
                m = json.loads(line)
                with self.lock:
                    if "ack" in m:
                        self.acked = max(self.acked, m["ack"])
                    elif m.get("command") == "stop":
                        self.stop = True
                    self.lock.notify_all()
        except (OSError, ValueError):
            pass
        dead.set()


class Worker:
    def __init__(self, a):
        self.a = a
        self.link = Link(a)
        self.step = 0
        self.weight = 0  # bytes that a checkpoint has, beside what it says
        for c in a["checkpoints"]:
            if os.path.exists(c["path"]):
                self.step = c["step"]
                break
        self.steps = a["config"]["training"]["num_steps_train"]

    def assert_accepts(self, expected):
        if self.a["accept_changed_data"] is not expected:
            self.error("numeric", "accept_changed_data is not what it should be")

    def assignment(self):
        """What it was given, for the test to read."""
        with open(f"{self.a['folder']}/assignment.json.new", "w") as f:
            json.dump(self.a, f)
        os.rename(f"{self.a['folder']}/assignment.json.new", f"{self.a['folder']}/assignment.json")

    def event(self, event):
        """Any event, also one that no daemon knows."""
        self.link.send(dict(event))

    def spool(self, text, times=1, end=""):
        """Into the spool only."""
        with self.link.lock:
            self.link.spool.write((text * times + end).encode())

    def spool_is_of(self, whose):
        """As if another run had written it: its hello says so."""
        with self.link.lock:
            path = f"{self.a['folder']}/attempt-{self.a['attempt']}.events"
            lines = open(path, "rb").read().split(b"\n", 1)
            with open(path, "r+b") as f:
                f.truncate()
                f.write((self.link.hello(**whose) if whose else b"") + lines[1])

    def start(self, step=None):
        self.step = self.step if step is None else step
        self.link.send({"type": "start", "step": self.step, "steps": self.steps, "memory_bytes": 1, "parameters": 2,
                        "backend": "script", "threads": 1})

    def scalars(self, first, last, value=None):
        steps = list(range(self.step if first is None else first, last))
        for i in range(0, len(steps), 1000):
            part = steps[i:i + 1000]
            self.link.send({"type": "scalars", "step": part, "time_ms": [int(time.time() * 1000)] * len(part),
                            "columns": {"train/bpd": [10.0 / (s + 1) if value is None else value for s in part]}})
        self.step = last

    def packed(self, last, damage=None):
        """As protocol 2 has it; damage: {offset from the line's end: byte}."""
        import spool
        steps = list(range(self.step, last))
        self.step = last

        def write(event):
            line = bytearray(spool.pack(event))
            for at, byte in (damage or {}).items():
                line[-int(at)] = byte
            return bytes(line)
        self.link.send({"type": "scalars", "step": steps, "time_ms": [int(time.time() * 1000)] * len(steps),
                        "columns": {"train/bpd": [10.0 / (s + 1) for s in steps], "train/\u00e9": [float("-inf")] * len(steps)}}, write)

    def stream(self, events, rows, columns):
        """So many events as fast as they are taken, made before; how long that took is left in the job's folder."""
        import spool
        noise = [[2.5 + (7919 * (i + 31 * c) % 1000) / 1024 for i in range(rows)] for c in range(columns)]
        named = {f"train/scalar-{c}": v for c, v in enumerate(noise)}
        lines = []
        for k in range(events):
            steps = list(range(self.step, self.step + rows))
            self.step += rows
            lines.append(spool.pack({"seq": len(self.link.lines) + k + 1, "step": steps, "time_ms": [1795797129139 + 20 * i for i in steps], "columns": named}))
        began = time.monotonic()
        with self.link.lock:
            self.link.lines += lines
            self.link.lock.notify_all()
        self.link.wait_acked(300)
        with open(f"{self.a['folder']}/streamed.json", "w") as f:
            json.dump({"seconds": time.monotonic() - began, "scalars": events * rows * columns}, f)

    def weigh(self, size):
        self.weight = size

    def checkpoint(self, step=None, metric=None):
        import hashlib
        step = self.step if step is None else step
        name = f"step-{step}.safetensors"
        data = json.dumps({"job": self.a["job"], "attempt": self.a["attempt"], "step": step}).encode() + b" " * self.weight
        with open(f"{self.a['folder']}/{name}.new", "wb") as f:
            f.write(data)
        os.rename(f"{self.a['folder']}/{name}.new", f"{self.a['folder']}/{name}")
        self.link.send({"type": "artifact", "kind": "checkpoint", "step": step, "name": name, "bytes": len(data),
                        "xxh128": hashlib.md5(data).hexdigest(), "metric": metric})

    def train(self, last, delay, save=0):
        """A step at a time until last; stops at a command, after a checkpoint."""
        while self.step < last:
            if self.link.stop:
                self.checkpoint()
                self.link.send({"type": "stopped", "step": self.step})
                self.leave()
            self.scalars(self.step, self.step + 1)
            self.link.send({"type": "progress", "step": self.step, "steps": self.steps, "images_per_second": 1.5, "seconds_left": None})
            if save and self.step % save == 0:
                self.checkpoint()
            time.sleep(delay)

    def done(self, result=None):
        self.link.send({"type": "done", "result": result})
        self.leave()

    def error(self, kind, detail, step=0):
        self.link.send({"type": "error", "class": kind, "detail": detail, "step": step})
        self.leave(1)

    def leave(self, code=0, linger=30):
        self.link.wait_acked(linger)
        os._exit(code)

    def flush(self):
        self.link.wait_acked(30)

    def exit(self, code):
        os._exit(code)

    def crash(self, number=9):
        os.kill(os.getpid(), number)

    def eat(self, mebibytes):
        held = [b"x" * (1 << 20) for _ in range(mebibytes)]
        self.error("memory", f"{len(held)} MiB and still alive")

    def hang(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)

    def stray(self):
        """A child that leaves the process group and outlives this one; its id is left in the job's folder."""
        import subprocess
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        with open(f"{self.a['folder']}/stray", "w") as f:
            f.write(str(child.pid))

    def sleep(self, seconds):
        time.sleep(seconds)

    def wait_file(self, path):
        while not os.path.exists(path):
            time.sleep(0.02)

    def mute(self):
        """Talks no more: what comes is in the spool only."""
        self.link.muted = True
        if self.link.sock:
            self.link.sock.shutdown(socket.SHUT_RDWR)

    def log(self, text):
        print(text, file=sys.stderr, flush=True)

    def garbage(self, text):
        self.link.raw(text.encode())

    def huge(self, size):
        self.link.raw(b"x" * size)


def main():
    a = json.load(sys.stdin)
    time.sleep(float(os.environ.get("SCRIPT_LOCK_DELAY", "0")))
    lock = open(f"{a['folder']}/attempt-{a['attempt']}.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    count_path = a["folder"] + "/count"
    count = int(open(count_path).read()) if os.path.exists(count_path) else 0
    with open(count_path, "w") as f:
        f.write(str(count + 1))
    scripts = [f"{a['dataset']['path']}/script{which}.json" for which in (f"-{a['kind']}", f"-{a['config']['training']['seed']}", "")]
    script = next(path for path in scripts if os.path.exists(path))
    attempts = json.load(open(script))
    worker = Worker(a)
    for name, *arguments in attempts[min(count, len(attempts) - 1)]:
        getattr(worker, name)(*arguments)
    worker.leave()


main()
