"""The type of the arrays that cross into the core."""

from typing import Any, Protocol


class Array(Protocol):
    """A NumPy array, or any other that speaks DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> Any: ...
