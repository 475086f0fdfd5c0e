"""The data set of these tests, and where runs leave their files (gone after each test: a checkpoint may have 600 MB)."""

import shutil

import pytest

import files
import program

N_TRAIN, N_TEST = 21, 11  # no multiple of a batch


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train = program.photographs(N_TRAIN, "train")
    files.write_cifar(folder / "data_batch_1.bin", train[:13])
    files.write_cifar(folder / "data_batch_3.bin", train[13:])
    files.write_cifar(folder / "test_batch.bin", program.photographs(N_TEST, "test"))
    return folder


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)
