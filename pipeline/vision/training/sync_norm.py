"""Batch normalisation over the batch of all workers (Ioffe and Szegedy 2015).

torch has this for GPUs only. Here it is for any device; shares of unequal size count by their
size, empty ones included.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_norms(network: nn.Module) -> nn.Module:
    """Let the batch norms inside `network` see the batch of all workers while they train.

    They keep their parameters, statistics and names; when they only apply their statistics they
    are plain batch norms. With one worker, or without torch.distributed, nothing is changed.

    Args:
        network: changed in place; not itself a batch norm.

    Returns:
        `network`.
    """
    workers = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if workers == 1:
        return network
    if "nccl" in torch.distributed.get_backend():  # every worker has a GPU of its own
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        return convert(network)  # type: ignore[no-any-return, no-untyped-call]
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _SynchronisedNorm(child))
    return network


class _SynchronisedNorm(_BatchNorm):
    """A batch norm whose statistics, in training, are those of all workers together."""

    def __init__(self, plain: _BatchNorm) -> None:
        """Take over the parameters and buffers of `plain`, not copies of them."""
        super().__init__(plain.num_features, plain.eps, plain.momentum, affine=False)
        self.affine, self.track_running_stats = plain.affine, plain.track_running_stats
        self.weight, self.bias = plain.weight, plain.bias
        self.running_mean, self.running_var = plain.running_mean, plain.running_var
        self.num_batches_tracked = plain.num_batches_tracked
        self.training = plain.training

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        assert input.ndim >= 2

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise n x channels x ..., in training by the statistics of all workers."""
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = _normalise(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, variance, count)
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards those of one batch, the variance made unbiased."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = self.momentum
        if weight is None:  # the mean over all batches
            weight = 1 / float(self.num_batches_tracked)
        unbiased = variance * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)


class _Normalise(Function):
    """Normalise by the statistics of all workers, with their part in the gradient."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the output, and mean, biased variance and count of the whole batch."""
        mean, variance, count = _statistics(values)
        ctx.save_for_backward(values, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        output = functional.batch_norm(values, mean, variance, weight, bias, eps=eps)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for values, weight and bias; the latter two of the own share.

        With x' = (x - mean) / sqrt(variance + eps) and sums over the whole batch,
        dx = weight / sqrt(variance + eps) * (dy - (sum dy + x' * sum(dy * x')) / count).
        """
        values, weight, mean, variance, count = ctx.saved_tensors
        if values.numel():  # as if the statistics were constants
            by_values, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                slope, values, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
            )
        else:  # by which the kernel would divide
            by_weight, by_bias = torch.zeros_like(mean), torch.zeros_like(mean)
            by_values = slope.clone()
        sums = torch.stack([by_weight, by_bias])
        torch.distributed.all_reduce(sums)
        scale = -torch.rsqrt(variance + ctx.eps) / count.to(mean.dtype)
        through_variance, through_mean = sums * (scale if weight is None else scale * weight)
        by_values += functional.batch_norm(
            values, mean, variance, through_variance, through_mean, eps=ctx.eps
        )
        needed = ctx.needs_input_grad
        return by_values, by_weight if needed[1] else None, by_bias if needed[2] else None, None


_normalise: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = _Normalise.apply


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance of each channel and their count, over all workers.

    Each worker's own are put together by counts (Chan et al. 1979), so that nothing cancels where
    a mean is large.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    own = _own_statistics(values.to(dtype)).double()
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, own)
    counts, means, variances = torch.stack(parts).unbind(dim=1)
    count = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / count
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean.to(dtype), variance.to(dtype), count


def _own_statistics(values: Tensor) -> Tensor:
    """Return count, mean and biased variance of this worker's share, 3 x channels."""
    channels, per_channel = values.shape[1], values.numel() // values.shape[1]
    if not per_channel:
        return values.new_zeros(3, channels)
    others = [0, *range(2, values.ndim)]
    mean = values.mean(others, keepdim=True)
    # In two passes, which on a processor take an eighth of the time of torch.var_mean.
    variance = (values - mean).square_().mean(others)
    return torch.stack([torch.full_like(variance, per_channel), mean.flatten(), variance])
