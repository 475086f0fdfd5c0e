"""Where the states of tests lie."""
import os
import tempfile

ROOM_BYTES = 2 << 30


def quick(folder="/dev/shm"):
    """A folder in memory, where there is room in it and nobody chose another ($TMPDIR): syncs cost nothing there, and numbers of
    inodes are not used again. Else where other temporary files are."""
    if "TMPDIR" not in os.environ and os.access(folder, os.W_OK):
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize >= ROOM_BYTES:
            return folder
    return tempfile.gettempdir()
