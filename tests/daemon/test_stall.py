"""Jobs that make no step any more, and how many checkpoints stay."""
import os
import time


def stalls(service, job):
    return [e for e in service.get(f"/v1/jobs/{job}/events")["events"] if e["trigger"] == "stalled"]


def test_a_stalled_job_is_said_once_and_goes_on(service):
    service.script([[["start"], ["train", 20, 0.01, 10], ["sleep", 2.5], ["train", 40, 0.01, 10], ["done"]]])
    service.start("--stalled-after", "1s")
    job = service.submit(40)
    event = service.until(lambda: stalls(service, job))[0]
    assert "no step for 1s" in event["detail"]
    assert service.wait(job, "succeeded")["attempts"] == 1
    assert len(stalls(service, job)) == 1 and service.logged().count("no step for") == 1
    assert "makes steps again" in service.logged()


def test_one_that_works_is_not_stalled_and_progress_without_a_step_is_none(service):
    same = ["event", {"type": "progress", "step": 20, "steps": 40, "images_per_second": None, "seconds_left": None}]
    service.script([[["start"], ["train", 20, 0.12, 10], *[["sleep", 0.3], same] * 6, ["done"]]])
    service.start("--stalled-after", "1s")
    job = service.submit(40)
    service.wait_step(job, 19)
    assert not stalls(service, job)
    service.wait(job, "succeeded")
    assert len(stalls(service, job)) == 1


def test_where_the_settings_want_it_a_stalled_job_is_paused(service):
    service.script([[["start"], ["train", 20, 0.01, 10], ["hang"]]])
    service.start("--stalled-after", "1s", "--stalled-stop", "yes")
    job = service.submit(40)
    paused = service.wait(job, "paused")
    assert paused["paused"]["reason"] == "limit" and "no step for 1s: it is paused" in [e["detail"] for e in stalls(service, job)]
    names = [a["name"] for a in service.artifacts(job) if a["kind"] == "checkpoint"]
    assert names, "what it had written is kept"


def test_one_that_hangs_before_its_first_step_and_one_found_again_are_watched(service):
    service.script([[["start"], ["flush"], ["hang"]]])
    service.start("--stalled-after", "1s")
    job = service.submit(40)
    service.until(lambda: len(stalls(service, job)) == 1)
    service.kill()
    service.start("--stalled-after", "1s")
    service.until(lambda: len(stalls(service, job)) == 2)


def test_so_many_checkpoints_stay_as_the_settings_say(service):
    service.script([[["start"], ["train", 200, 0.005, 20], ["sleep", 100]]])
    path = f"{service.root}/mulund.conf"
    with open(path, "w") as f:
        f.write("[jobs]\nkeep-checkpoints = 4\n")
    service.start("--config", path)
    job = service.submit(100000)
    service.wait_step(job, 200)

    def files():
        return sorted(int(n[5:-12]) for n in os.listdir(f"{service.state}/jobs/{job}") if n.endswith(".safetensors"))

    service.until(lambda: files() == [140, 160, 180, 200])
    time.sleep(0.3)
    assert files() == [140, 160, 180, 200]
