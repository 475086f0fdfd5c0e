import pytest

from service import Service


@pytest.fixture
def service():
    s = Service()
    yield s
    print(s.close())  # pytest shows it where the test failed
