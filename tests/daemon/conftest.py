import os
import sys
import tempfile

import pytest
import requests

from service import Service

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, TESTS + "/api"]
import openapi  # noqa: E402
from quick import quick  # noqa: E402

ANSWER_MAX = 1 << 18  # of longer ones the first of their kind are looked at in tests of the API


def pytest_configure():
    tempfile.tempdir = quick()


class Described(Service):
    """Every answer is what /openapi.json says."""
    description = None

    def start(self, *more, **how):
        super().start(*more, **how)
        if Described.description is None and how.get("wait", True):  # now, since the daemon may end with what is asked first
            Described.description = requests.get(self.url + "/openapi.json", timeout=60).json()
        return self

    def answered(self, method, path, answer):
        if len(answer.content) <= ANSWER_MAX:
            openapi.check(Described.description, method, path, answer)


@pytest.fixture
def service():
    s = Described()
    yield s
    print(s.close())  # pytest shows it where the test failed
