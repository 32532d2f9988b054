"""The procedure ``score``: what a network looks like at its initialisation. No step is taken, no label is read.

More is better in all of them; how well each agrees with the accuracy after training is another matter
(``benchmarks/zero_cost.py`` measures it).

- ``params``, ``flops``: the trained numbers, and the multiply-adds of one image;
- ``naswot``: log |K|, K_ij = the number of units whose on-off states for the images i and j agree (arXiv 2006.04647
  equation 2);
- ``synflow``: log of the sum over weights of theta * dR/dtheta, R the sum of the outputs for an input of ones, all
  weights in absolute value and no norms (arXiv 2006.05467 equation 3; the logarithm keeps deep networks finite);
- ``swap``: the number of distinct patterns, a pattern being the states of one unit for all images (arXiv 2403.04161
  definition 3);
- ``expressivity``, ``progressivity``, ``trainability``: of AZ-NAS (arXiv 2403.19232 equations 1 to 3, 4, and 5 to 7), with the
  body's layers or cells as its primary blocks and Gaussian noise as its input.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amla.datasets.base import Dataset
from amla.spec.architecture import Architecture
from amla.spec.costs import costs
from amla.spec.graph import Graph, IdentityNode
from amla.spec.lower import lower
from amla.spec.procedures import Score, ScoreSettings
from amla.spec.training import Augmentation
from amla.spec.trial import Cost, Job, Result
from amla.trainers.base import Reporter
from amla.trainers.torch.data import Batches
from amla.trainers.torch.device import device_name
from amla.trainers.torch.module import GraphModule, build, by_batch, capture

#: Scores that come of one forward pass of noise.
AZ_NAS: tuple[Score, ...] = ("expressivity", "progressivity", "trainability")


def score(job: Job, data: Dataset, device: torch.device, report: Reporter) -> Result:
    """The scores of a network with the weights that the job's seed gives it."""
    del report
    settings = ScoreSettings.parse(job.spec.settings)
    graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes).inference()
    images, _ = next(Batches(data, settings.images, Augmentation(), settings.seed, device)(0))
    began = time.perf_counter()
    found = costs(graph)
    scores = scored(job.spec.architecture, graph, images, settings.scores, job.seed)
    return Result(
        scores=scores,
        parameters=found.parameters,
        flops=found.flops,
        size_mb=found.size_mb,
        cost=Cost(seconds=time.perf_counter() - began, images=len(images), device=device_name(device)),
    )


def scored(
    architecture: Architecture, graph: Graph, images: Tensor, wanted: Sequence[Score], seed: int
) -> dict[str, float]:
    """The wanted scores of a graph that has nothing for training only; ``images`` (n, c, h, w), normalised."""
    module = by_batch(build(graph, seed).to(device=images.device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    found: dict[Score, float] = {}
    if {"params", "flops"} & set(wanted):
        found |= {"params": float(costs(graph).parameters), "flops": float(costs(graph).flops)}
    if {"naswot", "swap"} & set(wanted):
        codes = activation_codes(module, images)
        found |= {"naswot": naswot(codes), "swap": swap(codes)}
    if "synflow" in wanted:
        found["synflow"] = synflow(module)
    if set(AZ_NAS) & set(wanted):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(images.shape, generator=generator).to(images).contiguous(memory_format=torch.channels_last)
        found |= az_nas(module, noise, primary_blocks(architecture, graph), generator)
    return {name: found[name] for name in wanted}


# ----------------------------------------------------------------------------------------------------- codes of activations
@torch.no_grad()
def activation_codes(module: GraphModule, images: Tensor) -> Tensor:
    """(n, units) booleans: which units of all activations are on."""
    outputs: dict[str, Tensor] = {}
    module.taps = capture([node.name for node in module.graph.nodes if node.op == "activation"], outputs)
    module(images)
    module.taps = {}
    off = torch.zeros((len(images), 0), dtype=torch.bool, device=images.device)
    return torch.cat([off, *((x > 0).flatten(1) for x in outputs.values())], 1)


def naswot(codes: Tensor) -> float:
    """log |K| of the kernel of agreeing units; minus infinity where two images have one code."""
    signs = codes.float() * 2.0 - 1.0
    kernel = ((signs @ signs.T).double() + codes.shape[1]) / 2.0
    sign, logarithm = torch.linalg.slogdet(kernel.cpu())
    return float(logarithm) if sign > 0 else -math.inf


def swap(codes: Tensor) -> float:
    """How many units differ from all others in the images that switch them on."""
    packed = np.ascontiguousarray(np.packbits(codes.T.cpu().numpy(), axis=1))
    return float(len(np.unique(packed.view(f"V{packed.shape[1]}"))))


# ----------------------------------------------------------------------------------------------------------- flow of synapses
def synflow(module: GraphModule) -> float:
    """log of the sum of theta * dR/dtheta over the weights of convolutions and dense layers."""
    plain = GraphModule(without_norms(module.graph))
    weights = {name: value.abs() for name, value in module.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(weights)
    plain = plain.to(dtype=torch.float64, device=next(module.parameters()).device).eval()
    ones = torch.ones((1, *plain.graph.input_shape), dtype=torch.float64, device=next(plain.parameters()).device)
    with torch.enable_grad():
        plain(ones)[0].sum().backward()
    total = sum(float((p.detach() * p.grad).sum()) for p in plain.parameters() if p.ndim > 1 and p.grad is not None)
    return math.log(total) if total > 0.0 else -math.inf


def without_norms(graph: Graph) -> Graph:
    """The same network with its norms left out."""
    nodes = [
        IdentityNode(name=node.name, inputs=node.inputs, shape=node.shape) if node.op == "norm" else node
        for node in graph.nodes
    ]
    return graph.model_copy(update={"nodes": tuple(nodes)})


# ------------------------------------------------------------------------------------------------------------------- AZ-NAS
def primary_blocks(architecture: Architecture, graph: Graph) -> list[str]:
    """The output nodes of the body's layers and wideners, or cells, from the stem to the head."""
    if architecture.kind == "macro":
        places = [
            f"{stage.name}/{part}"
            for stage in architecture.stages
            for part in [*(layer.name for layer in stage.layers), *(["widener"] if stage.widener else [])]
        ]
    else:
        places = [placement.name for placement in architecture.network]
    # a part's nodes stand in the order in which they are computed, its output last
    last = {place: node.name for node in graph.nodes for place in places if node.name.startswith(f"{place}/")}
    return [last[place] for place in places if place in last]


def az_nas(module: GraphModule, noise: Tensor, blocks: Sequence[str], generator: torch.Generator) -> dict[Score, float]:
    """Expressivity, progressivity and trainability. With a single block the latter two are 0: there is no step to judge."""
    outputs: dict[str, Tensor] = {}
    module.taps = capture(blocks, outputs)
    with torch.enable_grad():
        module(noise)
    module.taps = {}
    features = [outputs[name] for name in blocks if name in outputs]
    entropies = [entropy(feature.detach()) for feature in features]
    steps = list(itertools.pairwise(entropies))
    slopes = [trainability(one, other, generator) for one, other in itertools.pairwise(features)]
    return {
        "expressivity": sum(entropies),
        "progressivity": min((after - before for before, after in steps), default=0.0),
        "trainability": sum(slopes) / len(slopes) if slopes else 0.0,
    }


def entropy(feature: Tensor) -> float:
    """Of the normalised eigenvalues of the covariance over images and positions, of features (n, c, h, w), in nats."""
    values = feature.transpose(0, 1).flatten(1).double()
    centred = values - values.mean(1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh((centred @ centred.T / centred.shape[1]).cpu()).clamp_min(0.0)
    total = eigenvalues.sum()
    if not total > 0.0:
        return 0.0
    share = eigenvalues / total
    return float(-(share * torch.log(share.clamp_min(1e-30))).sum())


def trainability(before: Tensor, after: Tensor, generator: torch.Generator) -> float:
    """2 - s - 1 / s, s the spectral norm of the block's Jacobian: 0 where gradients keep their size.

    The Jacobian is estimated from random signs sent back through the block. Minus infinity where nothing comes through, or
    the block is the identity: nothing in it can be trained then.
    """
    if not (after.requires_grad and before.requires_grad):  # zeros: nothing depends on anything
        return -math.inf
    signs = torch.randint(2, after.shape, generator=generator).to(after) * 2.0 - 1.0
    (back,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    if back is None or (back.shape == signs.shape and torch.equal(back, signs)):
        return -math.inf
    folded = _folded(back, signs.shape[2])
    product = torch.einsum("nchw,nkhw->ck", folded, signs) / (signs.shape[0] * signs.shape[2] * signs.shape[3])
    norm = float(torch.linalg.matrix_norm(product.double().cpu(), 2))
    return 2.0 - norm - 1.0 / norm if norm > 0.0 else -math.inf


def _folded(x: Tensor, rows: int) -> Tensor:
    """Positions of a finer resolution as channels of one with so many rows; what is missing at the edge is zero."""
    factor = -(-x.shape[2] // rows)
    if factor == 1:
        return x
    return F.pixel_unshuffle(F.pad(x, (0, -x.shape[3] % factor, 0, -x.shape[2] % factor)), factor)
