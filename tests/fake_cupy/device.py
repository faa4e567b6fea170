"""Which of the stand-in's two devices is current, per thread."""

import threading

DEVICES = 2
_current = threading.local()


def current_device_id() -> int:
    """Return the current device's number; 0 in a thread that has chosen none."""
    return getattr(_current, "id", 0)


def set_device(index: int) -> None:
    """Make a device current in this thread."""
    _current.id = index
