from collections.abc import Callable

class FrameMethod:
    def __new__(cls, slow: Callable[..., object], /, *frames: tuple[object, bytes, bool, bool]) -> FrameMethod: ...
