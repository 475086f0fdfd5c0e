"""A log keeps its head and its tail, on the disk and in the answers."""
import json
import os
import signal
import subprocess
import time

import pytest
import requests

from service import MULUND, TRAIN, wall

CTL = os.path.join(os.path.dirname(MULUND), "../ctl/mulunctl")
LIMIT = 256 << 10


def write_lines(path, first, n):
    with open(path, "a") as f:
        f.writelines(f"line {i} {'x' * 80}\n" for i in range(first, first + n))


def lines(text):
    return [int(w.split()[1]) for w in text.splitlines() if w.startswith("line ") and w.endswith("x" * 80)]


@pytest.fixture
def capped(service):
    """A service whose job's log was written full before its worker ended, which caps it."""
    service.script([[["start"], ["wait_file", service.root + "/go"], ["done"]], TRAIN])
    service.start("--log-limit", "256KiB")
    job = service.submit(100)
    path = f"{service.state}/jobs/{job}/log"
    service.until(lambda: os.path.exists(path))
    write_lines(path, 0, 20000)
    with open(service.root + "/go", "w"):
        pass
    service.wait(job, "succeeded")
    service.until(lambda: os.stat(path).st_blocks * 512 < 2 * LIMIT)
    return service, job, path


def test_the_disk_has_little_and_the_answer_both_ends(capped):
    service, job, path = capped
    size = os.stat(path).st_size
    assert size > 1 << 20 and os.stat(path).st_blocks * 512 <= LIMIT + LIMIT // 4
    r = requests.get(f"{service.url}/v1/jobs/{job}/log", timeout=60)
    assert r.status_code == 200 and "\0" not in r.text and r.text.count("its middle was left out here") == 1
    assert r.headers["X-Log-Size"] == r.headers["X-Log-Next-Offset"] == str(size)
    found = lines(r.text)
    assert found[0] == 0 and found[-1] == 19999 and found == sorted(found) and LIMIT * 3 // 4 < len(r.content) < LIMIT * 5 // 4
    assert requests.get(f"{service.url}/v1/jobs/{job}/log", params={"tail": 3}, timeout=60).text.splitlines() == \
        [f"line {i} {'x' * 80}" for i in (19997, 19998, 19999)]


def test_offsets_stay_and_one_in_the_hole_goes_on_behind_it(capped):
    service, job, path = capped
    with open(path, "rb") as f:
        f.seek(1000)
        head = f.read(50).decode()
    size = os.stat(path).st_size
    assert requests.get(f"{service.url}/v1/jobs/{job}/log", params={"offset": 1000}, timeout=60).text.startswith(head)
    r = requests.get(f"{service.url}/v1/jobs/{job}/log", params={"offset": size // 2}, timeout=60)
    assert r.text.startswith("\n[mulund: the log had more than 256KiB") and lines(r.text)[-1] == 19999
    assert requests.get(f"{service.url}/v1/jobs/{job}/log", params={"offset": size}, timeout=60).text == ""


def test_what_is_written_later_is_capped_again_and_its_head_stays(capped):
    service, job, path = capped
    write_lines(path, 20000, 20000)
    again = service.submit(100)  # another job: its end looks at its own log alone
    service.wait(again, "succeeded")
    assert os.stat(path).st_blocks * 512 > 1 << 20
    assert service.post(f"/v1/jobs/{job}/resume", {"steps": 120}).status_code == 200
    service.wait(job, "succeeded")
    service.until(lambda: os.stat(path).st_blocks * 512 <= LIMIT + LIMIT // 4)
    text = service.until(lambda: requests.get(f"{service.url}/v1/jobs/{job}/log", timeout=60).text)
    found = lines(text)
    assert found[0] == 0 and 39999 in found and text.count("its middle was left out here") == 1


def test_a_log_below_the_limit_is_whole(service):
    service.script([[["start"], ["log", "only line"], ["done"]]])
    service.start("--log-limit", "64KiB")
    job = service.submit(100)
    service.wait(job, "succeeded")
    assert requests.get(f"{service.url}/v1/jobs/{job}/log", timeout=60).text == "only line\n"


def test_why_an_answer_broke_off_is_said(service):
    service.script([[["start"], ["log", "only line"], ["done"]]])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    path = f"{service.state}/jobs/{job}/log"
    write_lines(path, 0, 500000)
    r = requests.get(f"{service.url}/v1/jobs/{job}/log", params={"fold": "true", "offset": 0, "format": "timed"}, headers={"X-Request-Id": "theirs"}, stream=True, timeout=60)
    assert r.status_code == 200
    os.truncate(path, 0)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _ = r.content
    service.until(lambda: "request theirs: its answer broke off: the log cannot be read" in service.logged())


def follow(service, job, **params):
    """Lines as they come, and all of them at last."""
    r = requests.get(f"{service.url}/v1/jobs/{job}/log", params={"follow": "true", **params}, stream=True, timeout=60)
    assert r.status_code == 200, r.text
    return r.iter_lines(chunk_size=1)


def test_followers_get_what_comes_until_the_job_is_over(service):
    go = service.root + "/go"
    service.script([[["start"], ["log", "one"], ["wait_file", go], ["log", " 1%\r99%"], ["log", "two"], ["wait_file", go + "2"], ["log", "three"], ["done"]]])
    service.start()
    job = service.submit(100)
    path = f"{service.state}/jobs/{job}/log"
    service.until(lambda: os.path.exists(path) and os.path.getsize(path))
    whole, folded, told = follow(service, job), follow(service, job, tail=5), follow(service, job, format="ndjson")
    gone = follow(service, job)
    assert [next(whole), next(folded), json.loads(next(told))["text"], next(gone)] == [b"one", b"one", "one", b"one"]
    with open(go, "w"):
        pass
    assert [next(whole), next(whole), next(whole)] == [b" 1%", b"99%", b"two"]
    assert [next(folded), next(folded)] == [b"99%", b"two"]
    lines = [json.loads(next(told)) for _ in range(2)]
    assert [x["text"] for x in lines] == ["99%", "two"] and all(x["time"] for x in lines), "a line comes when its time is known"
    gone.close()
    with open(go + "2", "w"):
        pass
    assert list(whole) == list(folded) == [b"three"] and [json.loads(x)["text"] for x in told] == ["three"]
    service.wait(job, "succeeded")
    assert list(follow(service, job, tail=2)) == [b"two", b"three"], "a job that is over has no more to say"
    assert requests.get(f"{service.url}/v1/jobs/{job}/log", params={"follow": "yes"}, timeout=60).status_code == 400


def test_a_job_is_followed_before_it_has_a_log(service):
    go = service.root + "/go"
    service.script([[["start"], ["wait_file", go], ["log", "first"], ["done"]]])
    service.script([[["start"], ["log", "one"], ["log", "two"], ["done"]]], of=2)
    service.start()
    before = service.submit(100)
    service.wait(before, "running")
    job = service.submit(100, seed=2)
    plain, told = follow(service, job), follow(service, job, format="ndjson")
    with open(go, "w"):
        pass
    assert list(plain) == [b"one", b"two"]
    lines = [json.loads(x) for x in told]
    assert [x["text"] for x in lines] == ["one", "two"] and all(x["time"] for x in lines)


def test_followers_end_with_the_daemon(service):
    service.script([[["start"], ["log", "one"], ["hang"]]])
    service.start()
    job = service.submit(100)
    service.until(lambda: requests.get(f"{service.url}/v1/jobs/{job}/log", timeout=60).text == "one\n")
    lines = [follow(service, job) for _ in range(3)]
    assert [next(x) for x in lines] == [b"one"] * 3
    began = time.monotonic()
    assert service.kill(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
    service.process = None
    assert [list(x) for x in lines] == [[]] * 3


def timed(service, job, **params):
    r = requests.get(f"{service.url}/v1/jobs/{job}/log", params={"format": "ndjson", **params}, timeout=60)
    assert r.status_code == 200 and r.headers["Content-Type"] == "application/x-ndjson", r.text
    return [{**line, "time": wall(line["time"])} for line in map(json.loads, r.content.decode().splitlines()) if line]


def test_lines_have_their_times_and_places_whoever_wrote_them(service):
    """What the C library says, a progress bar, bytes that are no text: all come through standard error."""
    go = service.root + "/go"
    service.script([[["start"], ["log", "one"], ["wait_file", go], ["log", " 1%\r 50%\r100%"], ["wait_file", go + "2"], ["done"]]])
    service.start("--log-limit", "64KiB")
    began = time.time()
    job = service.submit(100)
    path = f"{service.state}/jobs/{job}/log"
    service.until(lambda: os.path.exists(path) and os.path.getsize(path) == len("one\n"))
    with open(path, "ab") as f:
        f.write(b"err\xff?\n")
    service.until(lambda: len(timed(service, job)) == 2 and all(x["time"] for x in timed(service, job)))
    between = int(time.time() * 1000) / 1000  # as answers have it
    with open(go, "w"):
        pass
    service.until(lambda: len(timed(service, job)) == 3)
    service.kill()  # what comes while nobody watches has the time of the log's last change
    with open(path, "a") as f:
        f.write("while nobody watched\n")
    gap = os.stat(path).st_mtime
    service.start()
    with open(go + "2", "w"):
        pass
    service.wait(job, "succeeded")
    lines = service.until(lambda: (lambda found: found if len(found) == 4 and all(x["time"] for x in found) else None)(timed(service, job)))
    assert [x["text"] for x in lines] == ["one", "err\ufffd?", "100%", "while nobody watched"]
    times = [x["time"] for x in lines]
    assert began - 0.01 <= times[0] <= times[1] <= between + 0.001 and between <= times[2] <= times[3] and abs(times[3] - gap) < 0.01
    assert lines[2]["offset"] == len(b"one\nerr\xff?\n")
    for line in lines:
        assert timed(service, job, offset=line["offset"])[0] == line
    assert timed(service, job, tail=2) == lines[2:]
    text = requests.get(f"{service.url}/v1/jobs/{job}/log", params={"format": "timed", "tail": 1}, timeout=60).text
    assert text.endswith("Z while nobody watched\n") and len(text.split()[0]) == 24


def test_lines_of_a_capped_log_keep_their_places(capped):
    service, job, path = capped
    lines = timed(service, job)
    with open(path, "rb") as f:
        for line in lines[::97] + lines[-1:]:
            f.seek(line["offset"])
            assert f.read(len(line["text"])).decode() == line["text"]
    texts = [x["text"] for x in lines]
    assert sum("middle was left out" in t for t in texts) == 1 and texts[-1].startswith("line 19999") and all(x["time"] for x in lines)


def test_a_log_without_times_or_with_others_is_read(service):
    service.script([[["start"], ["log", "only line"], ["done"]]])
    service.start()
    job = service.submit(100)
    service.wait(job, "succeeded")
    path = f"{service.state}/jobs/{job}/log.times"
    service.until(lambda: timed(service, job)[0]["time"])
    for odd in (b"", b"x" * 15, b"\xff" * 160, b"\x7f" * 4096, None):
        if odd is None:
            os.unlink(path)
        else:
            with open(path, "wb") as f:
                f.write(odd)
        assert [(x["offset"], x["text"], x["time"]) for x in timed(service, job)] == [(0, "only line", None)]


def test_who_follows_a_log_outlives_a_restart(service):
    """mulunctl log -f, by the socket: what was written before, while nobody answers, and after it, each line once."""
    service.script([[["start"], ["wait_file", service.root + "/go"], ["done"]], TRAIN])
    service.start()
    job = service.submit(100)
    path = f"{service.state}/jobs/{job}/log"
    service.wait(job, "running")
    service.until(lambda: os.path.exists(path))
    write_lines(path, 0, 2)
    with subprocess.Popen([CTL, "--server", f"{service.state}/mulund.sock", "log", "-f", str(job)], stdout=subprocess.PIPE, text=True) as p:
        assert [lines(p.stdout.readline()) for _ in range(2)] == [[0], [1]]
        service.kill()
        write_lines(path, 2, 2)
        time.sleep(1.5)  # long enough for a look at who does not answer
        service.start()
        write_lines(path, 4, 2)
        with open(service.root + "/go", "w"):
            pass
        assert lines(p.stdout.read()) == [2, 3, 4, 5] and p.wait(60) == 0
