"""States of a size for benchmarks, written where mulund keeps them while it does not run."""

import sqlite3
import subprocess


def fill(service, n):
    """Copies of job 1, by SQL: half of them queued, half over."""
    with sqlite3.connect(service.state + "/mulund.db", isolation_level=None) as db:
        db.execute("PRAGMA synchronous = OFF")
        names = [row[1] for row in db.execute("PRAGMA table_info(job)") if row[1] not in ("id", "state", "name", "rank")]
        db.execute("BEGIN")
        db.execute(f"""WITH RECURSIVE k (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM k WHERE i < {n} - 1)
            INSERT INTO job (id, state, name, rank, {', '.join(names)})
            SELECT 10 + i, CASE i % 2 WHEN 0 THEN 0 ELSE 2 + i / 2 % 3 END, 'run number ' || i || ' of a sweep', i % 7, {', '.join('j.' + x for x in names)}
            FROM k, job j WHERE j.id = 1""")
        db.execute(f"INSERT INTO job_tag SELECT 'tenth', id FROM job WHERE id >= 10 AND id % 10 = 0")
        db.execute("INSERT INTO job_tag SELECT 'some', id FROM job WHERE id >= 10 AND state = 0 ORDER BY id LIMIT 10000")
        db.execute("INSERT INTO job_event (job, time_us, from_state, to_state, trigger) SELECT id, created_us, NULL, 0, 'submit' FROM job WHERE id >= 10")
        db.execute("COMMIT")
    db.close()


def long_runs(service, build, runs, points):
    """So many running jobs with a series of so many points each; the service runs again. Answers their ids."""
    jobs = [service.submit(name=f"run {i}") for i in range(runs)]
    service.until(lambda: service.job(jobs[0])["state"] == "running")
    service.kill()
    with sqlite3.connect(service.state + "/mulund.db") as db:
        first, = db.execute("SELECT id FROM attempt LIMIT 1").fetchone()
        columns = [row[1] for row in db.execute("PRAGMA table_info(attempt)") if row[1] not in ("id", "job", "last_seq")]
        for job in jobs[1:]:
            db.execute(f"INSERT INTO attempt (job, last_seq, {', '.join(columns)}) SELECT {job}, 1, {', '.join(columns)} FROM attempt WHERE id = {first}")
        attempts = [i for i, in db.execute("SELECT id FROM attempt ORDER BY id")]
    for attempt in attempts:
        subprocess.run([build / "tests/store/add_points", service.state, str(attempt), "0", str(points), "train/bpd"], check=True)
    service.start()
    return jobs
