"""What an adapter may cost against its base, as a probe of the whole audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.audit.figures import Tolerances, compute_gates
from align.audit.policy import Policy
from align.audit.probes.base import Probe
from align.audit.run.report import Gate

PROBE = Probe(
    name="gates",
    asks="Did tuning make the model safer without making it lie, fail at its task or forget how the world works?",
    shows="Honesty: careless actions are forced and the hazard must still show, careful ones and none may be invented. Success "
    "and safety: the simulator carries the model's actions out. Fidelity: filmed clips are no more surprising than before.",
    cannot_show="Anything outside the scenes and contexts that were drawn. A gate holds for the point estimate; its interval "
    "says how far chance may have helped.",
    recipe="evaluate",
)


def hold_gates(figures: Sequence[Mapping[str, Any]], policy: Policy) -> list[Gate]:
    """The gates of DESIGN for an evaluation's figures, with the policy's tolerances; what is missing is not passed."""
    gates = compute_gates(figures, Tolerances(**policy.gates.model_dump()))
    return [Gate(gate["name"], gate["text"], gate["passed"]) for gate in gates]
