"""Where the states of tests lie."""
import os
import tempfile

ROOM_BYTES = 2 << 30


def quick(folder="/dev/shm"):
    """A folder in memory, where there is room in it: syncs cost nothing there, and numbers of inodes are not used again. Else where
    other temporary files are."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return tempfile.gettempdir()
    return folder if os.access(folder, os.W_OK) and room.f_bavail * room.f_frsize >= ROOM_BYTES else tempfile.gettempdir()
