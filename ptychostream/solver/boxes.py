"""Rectangles of whole pixels, in the coordinates of the scan positions."""

from dataclasses import dataclass

from ptychostream.geometry import ObjectGrid


@dataclass(frozen=True)
class Box:
    """Pixels from (left, top) on, up to (right, bottom), which are not in it.

    Examples
    --------
    >>> mine, others = Box(0, 0, 10, 6), Box(8, 2, 20, 20)
    >>> mine & others, (mine & others).slices_in(mine)
    (Box(left=8, top=2, right=10, bottom=6), (slice(2, 6, None), slice(8, 10, None)))
    """

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of_grid(cls, grid: ObjectGrid) -> "Box":
        """Return the pixels of a grid."""
        left, top = (round(each) for each in grid.origin)
        return cls(left, top, left + grid.width, top + grid.height)

    @property
    def grid(self) -> ObjectGrid:
        """The same pixels as a grid."""
        return ObjectGrid(*self.shape, self.origin)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return max(self.bottom - self.top, 0), max(self.right - self.left, 0)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def origin(self) -> tuple[int, int]:
        """Position (x, y) of the first pixel."""
        return self.left, self.top

    def __and__(self, other: "Box") -> "Box":
        """Return the pixels that both have."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Box(left, top, max(left, right), max(top, bottom))

    def __or__(self, other: "Box") -> "Box":
        """Return the smallest box that holds both; one without pixels changes nothing."""
        if not (self.size and other.size):
            return self if self.size else other
        left, top = min(self.left, other.left), min(self.top, other.top)
        return Box(left, top, max(self.right, other.right), max(self.bottom, other.bottom))

    def grown(self, rim: int) -> "Box":
        """Return a box that is larger by a rim on all sides."""
        return Box(self.left - rim, self.top - rim, self.right + rim, self.bottom + rim)

    def holds(self, other: "Box") -> bool:
        """Return whether all of another box's pixels are in this one."""
        return not other.size or self & other == other

    def slices_in(self, outer: "Box") -> tuple[slice, slice]:
        """Return rows and columns of this box in an image of a box that holds it."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )
