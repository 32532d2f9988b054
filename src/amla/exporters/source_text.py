"""The fixed parts of ``network.py``: what stands above the network, below it, and helpers that only some networks need."""

from __future__ import annotations

HEADER = '''\
"""An image classifier for {classes} classes: {parameters} parameters, {flops} multiply-adds an image.

In Python: ``classify(load("model.safetensors"), ["picture.png"])``; from a shell: ``python network.py picture.png``.
"""

import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

{names}
INPUT_SHAPE = {shape}  # channels, height, width
SCALE = {scale}  # what a pixel of an image file is divided by
{mean}
{std}


def block(**parts: nn.Module) -> nn.Sequential:
    """Named parts, one after the other."""
    return nn.Sequential(OrderedDict(parts))


class GlobalPool(nn.Module):
    """The mean over all positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))
'''

HELPERS = {
    "Scale(": '''\
class Scale(nn.Module):
    """Times one learned number."""

    def __init__(self, init: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight
''',
    "Zero(": '''\
class Zero(nn.Module):
    """Zeros, whatever comes in."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros((x.shape[0], *self.shape))
''',
    "Padded(": '''\
class Padded(nn.Sequential):
    """A convolution with an even kernel: zeros before and after, not equally many."""

    def __init__(self, conv: nn.Conv2d, sides: tuple[int, int]) -> None:
        super().__init__(OrderedDict(pad=nn.ZeroPad2d((*sides, *sides)), conv=conv))
''',
    "UnevenPool(": '''\
class UnevenPool(nn.Module):
    """A pooling with an even kernel, over real pixels only."""

    def __init__(self, kind: str, kernel: int, stride: int) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = (self.kernel - 1) // 2
        sides = (before, self.kernel - 1 - before) * 2
        if self.kind == "max":
            return nn.functional.max_pool2d(nn.functional.pad(x, sides, value=-torch.inf), self.kernel, self.stride)
        real = nn.functional.pad(torch.ones_like(x[:1, :1]), sides)
        share = nn.functional.avg_pool2d(real, self.kernel, self.stride)
        return nn.functional.avg_pool2d(nn.functional.pad(x, sides), self.kernel, self.stride) / share
''',
    "sum_of(": """\
def sum_of(*terms: torch.Tensor) -> torch.Tensor:
    return torch.stack(terms).sum(0)
""",
}

FOOTER = '''\
def load(path: str | Path = "model.safetensors") -> Network:
    """The trained network. A weight is called in the file as it is here, with slashes in the place of underscores."""
    tensors = {name.replace("/", "_").replace(".", "_"): value for name, value in load_file(path).items()}
    network = Network()
    state = network.state_dict()
    for name in state:
        found = tensors.get(name.replace(".", "_"))
        if found is not None:
            state[name] = found
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def classify(network: Network, files: Sequence[str | Path]) -> list[tuple[str, float]]:
    """The most probable class of each image file, and its probability."""
    from PIL import Image

    channels, height, width = INPUT_SHAPE
    answers = []
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("L" if channels == 1 else "RGB").resize((width, height))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        images = pixels.reshape(1, height, width, channels).permute(0, 3, 1, 2) / SCALE
        probability, place = network(images).softmax(1)[0].max(0)
        answers.append((CLASSES[int(place)], float(probability)))
    return answers


if __name__ == "__main__":
    trained = load(Path(__file__).parent / "model.safetensors")
    for name, (label, probability) in zip(sys.argv[1:], classify(trained, sys.argv[1:]), strict=True):
        sys.stdout.write(f"{name}: {label} ({probability:.1%})\n")
'''
