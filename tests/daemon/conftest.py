import os
import sys
import tempfile

import pytest

from service import Service

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from quick import quick  # noqa: E402


def pytest_configure():
    tempfile.tempdir = quick()


@pytest.fixture
def service():
    s = Service()
    yield s
    print(s.close())  # pytest shows it where the test failed
