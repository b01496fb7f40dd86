"""A model for attacks that use gradients: forward and backward passes of chunks run in parallel threads."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from framebench.models.predictor import Predictor

#: Images per chunk: a backward pass prepares the weights of its layers again for every chunk, so chunks are larger.
CHUNK = 32


class Differentiable(Predictor):
    """Maps images [n, C, H, W] in [0, 1] to logits [n, classes], with gradients if the images require them.

    On a CPU it works like an eager `Predictor`: each chunk is computed by one thread, and so is its backward pass. The
    logits and the gradient of an image depend neither on its batch nor on the number of cores. Autograd alone would run
    the backward passes of all chunks in sequence, in the calling thread.

    Args:
        model: A model in eval mode. Gradients of its parameters are switched off.
        example: Images [n, C, H, W] like those to come.
        device: Where to compute; None for the CPU.
        threads: CPU threads.
        name: The model's name in messages.
    """

    def __init__(self, model: nn.Module, example: torch.Tensor, *, device: torch.device | None = None,
                 threads: int = 1, name: str = "") -> None:
        super().__init__(model.requires_grad_(False), example, device=device, threads=threads, kind="eager", name=name)
        self.chunk = self.chunk and CHUNK

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [n, C, H, W] in [0, 1] to logits [n, classes]."""
        if not (x.requires_grad and torch.is_grad_enabled()):
            return super().__call__(x)
        if self.chunk is None:
            return self._logits(x.to(self.device))
        logits: torch.Tensor = _Chunks.apply(x, self)
        return logits

    def passes(self, x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Compute the chunks of images [n, C, H, W], and return each with its logits, which can be differentiated."""
        return self.each(self._forward, [chunk.detach() for chunk in self._chunks(x)])

    def _forward(self, chunk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():  # in this thread
            return chunk.requires_grad_(), self._logits(chunk)


class _Chunks(torch.autograd.Function):
    """Chunks whose forward and backward passes run side by side."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, model: Differentiable) -> torch.Tensor:
        """Return the logits, and keep the graph of every chunk."""
        ctx.model, ctx.passes = model, model.passes(x)
        return torch.cat([logits.detach() for _, logits in ctx.passes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of all chunks. The graphs are kept for attacks that differentiate repeatedly."""
        parts = torch.split(gradient, [len(chunk) for chunk, _ in ctx.passes])
        with ctx.model.failing(gradient):
            return torch.cat(ctx.model.each(_gradient, list(zip(ctx.passes, parts, strict=True)))), None


def _gradient(one: tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    (chunk, logits), weights = one
    return torch.autograd.grad(logits, chunk, weights, retain_graph=True)[0]
