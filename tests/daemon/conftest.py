import pytest

from service import Service


@pytest.fixture
def service():
    s = Service()
    yield s
    s.close()
