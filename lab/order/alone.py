"""The one run alone of a software that serves wherever it stands [pure]."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from lab.registry.software import Software
from lab.scenario import POD_PREFIX, Experiment

_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_WORD = re.compile(r"[\w.-]+[+*]?")


def by_itself(experiment: Experiment, owner: Software) -> Experiment:
    """Return the run alone of an owner that every combination with it can be compared with.

    It is read where the owner itself needs it, so it does not depend on who stands beside; nor do
    the names of the pods' devices, if none of its rules knows them.
    """
    prefix = experiment.pod_prefix
    if not (owner.pod_prefix or _names(owner, prefix) or _names(owner, POD_PREFIX)):
        prefix = POD_PREFIX
    return replace(experiment, software=(owner,), beside=(owner,), pod_prefix=prefix)


@cache
def _names(owner: Software, prefix: str) -> bool:
    """Tell whether a rule may name a device that begins so, but by the topology's own facts."""
    text = " ".join(_PLACEHOLDER.sub(" ", ruleset.text) for ruleset in owner.rulesets)
    return any(
        (word.startswith(prefix) and word != prefix)
        or (word[-1] in "+*" and prefix.startswith(word[:-1]))
        for word in _WORD.findall(text)
    )
