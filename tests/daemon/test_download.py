"""A slow download makes progress as long as it takes, also beside clients that want everything."""
import multiprocessing
import time

from greedy import fixture_greedy, log_reader, prepare, slow_bodies, slow_download  # noqa: F401


def test_a_slow_download_goes_on_among_greedy_clients(greedy):
    job, artifact = prepare(greedy, 10)
    stop, done = multiprocessing.Event(), multiprocessing.Value("q", 0)
    p = multiprocessing.Process(target=slow_download, args=(greedy.url, artifact, stop, done))
    others = [multiprocessing.Process(target=f, args=(greedy.url, job, stop)) for f in (slow_bodies, log_reader)]
    for q in (p, *others):
        q.start()
    time.sleep(35)  # the socket takes megabytes at once: after some 30 seconds it was taken for a silent one
    stop.set()
    p.join(10)
    for q in others:
        q.terminate()
        q.join()
    assert p.exitcode == 0 and 5e6 < done.value < 9e6, (p.exitcode, done.value)
