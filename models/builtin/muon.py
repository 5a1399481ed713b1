"""Muon (Keller Jordan, 2024): momentum whose updates are orthogonalized.

Matrices of one shape are stacked, so that a step is a handful of batched
products however many layers there are.
"""

import torch


def orthogonalize(g, steps=5):
    """Nearest semi-orthogonal matrices of a stack `[n, rows, cols]` (Newton-Schulz, quintic)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


class Muon:
    """Optimizer for the matrices of the layers."""

    def __init__(self, params, lr, momentum=0.95, decay=0.05):
        self.lr, self.momentum, self.decay = lr, momentum, decay
        shapes = {}
        for p in params:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *shape, device=ps[0].device)) for shape, ps in shapes.items()]

    @torch.no_grad()
    def step(self, scale):
        """One update at `scale` times the learning rate."""
        lr = self.lr * scale
        for params, velocity in self.groups:
            grad = torch.stack([p.grad for p in params]).float()
            velocity.lerp_(grad, 1 - self.momentum)
            update = orthogonalize(grad.lerp(velocity, self.momentum)).float()
            update *= max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
            for p, u in zip(params, update):
                p.mul_(1 - lr * self.decay).add_(u, alpha=-lr)
