"""The envelope space as one network: every branch and every skip of the deepest envelope, each on or off.

A branch that is off gives zeros in its place of the concatenation, so that whatever reads the layer keeps its shape, and
a skip likewise. Depth is no mixture: in a chain, a layer that gives nothing but zeros would end it; so all that is derived
is as deep as the space allows. A network of its own shares a layer's width out over the branches that it has: they are
wider there than in the supernet, which so gives a ranking and no weights to go on with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from amla.errors import SpecError
from amla.spaces import envelope_decisions
from amla.spaces.base import Supernet, strength, strongest
from amla.spaces.envelope_decisions import SWITCH, Envelope
from amla.spec.architecture import MacroArchitecture

OFF, ON = SWITCH


def supernet(space: Envelope) -> Supernet | None:
    """The deepest envelope. None with ``blocks``: there an operation may come twice in a layer."""
    if space.blocks:
        return None
    network = _deepest(space)
    return Supernet(network, {name: {OFF: (), ON: (block,)} for name, block in _switches(network)})


def derive(space: Envelope, strengths: Mapping[str, Mapping[str, float]]) -> MacroArchitecture:
    """Everything that is stronger on than off; of a layer without any such branch, the one that is closest to it."""
    whole = _deepest(space)
    taken = {name: strongest(strengths, name, SWITCH) for name, _ in _switches(whole)}
    for stage in whole.stages:
        taken[f"{stage.name}/depth"] = str(len(stage.layers))
        for layer in stage.layers:
            names = [f"{stage.name}/{layer.name}/{branch.operation}" for branch in layer.branches]
            if all(taken[name] == OFF for name in names):
                lead = {name: strength(strengths, name, ON) - strength(strengths, name, OFF) for name in names}
                taken[max(names, key=lead.__getitem__)] = ON
    return envelope_decisions.decode(space, taken)


def kept(space: Envelope, network: MacroArchitecture) -> dict[str, tuple[str, ...]]:
    """What is on, and what is off. Errors: ``SpecError`` where the network is less deep than the supernet."""
    whole = _deepest(space)
    taken = envelope_decisions.encode(space, network)
    for ours, deepest in zip(network.stages, whole.stages, strict=True):
        if len(ours.layers) < len(deepest.layers):
            raise SpecError(
                f"space: {ours.name} has {len(ours.layers)} layers, and the supernet {len(deepest.layers)}, which all stay; "
                "set max_layers to the layers that every network has"
            )
    return {name: (taken[name],) for name, _ in _switches(whole)}


def _deepest(space: Envelope) -> MacroArchitecture:
    """The supernet's architecture. Errors: ``SpecError`` where there is none."""
    if space.blocks:
        raise SpecError("space_settings.blocks: a space of so many branches a stage has no supernet; leave it out")
    return space.envelope(envelope_decisions.deepest(space))


def _switches(network: MacroArchitecture) -> Iterator[tuple[str, str]]:
    """The decision and the block of every branch and every skip."""
    for stage in network.stages:
        for layer in stage.layers:
            place = f"{stage.name}/{layer.name}"
            for branch in layer.branches:
                yield f"{place}/{branch.operation}", f"{place}/{branch.name}"
            for skip in layer.skips or ():
                yield f"{place}/skip/{skip}", f"{place}/skip/{skip}"
