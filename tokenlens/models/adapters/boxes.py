"""Boxes of the cells of token grids: maths only, no model."""

import torch
from torch import Tensor


def spans(count: int, step: float, whole: float, start: float = 0.0) -> Tensor:
    """`count` intervals of `step` from `start` on, as shares of `whole`, clipped: [count, 2].

    >>> spans(3, 2, whole=4, start=-1).tolist()
    [[0.0, 0.25], [0.25, 0.75], [0.75, 1.0]]
    """
    first = start + step * torch.arange(count, dtype=torch.float64)
    return (torch.stack([first, first + step], dim=-1) / whole).clamp(0, 1).float()


def cell_boxes(x: Tensor, y: Tensor) -> Tensor:
    """The cells between intervals `x` [columns, 2] and `y` [rows, 2], row by row, as xyxy.

    Returns:
        float32 [rows * columns, 4].
    """
    rows, columns = len(y), len(x)
    across = x[None].expand(rows, columns, 2)
    down = y[:, None].expand(rows, columns, 2)
    corners = [across[..., 0], down[..., 0], across[..., 1], down[..., 1]]
    return torch.stack(corners, dim=-1).reshape(-1, 4)


def grid_boxes(rows: int, columns: int) -> Tensor:
    """The cells of a grid over a whole picture, row by row: float32 [rows * columns, 4].

    >>> grid_boxes(1, 2).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    return cell_boxes(spans(columns, 1, columns), spans(rows, 1, rows))


def with_newlines(boxes: Tensor, columns: int) -> Tensor:
    """A box without area at the right edge of every row of `columns` boxes, put after the row.

    >>> with_newlines(grid_boxes(1, 2), 2)[-1].tolist()
    [1.0, 0.0, 1.0, 1.0]
    """
    rows = boxes.reshape(-1, columns, 4)
    return torch.cat([rows, rows[:, -1:, [2, 1, 2, 3]]], dim=1).reshape(-1, 4)
