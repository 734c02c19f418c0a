"""Processes that train one suffix together: which images each one takes, and what is added up over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together (torch's process group); alone, nothing is sent or copied.

    All of them call the same methods in the same order: whoever adds up waits for the others.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Ranks:
        """This process as the process group knows it."""
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and tells of results."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of range(n); the parts are disjoint, cover it, and differ by one at most.

        >>> [Ranks(rank, 3).share(7) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def total(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts, in place of this one's; to the last bit the same in all of them."""
        if self.size > 1:
            torch.distributed.all_reduce(part)
        return part

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """All n rows in order, from each process the rows of its `share(n)`."""
        if self.size == 1:
            return rows
        whole = rows.new_zeros(n, *rows.shape[1:])
        whole[self.share(n)] = rows
        return self.total(whole)

    def agree(self, figures: dict[str, float], device: torch.device) -> dict[str, float]:
        """The first process's figures: another processor's last digits must not lead to another decision."""
        if self.size == 1:
            return figures
        values = list(figures.values()) if self.first else [0.0] * len(figures)
        agreed = self.total(torch.tensor(values, dtype=torch.float64, device=device)).tolist()
        return dict(zip(figures, agreed, strict=True))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds up what each process has accumulated; one without images has nothing, and counts as zeros.

        Once a step, after all of its pieces, where torch's DistributedDataParallel sends while it goes backward: a
        process that runs out of memory can so try again with smaller pieces, and no other is told.
        """
        if self.size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, gradient, part in zip(parameters, gradients, flat.split(sizes), strict=True):
            parameter.grad = gradient.copy_(part.view_as(gradient))

    def check_batch_statistics(self, smallest: int) -> None:
        """Refuses batches of which a process would get a lone image, where BatchNorm is to make statistics of it.

        Args:
            smallest: images of the smallest batch.

        Raises:
            ValueError: it is too small to be shared out.
        """
        if self.size > 1 and smallest < 2 * self.size:
            raise ValueError(
                f'batch_norm "train" needs two images of each batch in each of the {self.size} workers, and '
                f"there are batches of {smallest}: raise batch_size, lower --workers-per-trial, or freeze BatchNorm"
            )

    def average_statistics(self, module: nn.Module) -> None:
        """BatchNorm's running statistics, where each process has moved its own by its own images."""
        if self.size == 1:
            return
        moved = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
        for statistic in (one for norm in moved for one in (norm.running_mean, norm.running_var)):
            if statistic is not None:
                self.total(statistic).div_(self.size)


ALONE = Ranks()
