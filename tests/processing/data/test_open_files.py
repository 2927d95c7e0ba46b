import os
import threading

import pytest

from stsun_processing.data.open_files import OpenFiles


class File:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def files():
    return OpenFiles(limit=4)


def test_a_file_is_opened_once(files):
    opened = files.get("me", "a", File)
    assert files.get("me", "a", File) is opened
    assert files.get("you", "a", File) is not opened


def test_the_least_recently_used_are_closed_beyond_the_limit(files):
    first, second, third = (files.get("me", key, File, 2 if key == "b" else 1) for key in "abc")
    assert [first.closed, second.closed, third.closed] == [False, False, False]
    files.get("me", "a", File)
    files.get("me", "d", File)
    assert (first.closed, second.closed, third.closed) == (False, True, False)
    large = files.get("me", "large", File, 9)
    assert first.closed
    assert third.closed
    assert not large.closed, "the one that is asked for stays, however many files it holds"


def test_what_is_put_replaces_what_was_there(files):
    old, new = files.get("me", "a", File), File()
    files.put("me", "a", new)
    assert old.closed
    assert files.get("me", "a", File) is new


def test_all_of_one_owner_are_closed(files):
    mine, yours = files.get("me", "a", File), files.get("you", "a", File)
    files.close_all("me")
    assert (mine.closed, yours.closed) == (True, False)


def test_threads_and_forked_processes_open_files_of_their_own(files, monkeypatch):
    opened = [files.get("me", "a", File)]
    thread = threading.Thread(target=lambda: opened.append(files.get("me", "a", File)))
    thread.start()
    thread.join()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    opened.append(files.get("me", "a", File))
    assert len(set(map(id, opened))) == 3
    assert not opened[0].closed, "it is the other process's"
